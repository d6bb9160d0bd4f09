from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.double_dqn import DoubleDQN
from spm_gym.assembly.run_directory import TRAINING
from spm_gym.assembly.simulator import world_seed
from spm_gym.cli import evaluate, main, run_command, train
from spm_gym.config import Config, load_config
from spm_gym.instrument.sim.simulated import SimulatedMicroscope

ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "configs" / "smoke.yaml")


@pytest.fixture(autouse=True)
def in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def script(name: str, *arguments: str, **options) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / name), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def fails_with_one_line(capsys: pytest.CaptureFixture[str], status: int, *words: str) -> None:
    error = capsys.readouterr().err.strip()
    assert status == 2
    assert error.startswith("error: ")
    assert "\n" not in error
    for word in words:
        assert word in error


def test_help_lists_what_one_can_do() -> None:
    for name in ("train.py", "evaluate.py"):
        process = script(name, "--help")
        out, _ = process.communicate()
        assert process.returncode == 0
        assert "--seed" in out


def test_print_config_shows_what_would_be_in_force(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--print-config", "--steps", "77", "--seed", "5"]) == 0
    Path("shown.yaml").write_text(capsys.readouterr().out)
    config = load_config(Path("shown.yaml"))
    assert (config.agent.steps, config.seed) == (77, 5)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "agent.stepz=1"], ["agent.stepz", "did you mean 'steps'"]),
        (["--steps", "-1"], ["agent.steps", "-1", "greater than or equal to 0"]),
        (["--config", "none.yaml"], ["none.yaml"]),
        (
            ["--env", "real", "--set", "real.nanonis.ports=[1,2]"],
            ["cannot reach", "real.nanonis.ports"],
        ),
        (["--run-dir", "taken"], ["taken", "exists", "--resume"]),
        (["--resume"], ["no run below runs/"]),
        (["--resume", "--run-dir", "taken"], ["taken", "not a run directory"]),
        (["--resume", "--config", SMOKE], ["--config", "own settings"]),
        (["--data", "images"], ["--data", "classifier"]),
        (["classifier", "--data", "nowhere", "--config", SMOKE], ["nowhere"]),
        (["classifier", "--output", "no/such/file"], ["no/such"]),
        (["--set", "env.classifier=missing.safetensors"], ["missing.safetensors"]),
        (["--set", "agent.network.pooled_sets=9", "agent.network.channels=[4,4,4,4,4,4,4,4,4]"],
         ["pool"]),
        (["--set", "agent.from_classifier=true", "agent.network.channels=[4,4,4,4]"],
         ["from_classifier", "env.classifier"]),
    ],
)  # fmt: skip
def test_wrong_requests_get_one_line_and_leave_nothing(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").mkdir()
    (Path("taken") / "notes.txt").touch()
    fails_with_one_line(capsys, train.main(arguments), *words)
    assert [file.name for file in Path("taken").iterdir()] == ["notes.txt"]
    assert not Path("runs").exists() or not list(Path("runs").iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no run below runs/"]),
        (["--run", "empty"], ["empty", "not a run directory"]),
        (["--run", "untrained"], ["untrained", "no checkpoint"]),
        (["--checkpoint", "broken"], ["broken"]),
        (["--episodes", "0", "--policies", "random"], ["--episodes", "0"]),
        (["--policies", "random", "--json", "no/such/file.json"], ["no/such"]),
        (["--env", "real", "--policies", "oracle"], ["oracle", "simulator"]),
    ],
)
def test_evaluation_of_nothing_gets_one_line(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    for name in ("untrained", "broken"):
        Path(name).mkdir()
        (Path(name) / TRAINING).write_text(Config().to_yaml())
    (Path("broken") / "meta.json").write_text("{")
    if arguments[:1] == ["--checkpoint"]:
        arguments = [*arguments, "--config", SMOKE]
    fails_with_one_line(capsys, evaluate.main(arguments), *words)


def test_baselines_need_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    status = evaluate.main(
        ["--config", SMOKE, "--policies", "random", "oracle", "--episodes", "3", "--json", "e.json"]
    )
    assert status == 0
    document = json.loads(Path("e.json").read_text())
    assert document["policies"]["random"]["episodes"] == 3
    assert document["normalised_score"] is None
    assert "oracle" in capsys.readouterr().out


def test_train_evaluate_and_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--config", SMOKE, "--run-dir", "run"]) == 0
    run = Path("run")
    assert (run / "learning_curve.png").stat().st_size > 5000
    assert list((run / "tensorboard").glob("events*"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    capsys.readouterr()
    status = evaluate.main(
        ["--run", "run", "--episodes", "2", "--json", "e.json", "--plot", "e.png"]
    )
    assert status == 0
    document = json.loads(Path("e.json").read_text())
    assert document.keys() >= {"policies", "normalised_score", "seed", "config"}
    assert Path(document["run"]) == run.resolve()
    assert document["checkpoint"] == str(run.resolve() / "checkpoints" / "step_0000120")
    assert document["versions"]["spm-gym"]
    assert document["learning"] is False
    assert set(document["policies"]) == {"agent", "random", "blind", "counting-mask", "oracle"}
    for policy in document["policies"].values():
        assert policy.keys() >= {"episodes", "mean_length", "ci95", "success_rate", "mean_return"}
        assert policy["ci95"] is None
        assert 0 <= policy["truly_good_rate"] <= 1
        assert policy["classifier"]["images"] == sum(policy["lengths"])
        assert policy["mean_seconds"] == pytest.approx(np.mean(policy["seconds"]))
        # An image of the simulator takes some ten seconds at least, and a decision much less.
        assert policy["mean_seconds"] > 10 * policy["mean_length"] > 0
        assert 0 < policy["mean_cpu_seconds"] < policy["mean_seconds"]
        assert policy["resets"]["mean_seconds"] > 0
    for key in ("normalised_score", "normalised_score_seconds"):
        assert document[key].keys() == {"value", "ci95"}
    assert Path("e.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "truly good" in out
    assert "too few to tell" in out
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert before == after


def test_an_evaluation_repeats_all_but_the_processor_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    documents = []
    for name in ("a.json", "b.json"):
        assert evaluate.main(
            ["--config", SMOKE, "--policies", "random", "oracle", "--episodes", "3", "--json", name]
        ) == 0  # fmt: skip
        document = json.loads(Path(name).read_text())
        del document["finished"]
        for policy in document["policies"].values():
            del policy["mean_cpu_seconds"], policy["cpu_seconds_ci95"]
        documents.append(document)
    assert documents[0] == documents[1]
    out = capsys.readouterr().out
    seconds = documents[0]["policies"]["random"]["mean_seconds"]
    assert f"{seconds:.1f}" in out


def test_figures_of_one_episode_are_json() -> None:
    assert evaluate.main(
        ["--config", SMOKE, "--policies", "random", "--episodes", "1", "--json", "e.json"]
    ) == 0  # fmt: skip

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    document = json.loads(Path("e.json").read_text(), parse_constant=refuse)
    assert document["policies"]["random"]["ci95"] is None
    assert document["run"] is document["checkpoint"] is None


def test_training_and_evaluation_with_one_seed_have_worlds_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worlds: list[int] = []
    restart = SimulatedMicroscope.restart

    def noted(self: SimulatedMicroscope, seed: int) -> None:
        worlds.append(seed)
        restart(self, seed)

    monkeypatch.setattr(SimulatedMicroscope, "restart", noted)
    assert train.main(["--config", SMOKE, "--seed", "3", "--steps", "31", "--run-dir", "run"]) == 0
    trained = set(worlds)
    assert world_seed(3) in trained
    del worlds[:]
    evaluate_random = ["--config", SMOKE, "--policies", "random", "--episodes", "1"]
    assert evaluate.main([*evaluate_random, "--seed", "3"]) == 0
    started = set(worlds) - {0}  # as it is built, before the first reset
    assert len(started) == 1
    assert not started & trained
    del worlds[:]
    assert evaluate.main([*evaluate_random, "--seed", "3"]) == 0
    assert set(worlds) - {0} == started


def test_a_finished_training_is_made_longer(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--config", SMOKE, "--run-dir", "run"]) == 0
    before = Path("run/training.yaml").read_text()
    capsys.readouterr()
    fails_with_one_line(
        capsys, train.main(["--resume", "--run-dir", "run", "--steps", "100"]), "100", "120"
    )
    assert Path("run/training.yaml").read_text() == before
    assert train.main(["--resume", "--run-dir", "run", "--steps", "140"]) == 0
    assert "from step 120 of 140" in capsys.readouterr().out
    assert load_config(Path("run/training.yaml")).agent.steps == 140
    assert Path("run/checkpoints/step_0000140").is_dir()
    assert train.main(["--resume", "--run-dir", "run"]) == 0
    assert "trained for 140 steps" in capsys.readouterr().out


def test_a_seed_repeats_a_training_if_asked_to_and_otherwise_says_that_it_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = ["--config", SMOKE, "--seed", "3", "--steps", "60", "--run-dir"]
    for run in ("one", "other"):
        assert train.main([*short, run, "--reproducible"]) == 0
    assert "--reproducible" not in capsys.readouterr().out
    assert weights(Path("one")) == weights(Path("other"))
    assert train.main([*short, "third"]) == 0
    assert "another run with this seed will differ; --reproducible" in capsys.readouterr().out


def test_the_newest_run_is_no_classifiers(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--config", SMOKE, "--steps", "40"]) == 0
    (agent,) = Path("runs").iterdir()
    assert train.main(["classifier", "--config", SMOKE]) == 0
    capsys.readouterr()
    assert evaluate.main(["--policies", "agent", "--episodes", "1"]) == 0
    assert f"the agent of {agent}" in capsys.readouterr().out
    assert train.main(["--resume"]) == 0
    assert f"continuing {agent}" in capsys.readouterr().out


def test_learning_in_evaluation_explores_as_at_the_end_of_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: list[float] = []
    predict = DoubleDQN.predict

    def noted(self: DoubleDQN, *arguments: Any, **others: Any) -> Any:
        rates.append(self.exploration_rate)
        return predict(self, *arguments, **others)

    # So short that epsilon has not fallen: all of it is prefill.
    assert train.main(["--config", SMOKE, "--steps", "20", "--run-dir", "run"]) == 0
    monkeypatch.setattr(DoubleDQN, "predict", noted)
    assert evaluate.main(
        ["--run", "run", "--policies", "agent", "--episodes", "1", "--learn"]
    ) == 0  # fmt: skip
    assert set(rates) == {0.05}


def test_the_agent_may_go_on_learning_during_evaluation() -> None:
    assert train.main(["--config", SMOKE, "--run-dir", "run"]) == 0
    assert evaluate.main(
        ["--run", "run", "--policies", "agent", "random", "--episodes", "2", "--learn"]
    ) == 0  # fmt: skip


def test_a_classifier_is_trained_and_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(
        ["classifier", "--config", SMOKE, "--run-dir", "classifier", "--output", "mine.safetensors"]
    ) == 0  # fmt: skip
    assert {"classifier.safetensors", "report.json", "report.png"} <= {
        path.name for path in Path("classifier").iterdir()
    }
    use = ["--config", SMOKE, "--steps", "40", "--run-dir", "run", "--set",
           "env.classifier=mine.safetensors"]  # fmt: skip
    assert train.main(use) == 2  # it has learned next to nothing
    assert "env.accept_mismatch: [quality]" in capsys.readouterr().err
    assert train.main([*use, "env.accept_mismatch=[quality]"]) == 0


SIGNALLED = """
import os, sys
from spm_gym.cli import train
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv

step, left = ProbeConditioningEnv.step, int(sys.argv[2])

def counted(env, action):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), int(sys.argv[1]))
    return step(env, action)

ProbeConditioningEnv.step = counted
sys.exit(train.main(sys.argv[3:]))
"""
"""Trains, and is sent a signal at a certain step: from outside it might come too late."""


def signalled(number: signal.Signals, step: int, *arguments: str) -> tuple[int, str]:
    """Status and errors of a training that is sent a signal at a step."""
    command = [sys.executable, "-c", SIGNALLED, str(int(number)), str(step), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_end() -> None:
    """SIGKILL between two checkpoints; the resumed run ends with the weights of a whole one."""
    settings = ["--config", SMOKE, "--set", "agent.parallel=false", "run.checkpoint_every=20"]
    assert train.main([*settings, "--run-dir", "whole"]) == 0
    status, _ = signalled(signal.SIGKILL, 50, *settings, "--run-dir", "killed")
    assert status == -signal.SIGKILL
    assert [*Path("killed/checkpoints").glob("step_*40")]
    assert train.main(["--resume", "--run-dir", "killed"]) == 0
    assert weights(Path("whole")) == weights(Path("killed"))
    whole = instrument_hours(Path("whole"))
    assert [step for step, _ in whole] == [50, 60, 100, 120]
    assert whole == instrument_hours(Path("killed"))


@pytest.mark.slow
def test_an_interrupted_run_says_so_and_continues() -> None:
    status, error = signalled(signal.SIGTERM, 60, "--config", SMOKE, "--run-dir", "run")
    assert status == 130, error
    assert "Traceback" not in error
    assert list(Path("run").glob("checkpoints/step_*0"))
    assert train.main(["--resume", "--run-dir", "run"]) == 0


def instrument_hours(run: Path) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    return [(event.step, event.value) for event in events.Scalars("progress/hours")]


def weights(run: Path) -> dict[str, bytes]:
    from agents.checkpoint import latest_checkpoint
    from agents.double_dqn_checkpoint import load_checkpoint

    newest = latest_checkpoint(run / "checkpoints")
    assert newest is not None
    state = load_checkpoint(newest).model.policy.state_dict()
    return {name: np.asarray(tensor).tobytes() for name, tensor in state.items()}


@pytest.mark.parametrize("command", ["run", "train"])
@pytest.mark.parametrize("name", ["file", "file/below", "n" * 300])
def test_a_run_directory_that_cannot_be_made_is_told_of_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / name
    assert main([command, "--run-dir", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --run-dir {folder} cannot be made (")
    assert "name a folder that is empty or not there yet" in line
    assert "Errno" not in line


def test_what_the_system_refuses_is_told_without_its_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    parser.set_defaults(command=lambda _: tmp_path.read_bytes())
    assert run_command(parser, []) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} cannot be used: is a directory\n"
