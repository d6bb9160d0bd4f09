"""Autonomous runs that are killed, and whether those who look would notice what is wrong."""

from __future__ import annotations

import json
import pickle
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from spm_gym.analysis.summary import summarise
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import Config, load_config
from spm_gym.instrument.faults import FaultyMicroscope
from spm_gym.journal.reader import reading
from spm_gym.runner.states import State
from tests.support.kill_checks import (
    Remembered,
    changes,
    differences,
    disagreements,
    repetitions,
    snapshot,
)
from tests.support.kill_controller import Command, executed, reached
from tests.support.scripted_runs import Verdicts, lab
from tests.support.system_calls import untraceable
from tests.support.waiting import PROGRAM_S

ROOT = Path(__file__).parents[2]
KILLS = 8
AT_CALLS = 5
BAD = 0.0

Tamper = Callable[[Path], object]


def kill(kind: str, folder: Path, kills: int = KILLS) -> dict[str, Any]:
    """Figures of a benchmark with few kills, which forks and therefore has its own process."""
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--kinds", kind,
               "--kills", str(kills), "--seed", "7", "--jobs", "1", "--keep", str(folder),
               "--json", str(folder / "figures.json")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures: dict[str, Any] = json.loads((folder / "figures.json").read_text())[kind]
    return figures


@dataclass(frozen=True, slots=True)
class Killed:
    """A run on a virtual Nanonis that was killed, and has come to its end."""

    run: Path
    config: Config
    kept: Remembered
    commands: list[Command]
    figures: dict[str, Any]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    figures = kill("real", folder)
    [of_run] = folder.glob("real-*")
    run, config = of_run / "run", load_config(of_run / "run" / "config.yaml")
    kept = pickle.loads((of_run / "memory.pickle").read_bytes())
    return Killed(run, config, kept, executed(of_run / "commands"), figures)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sim", "quiet", "previews", "running"])
def test_nothing_is_lost_and_nothing_repeated_however_often_a_run_is_killed(
    tmp_path: Path, kind: str
) -> None:
    figures = kill(kind, tmp_path)
    assert figures["kills"] == KILLS
    assert figures["faults"] == []
    assert figures["rows"]["scans"] >= 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sim-calls", "real-calls"])
def test_nothing_is_lost_when_a_run_is_killed_at_chosen_system_calls(
    tmp_path: Path, kind: str
) -> None:
    if why := untraceable():
        pytest.skip(why)
    figures = kill(kind, tmp_path, AT_CALLS)
    assert figures["kills"] == AT_CALLS
    assert figures["broken"] > 0
    assert figures["faults"] == []
    assert len(figures["calls"]) >= AT_CALLS - 1  # as many different ones as there can be


@pytest.mark.slow
def test_without_strace_kills_at_system_calls_are_left_out_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--system-calls"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0
    assert "no kills at system calls: strace is not installed" in done.stderr


@pytest.mark.slow
def test_a_controller_carries_out_every_act_of_the_journal_at_most_once(killed: Killed) -> None:
    assert killed.figures["kills"] == KILLS
    assert killed.figures["faults"] == []
    assert killed.figures["commands"] > 5
    assert reached(killed.run, killed.config, killed.commands).faults == ()


def change(query: str) -> Tamper:
    """Carry out a query on the journal of a run."""

    def carry_out(run: Path) -> None:
        db = sqlite3.connect(run / "journal.sqlite")
        try:
            assert db.execute(query).rowcount > 0
            db.commit()
        finally:
            db.close()

    return carry_out


def tampered(killed: Killed, folder: Path, tamper: Tamper) -> Path:
    run = folder / "run"
    shutil.copytree(killed.run, run)
    tamper(run)
    return run


def flip_a_bit(run: Path) -> None:
    path = run / "scans" / "000003.gsf"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tamper", "noticed"),
    [
        (change("DELETE FROM scans WHERE id = 3"), "scans 3 is lost"),
        (change("DELETE FROM marks WHERE id = 2"), "marks: its numbers have gaps"),
        (lambda run: (run / "scans" / "000003.gsf").unlink(), "is not what it was"),
        (flip_a_bit, "is not what it was"),
        (change("UPDATE marks SET radius = 1 WHERE id = 2"), "marks 2: radius was"),
        (change("UPDATE acts SET result = 'failed' WHERE id = 2"), "acts 2: result was"),
        (change("UPDATE acts SET reason = 'x' WHERE id = 2"), "acts 2: reason was"),
        (change("UPDATE steps SET scan_after = 1 WHERE id = 1"), "steps 1: scan_after was"),
        (change("UPDATE episodes SET actions = 9 WHERE id = 1"), "episodes 1: actions was"),
    ],
)
def test_what_was_lost_or_rewritten_is_noticed(
    killed: Killed, tmp_path: Path, tamper: Tamper, noticed: str
) -> None:
    before = snapshot(killed.run)
    assert not list(changes(before, before))
    after = snapshot(tampered(killed, tmp_path, tamper))
    assert any(noticed in change for change in changes(before, after))


@pytest.mark.slow
@pytest.mark.parametrize("result", ["done", None])
def test_a_killed_act_must_be_called_unknown(
    killed: Killed, tmp_path: Path, result: str | None
) -> None:
    under_way = "UPDATE acts SET result = NULL, wall_result = NULL, after = '{}' WHERE id = 2"
    before = snapshot(tampered(killed, tmp_path / "before", change(under_way)))
    value = "NULL" if result is None else f"'{result}'"
    query = f"UPDATE acts SET result = {value} WHERE id = 2"
    after = snapshot(tampered(killed, tmp_path / "after", change(query)))
    assert any("act 2 was killed" in fault for fault in changes(before, after))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tamper", "noticed"),
    [
        (
            change(
                "INSERT INTO acts (session, number, act, details, wall, before, result)"
                " SELECT session, 100000, act, details, wall, before, 'done' FROM acts"
                " WHERE number = (SELECT act FROM steps WHERE act IS NOT NULL)"
            ),
            "acts without a step",
        ),
        (
            change(
                "INSERT INTO steps (episode, number, scan, action, name, policy, mask, q)"
                " SELECT episode, 1000, scan, action, name, policy, mask, q FROM steps"
                " ORDER BY id DESC LIMIT 1"
            ),
            "rest on one image",
        ),
        (change("UPDATE steps SET act = (SELECT MAX(act) FROM steps)"), "claim one act"),
        (
            change(
                'UPDATE acts SET details = \'{"bias": 9, "depth": 1, "width": 1}\''
                " WHERE number = (SELECT act FROM steps WHERE act IS NOT NULL)"
            ),
            "is another",
        ),
    ],
)
def test_a_repeated_or_foreign_act_is_noticed_in_the_journal(
    killed: Killed, tmp_path: Path, tamper: Tamper, noticed: str
) -> None:
    run = tampered(killed, tmp_path, tamper)
    assert any(noticed in fault for fault in repetitions(run, killed.config.env))


def first(killed: Killed, *kinds: str) -> int:
    """Number of the first command of an act that was done; what was cut off may lack some."""
    with reading(killed.run) as db:
        query = "SELECT wall, wall_result FROM acts WHERE result = 'done'"
        done = [tuple(row) for row in db.execute(query)]
    return next(
        index
        for index, command in enumerate(killed.commands)
        if command.kind in kinds
        and any(started <= command.wall <= ended for started, ended in done)
        and not verifies_the_way(command)
    )


def verifies_the_way(command: Command) -> bool:
    """Single steps of the motor are made until it is known where they lead."""
    return command.kind == "motor" and command.values[1] == 1


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("pulse", "dip"), ("approach",), ("motor",), ("move",)])
def test_a_command_that_is_repeated_missing_or_different_is_noticed(
    killed: Killed, kinds: tuple[str, ...]
) -> None:
    commands = killed.commands
    index = first(killed, *kinds)
    command = commands[index]
    stronger = replace(command, values=tuple(2 * value + 1 for value in command.values) or (1.0,))
    others = ([*commands[: index + 1], command], commands[:index], [*commands[:index], stronger])
    for changed in ([*other, *commands[index + 1 :]] for other in others):
        assert reached(killed.run, killed.config, changed).faults
    early = [replace(command, wall=0.0), *commands]
    assert "before any act" in reached(killed.run, killed.config, early).faults[0]


@pytest.mark.slow
def test_a_refused_act_must_not_have_reached_the_controller(killed: Killed, tmp_path: Path) -> None:
    query = "UPDATE acts SET result = 'refused' WHERE act IN ('pulse', 'dip') AND result = 'done'"
    run = tampered(killed, tmp_path, change(query))
    faults = reached(run, killed.config, killed.commands).faults
    assert any("refused" in fault for fault in faults)


def with_other_replay(kept: Remembered, name: str) -> Remembered:
    replay = {key: values.copy() for key, values in kept.replay.items()}
    replay[name][0] = replay[name][0] == 0
    return replace(kept, replay=replay)


@pytest.mark.slow
@pytest.mark.parametrize(
    "tamper",
    [
        lambda kept: replace(kept, counters=kept.counters | {"good": kept.counters["good"] + 1}),
        lambda kept: replace(kept, counters=kept.counters | {"areas": 0}),
        lambda kept: replace(kept, images=kept.images + 1),
        lambda kept: replace(kept, marks=kept.marks[1:]),
        lambda kept: replace(kept, free=~kept.free),
        lambda kept: replace(kept, area=kept.area - 1),
        lambda kept: replace(kept, replay={k: v[1:] for k, v in kept.replay.items()}),
        lambda kept: with_other_replay(kept, "rewards"),
        lambda kept: with_other_replay(kept, "observations"),
        lambda kept: with_other_replay(kept, "next_masks"),
    ],
)
def test_a_memory_that_is_not_that_of_the_journal_is_noticed(
    killed: Killed, tamper: Callable[[Remembered], Remembered]
) -> None:
    assert len(killed.kept.replay["actions"])
    assert not list(disagreements(killed.kept, killed.run, killed.config))
    assert list(disagreements(tamper(killed.kept), killed.run, killed.config))


@pytest.mark.slow
@pytest.mark.parametrize("tamper", [change("UPDATE steps SET reward = 3 WHERE id = 1"), flip_a_bit])
def test_two_runs_that_differ_are_told_apart(
    killed: Killed, tmp_path: Path, tamper: Tamper
) -> None:
    assert not list(differences(killed.run, killed.run))
    assert list(differences(killed.run, tampered(killed, tmp_path, tamper)))


REPEATING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.support.killing import Killer
from spm_gym.runner.state_handlers import StateHandlers
StateHandlers.adopt_unknown_act = lambda self, state, act, number: state
Killer._seldom_met = lambda self: f"act in {sys.argv[3]}"
killer = Killer("sim", 3, Path(sys.argv[2]), [])
while killer.trial.kills < 40 and not killer.trial.faults:
    killer.kill()
print("\\n".join(killer.trial.faults))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "noticed"),
    [
        (State.CONDITION, "acts without a step"),
        (State.CLEAN, "cleaned twice"),
        (State.CHANGE_AREA, "coarse moves"),
    ],
)
def test_a_program_that_repeats_what_was_killed_is_found_out(
    tmp_path: Path, state: State, noticed: str
) -> None:
    command = [sys.executable, "-c", REPEATING, str(ROOT), str(tmp_path), state]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_S, check=True)
    assert noticed in done.stdout


class Cut(BaseException):
    """Stands for a kill: nothing that comes after it is committed."""


def test_a_withdrawal_cut_off_at_shutdown_is_no_act_of_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("operation.condition_after=1", "operation.scans=5")
    with lab(tmp_path, Verdicts(BAD), *settings) as it:
        for _ in range(2):
            it.until(State.CONDITION)
        before = snapshot(tmp_path)
        monkeypatch.setattr(it.policy, "choose", raising(KeyboardInterrupt))
        monkeypatch.setattr(it.microscope, "withdraw", raising(Cut))
        with pytest.raises(Cut):
            it.runner.run()
    assert snapshot(tmp_path).rows["acts"][2]["act"] == "withdraw"
    with lab(tmp_path, Verdicts(BAD), *settings) as it:
        it.until(State.CLASSIFY)
    assert not list(changes(before, snapshot(tmp_path)))
    found = summarise(tmp_path).inconsistencies
    assert not [each for each in found if "session" not in each]  # nobody has started any here


def raising(error: type[BaseException]) -> Callable[..., Any]:
    def fail(*arguments: Any) -> None:
        raise error

    return fail


def test_the_count_of_troubles_survives_a_kill_but_not_the_end(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(BAD)) as it:
        it.until(State.IMAGE)
        it.runner.run_state.recovery.in_a_row = 3
        it.until(State.DIAGNOSE)
    with lab(tmp_path, Verdicts(BAD)) as it:
        assert it.runner.run_state.recovery.in_a_row == 3
        it.runner.run_state.state = State.STOP
        it.runner._commit()
    with lab(tmp_path, Verdicts(BAD)) as it:
        assert it.runner.run_state.recovery.in_a_row == 0


def test_an_interrupt_that_breaks_the_connection_withdraws_over_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, ["faults={outage: 0}"])
    assert config.faults is not None
    faulty = FaultyMicroscope(build_microscope(config, 5), config.faults, 5)

    def interrupted(*arguments: Any) -> None:
        faulty._broken = True
        raise KeyboardInterrupt

    monkeypatch.setattr(faulty, "scan", interrupted)
    with lab(tmp_path, Verdicts(BAD), microscope=faulty) as it:
        outcome = it.runner.run()
        assert (outcome.ending, outcome.safe) == ("interrupted", True)
        assert not it.microscope.status().approached
