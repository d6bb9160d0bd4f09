from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from spm_gym.cli import evaluate, main, run_command, train
from spm_gym.cli.run_directory import SETTINGS
from spm_gym.config import Config, load_config

ROOT = Path(__file__).parent.parent
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
        (["--steps", "0"], ["agent.steps", "0", "greater than or equal to 1"]),
        (["--config", "none.yaml"], ["none.yaml"]),
        (["--env", "real", "--set", "real.ports=[1,2]"], ["cannot reach", "real.ports"]),
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
        (["--episodes", "0", "--arms", "random"], ["--episodes", "0"]),
        (["--arms", "random", "--json", "no/such/file.json"], ["no/such"]),
        (["--env", "real", "--arms", "oracle"], ["oracle", "simulator"]),
    ],
)
def test_evaluation_of_nothing_gets_one_line(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    for name in ("untrained", "broken"):
        Path(name).mkdir()
        (Path(name) / SETTINGS).write_text(Config().to_yaml())
    (Path("broken") / "meta.json").write_text("{")
    if arguments[:1] == ["--checkpoint"]:
        arguments = [*arguments, "--config", SMOKE]
    fails_with_one_line(capsys, evaluate.main(arguments), *words)


def test_baselines_need_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    status = evaluate.main(
        ["--config", SMOKE, "--arms", "random", "oracle", "--episodes", "3", "--json", "e.json"]
    )
    assert status == 0
    document = json.loads(Path("e.json").read_text())
    assert document["arms"]["random"]["episodes"] == 3
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
    assert document.keys() >= {"arms", "normalised_score", "seed", "config"}
    assert set(document["arms"]) == {"agent", "random", "blind", "oracle"}
    for arm in document["arms"].values():
        assert arm.keys() >= {"episodes", "mean_length", "ci95", "success_rate", "mean_return"}
    assert document["normalised_score"].keys() == {"value", "ci95"}
    assert Path("e.png").read_bytes().startswith(b"\x89PNG")
    assert "normalised score" in capsys.readouterr().out
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert before == after


def test_the_agent_may_go_on_learning_during_evaluation() -> None:
    assert train.main(["--config", SMOKE, "--run-dir", "run"]) == 0
    assert evaluate.main(
        ["--run", "run", "--arms", "agent", "random", "--episodes", "2", "--learn"]
    ) == 0  # fmt: skip


def test_a_classifier_is_trained_and_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(
        ["classifier", "--config", SMOKE, "--run-dir", "judge", "--output", "mine.safetensors"]
    ) == 0  # fmt: skip
    assert {"classifier.safetensors", "report.json", "report.png"} <= {
        path.name for path in Path("judge").iterdir()
    }
    use = ["--config", SMOKE, "--steps", "40", "--run-dir", "run", "--set",
           "env.classifier=mine.safetensors"]  # fmt: skip
    assert train.main(use) == 2  # it has learned next to nothing
    assert "env.accept_mismatch: [quality]" in capsys.readouterr().err
    assert train.main([*use, "env.accept_mismatch=[quality]"]) == 0


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_end() -> None:
    """SIGKILL between two checkpoints; the resumed run ends with the weights of a whole one."""
    settings = ["--config", SMOKE, "--set", "agent.parallel=false", "run.checkpoint_every=20"]
    assert train.main([*settings, "--run-dir", "whole"]) == 0
    process = script("train.py", *settings, "--run-dir", "killed")
    checkpoints = Path("killed/checkpoints")
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("step_00000[246]0")):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert train.main(["--resume", "--run-dir", "killed"]) == 0
    assert weights(Path("whole")) == weights(Path("killed"))


@pytest.mark.slow
def test_an_interrupted_run_says_so_and_continues() -> None:
    process = script("train.py", "--config", SMOKE, "--run-dir", "run")
    deadline = time.monotonic() + 120
    while not list(Path("run").glob("checkpoints/step_*0")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode in (0, 130), error
    assert "Traceback" not in error
    assert train.main(["--resume", "--run-dir", "run"]) == 0


def weights(run: Path) -> dict[str, bytes]:
    from agents.checkpoint import latest_checkpoint, load_checkpoint

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
