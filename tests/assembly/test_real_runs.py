"""train.py, evaluate.py and spm-gym on a virtual Nanonis in a process of its own."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_gym.analysis.summary import Summary, summarise
from spm_gym.assembly.environment import make_env
from spm_gym.assembly.recording import recorded_microscope
from spm_gym.cli import evaluate, main, train
from spm_gym.config import load_config
from spm_gym.errors import LimitExceeded
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.nanonis.driver import connect
from spm_gym.journal.reader import JournalError, reading
from spm_gym.journal.writer import Journal
from spm_gym.runner.run_state import RunState
from spm_gym.servers.nanonis.recording import read_log
from spm_gym.types import Dip
from tests.support.controller_runs import ask, is_safe, on
from tests.support.trajectories import LIVELY, both, equal
from tests.support.virtual import silent, virtual_nanonis
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "configs" / "smoke.yaml")


pytestmark = pytest.mark.usefixtures("fresh_folder")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "accidents"),
    [
        (0, []),
        (4, LIVELY),
        (22, ["env.image_nm=11", "env.settle_fraction=0.5"]),
        (1, [*LIVELY, "env.preview_lines=16"]),
    ],
)
def test_an_episode_through_tcp_is_the_same_as_in_the_process(
    seed: int, accidents: list[str]
) -> None:
    """Images, rewards, masks, events: equal to the last bit, also through accidents and moves."""
    over_tcp, in_process = both(seed, ["env.regions.area_nm=120", *accidents])
    assert over_tcp[-1]["area"] > 0
    events = {event for step in in_process for event in step["events"]}
    assert {"lost contact", "crash", "rough sample"} <= events or LIVELY[0] not in accidents
    assert len(over_tcp) == len(in_process)
    assert all(equal(far, near) for far, near in zip(over_tcp, in_process, strict=True))
    assert not equal(over_tcp[0], over_tcp[1])


@pytest.mark.slow
def test_train_and_evaluate_on_a_nanonis(
    fresh_ports: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--env", "real", "--config", SMOKE, "--set", on(fresh_ports), "--run-dir", "run"]
    assert train.main([*arguments, "--steps", "60", "--log-commands"]) == 0
    assert "scan stopped, tip withdrawn, settings restored" in capsys.readouterr().out
    assert is_safe(fresh_ports)
    acts = recorded("number", "result")
    assert len(acts) > 50
    numbers = [number for number, _ in acts]
    assert numbers == sorted(set(numbers))
    assert {result for _, result in acts} == {"done"}
    assert not Path("run/settings_before.json").exists()
    summary = consistent(Path("run"))
    assert summary.ending_sentence == "Ended: the training is complete; tip withdrawn"
    assert summary.actions["total"] == 60
    assert main(["show", "run", "--episode", "1"]) == main(["report", "run"]) == 0
    assert main(["export", "run", "--offline", "episodes"]) == 0
    assert logged("run/commands.jsonl") > 1000
    given = ["--episodes", "2", "--json", "found.json", "--log-commands"]
    assert evaluate.main(["--run", "run", *given]) == 0
    [run] = Path("runs").iterdir()
    assert logged(run / "commands.jsonl") > 100
    out = capsys.readouterr().out
    assert "automatic approach" in out
    policies = json.loads(Path("found.json").read_text())["policies"]
    assert set(policies) == {"agent", "random"}
    [evaluation] = Path("runs").iterdir()
    recorded_episodes = consistent(evaluation).policies
    for name, policy in policies.items():
        assert recorded_episodes[name]["episodes"] == 2
        assert 2 * recorded_episodes[name]["mean_actions"] == sum(policy["lengths"])
    for policy in policies.values():
        assert min(policy["seconds"]) > 0
        assert policy["resets"]["mean_seconds"] > 0
    simulated = ["--env", "sim", "--policies", "agent", "random", "--episodes", "2"]
    assert evaluate.main(["--run", "run", *simulated, "--json", "simulated.json"]) == 0
    assert keys("found.json") == keys("simulated.json")
    Path("run").rename("runs/trained")
    assert evaluate.main(["--episodes", "1"]) == 0  # the newest run is not the evaluation
    assert is_safe(fresh_ports)


def logged(log: str | Path) -> int:
    """Number of commands in a log, the last of which has left the settings restored."""
    exchanges = read_log([Path(log)]).exchanges
    assert exchanges[-1].command == "Scan.PropsGet"
    return len(exchanges)


def consistent(run: Path) -> Summary:
    """Sum up a run whose journal agrees with itself and with the files."""
    summary = summarise(run)
    assert summary.consistent, summary.inconsistencies
    return summary


def keys(file: str) -> dict[str, Any]:
    """Keys of an evaluation, and those of each policy."""
    document = json.loads(Path(file).read_text())
    policies = {name: set(policy) for name, policy in document["policies"].items()}
    return {"document": set(document), **policies}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_instrument_safe_and_the_run_resumable(
    fresh_ports: list[int], number: signal.Signals
) -> None:
    process = training(fresh_ports, "--run-dir", "run", "--config", SMOKE, "--steps", "100000")
    wait_for_acts(process, 20)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "tip withdrawn, settings restored" in out
    assert is_safe(fresh_ports)
    assert "interrupted; tip withdrawn" in consistent(Path("run")).ending_sentence
    assert train.main(["--resume", "--run-dir", "run", "--print-config"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["resume", "restore"])
def test_settings_that_a_killed_run_could_not_restore_are_restored_later(
    fresh_ports: list[int], how: str
) -> None:
    ask(fresh_ports, "Bias.Set", bias=-0.5)
    changed = ["real.imaging.bias_V=1.5", "run.checkpoint_every=10"]
    process = training(
        fresh_ports, "--run-dir", "run", "--config", SMOKE, "--steps", "100000", "--set", *changed
    )
    wait_for_acts(process, 30)
    process.kill()
    process.communicate()
    killed = consistent(Path("run"))
    assert not killed.safe
    assert ask(fresh_ports, "Bias.Get")["bias"] == 1.5
    if how == "restore":
        assert main(["restore", "run", "--log-commands"]) == 0
        assert logged("run/commands.jsonl") > 10
        assert ask(fresh_ports, "Bias.Get")["bias"] == -0.5
        assert is_safe(fresh_ports)
        assert main(["restore", "run"]) == 2
        ask(fresh_ports, "Bias.Set", bias=1.0)
        return
    resumed = training(fresh_ports, "--resume", "--run-dir", "run")
    wait_for_acts(resumed, 100)
    resumed.send_signal(signal.SIGTERM)
    out, err = resumed.communicate(timeout=PATIENCE_S)
    assert "an earlier run could not restore the settings" in out, err
    summary = consistent(Path("run"))
    assert summary.actions["total"] > killed.actions["total"]
    assert summary.blocked_places > killed.blocked_places
    assert summary.acts_under_way <= 1
    acts = recorded("number", "session")
    # Reconnecting has none, and an act that was interrupted before its intent leaves a gap.
    numbers = [number for number, _ in acts if number is not None]
    assert numbers == sorted(set(numbers))
    assert {session for _, session in acts} == {1, 2}
    with reading(Path("run")) as db:
        assert [tuple(row) for row in db.execute("SELECT resumed FROM sessions")] == [(0,), (1,)]
    assert ask(fresh_ports, "Bias.Get")["bias"] == -0.5
    assert is_safe(fresh_ports)
    ask(fresh_ports, "Bias.Set", bias=1.0)


@pytest.mark.slow
def test_a_used_up_area_ends_the_run_and_a_fresh_one_goes_on(
    fresh_ports: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["env.regions.area_nm=160", "run.checkpoint_every=100000"]
    arguments = ["--env", "real", "--config", SMOKE, "--run-dir", "run", "--steps", "200"]
    assert train.main([*arguments, "--set", on(fresh_ports), *small]) == 2
    printed = capsys.readouterr()
    assert "error: the approach area is used up" in printed.err
    assert "--fresh-area" in printed.err
    first = kept_step(printed.out)
    assert 0 < first < 200
    assert is_safe(fresh_ports)
    assert train.main(["--resume", "--run-dir", "run"]) == 2
    assert kept_step(capsys.readouterr().out) == first
    assert train.main(["--resume", "--run-dir", "run", "--fresh-area"]) == 2
    assert first < kept_step(capsys.readouterr().out) < 200


def kept_step(out: str) -> int:
    return int(out.partition("kept step ")[2].partition(":")[0])


def training(ports: list[int], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-X", "faulthandler", str(ROOT / "train.py"), *arguments]
    if "--resume" not in arguments:
        command += ["--env", "real", "--set", on(ports)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_acts(process: subprocess.Popen[str], count: int) -> None:
    """Until the run has noted so many acts; if it ends or hangs before, what it said is shown."""
    deadline = time.monotonic() + PATIENCE_S
    while len(recorded("id")) < count:
        if process.poll() is not None or time.monotonic() > deadline:
            process.send_signal(signal.SIGABRT)  # it shows where it hangs
            out, err = process.communicate()
            pytest.fail(f"the run does not act: {process.returncode}\n{out}\n{err}")
        time.sleep(0.05)


def recorded(*columns: str) -> list[tuple[Any, ...]]:
    """Acts in the journal of the run; none as long as there is no journal."""
    with suppress(JournalError, sqlite3.OperationalError), reading(Path("run")) as db:
        return [tuple(row) for row in db.execute(f"SELECT {', '.join(columns)} FROM acts")]
    return []


def test_a_run_in_a_thread_leaves_the_instrument_safe_too() -> None:
    with virtual_nanonis() as ports:
        status: list[int] = []
        config = load_config(None, [on(ports), "run.microscope=real"])

        def drive() -> None:
            with recorded_microscope(config, Path(), "train") as (instrument, _):
                status.append(int(instrument.status().approached))

        thread = threading.Thread(target=drive)
        thread.start()
        thread.join()
        assert status == [1]
        assert is_safe(ports)


def test_the_record_of_a_killed_training_goes_on(fresh_ports: list[int]) -> None:
    """Intended acts count against the budgets, whether or not its result was recorded."""
    config = load_config(
        None, [on(fresh_ports), "run.microscope=real", "real.limits.actions_per_hour=2"]
    )
    dip = next(a.conditioning for a in config.env.actions if isinstance(a.conditioning, Dip))
    with Journal(Path("run"), RunState.references) as journal:
        journal.record_act({"time": 0.0, "number": 6, "act": "dip", "result": "intended"})
    with recorded_microscope(config, Path("run"), "train", resumed=True) as (instrument, _):
        instrument.condition(dip, 0.0, 0.0)
        with pytest.raises(LimitExceeded, match="actions_per_hour"):
            instrument.condition(dip, 0.0, 0.0)
    with recorded_microscope(config, Path("run"), "train", resumed=True) as (instrument, _):
        with pytest.raises(LimitExceeded, match="actions_per_hour"):
            instrument.condition(dip, 0.0, 0.0)
        instrument.withdraw()
    assert recorded("number", "act", "result") == [
        (6, "dip", "unknown"),
        (7, "dip", "done"),
        (8, "withdraw", "done"),
        (9, "approach", "done"),
        (10, "withdraw", "done"),
        (11, "withdraw", "done"),
    ]


def test_all_releases_can_be_driven() -> None:
    for release in ("10862", "13742", "14718"):
        with virtual_nanonis("--release", release) as ports:
            known = int(release) if release == "10862" else None
            config = load_config(None, [on(ports), f"real.nanonis.release={known or 'null'}"])
            instrument = connect(config.real, silent())
            env = make_env(config, instrument=Guard(instrument, config.real.limits))
            observation, info = env.reset(seed=1, options={"damage": False})
            _, _, _, _, info = env.step(int(np.flatnonzero(info["action_mask"])[-1]))
            assert observation.shape == (1, 64, 64)
            assert info["action"].startswith("dip")
            env.close()
            assert is_safe(ports)
