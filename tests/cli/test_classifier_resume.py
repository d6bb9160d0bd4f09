"""A training of a classifier that is killed is continued by --resume, to the same end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents import classifier_checkpoint, classifier_fit, classifier_training
from spm_gym.cli import train
from tests.cli.test_classifier_of_a_lab import PIXELS, evening
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "configs" / "smoke.yaml")
LAB = ["classifier", "--data", "labelled.npz", "--set", f"env.pixels={PIXELS}",
       "classifier.folds=3", "classifier.epochs=3", "classifier.refuse_poor=false"]  # fmt: skip
SIMULATED = [
    "classifier",
    "--config",
    SMOKE,
    "--set",
    "classifier.epochs=3",
    "classifier.images=160",
]

# One process for all, since to import and compile takes longer than everything else: it trains to
# the end, and then its children, each the real command, kill themselves where they are told to.
KILLED = """
import importlib, os, signal, sys
from tqdm import tqdm
from agents import classifier_checkpoint
from spm_gym.cli import train
tqdm.monitor_interval = 0  # no thread that a fork would lose
classifier_checkpoint.REST = 0.0
places, options = sys.argv[1].split(), sys.argv[2:]
assert train.main([*options, "--run-dir", "whole"]) == 0
options += ["--run-dir", "killed"]
for place in places:
    child = os.fork()
    if not child:
        module, name, call = place.split(":")
        module = importlib.import_module(module)
        original, calls = getattr(module, name), []
        def counted(*arguments, **others):
            calls.append(1)
            if len(calls) == int(call):
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **others)
        setattr(module, name, counted)
        os._exit(train.main(options))
    _, status = os.waitpid(child, 0)
    assert status == signal.SIGKILL, (place, status)
    options = ["classifier", "--run-dir", "killed", "--resume"]
"""

pytestmark = [
    pytest.mark.usefixtures("fresh_folder"),
    pytest.mark.skipif(sys.platform == "win32", reason="nothing is forked there"),
]


def killed(places: list[str]) -> None:
    """Train "whole", and kill "killed" at each of these places in turn, always after --resume."""
    command = [sys.executable, "-c", KILLED, " ".join(places), *LAB]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def content(run: str) -> dict[str, bytes]:
    files = ("classifier.safetensors", "report.json", "report.png")
    return {name: (Path(run) / name).read_bytes() for name in files}


def curves(run: str) -> dict[str, list[tuple[int, float]]]:
    """Whatever TensorBoard draws of a run."""
    events = EventAccumulator(f"{run}/tensorboard").Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def next_second() -> None:
    """Wait until TensorBoard's files are of an earlier second: within one their order is open."""
    newest = max(int(file.name.split(".")[3]) for file in Path("killed/tensorboard").iterdir())
    wait_until(lambda: time.time() >= newest + 1)


def resume(*options: str) -> int:
    return train.main(["classifier", "--resume", "--run-dir", "killed", *options])


@pytest.mark.slow
def test_killed_anywhere_it_ends_as_if_it_had_not_been(capsys: pytest.CaptureFixture[str]) -> None:
    evening("labelled.npz", 6, 0)
    killed(
        [
            "spm_gym.assembly.classifier_training:_labelled:1",  # before anything is kept
            "agents.classifier_fit:_learn:2",  # in the second epoch
            "agents.checkpoint:_write_meta:1",  # in the middle of a checkpoint
            "agents.checkpoint:_clean:2",  # just after one, at the end of the network
            "agents.classifier_fit:_learn:5",  # in the third network
            "agents.classifier_training:plot:1",  # all networks are there, and half a report
        ]
    )
    assert {"checkpoints", "report.json"} <= {file.name for file in Path("killed").iterdir()}
    next_second()
    assert resume() == 0
    assert "continuing killed" in capsys.readouterr().out
    assert content("killed") == content("whole")
    drawn = curves("killed")
    assert drawn == curves("whole")
    assert [step for step, _ in drawn["classifier 3/loss"]] == [0, 1, 2]
    assert not Path("killed/checkpoints").exists()


def interrupt(monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    """Train a classifier, and interrupt it in the third epoch."""
    calls, learn = [], classifier_fit._learn

    def interrupted(*arguments: object) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return learn(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(classifier_checkpoint, "REST", 0.0)
        patch.setattr(classifier_fit, "_learn", interrupted)
        assert train.main([*options, "--run-dir", "killed"]) == 130


def test_simulated_images_are_simulated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, SIMULATED)
    assert resume() == 0
    assert train.main([*SIMULATED, "--run-dir", "whole"]) == 0
    assert content("killed") == content("whole")


def test_one_that_was_killed_before_it_could_tidy_up_has_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evening("labelled.npz", 6, 0)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(classifier_checkpoint, "remove_whole", killed)
        assert train.main([*LAB, "--run-dir", "killed"]) == 130
    Path("labelled.npz").unlink()
    before = content("killed")
    assert resume("--output", "mine.safetensors") == 0
    assert "killed has finished: mine.safetensors" in capsys.readouterr().out
    assert Path("mine.safetensors").read_bytes() == before["classifier.safetensors"]
    assert content("killed") == before
    assert not Path("killed/checkpoints").exists()


def test_other_images_are_refused_and_moved_ones_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evening("labelled.npz", 6, 0)
    interrupt(monkeypatch, LAB)
    drawn = curves("killed")
    Path("labelled.npz").rename("moved.npz")

    def refused(*words: str) -> None:
        error = capsys.readouterr().err.strip().splitlines()
        assert error[-1].startswith("error: ")
        assert all(word in error[-1] for word in words), error
        assert len(error) == 1
        assert curves("killed") == drawn
        assert Path("killed/checkpoints/network_1/step_0000002").is_dir()

    capsys.readouterr()
    assert resume() == 2
    refused("labelled.npz")
    evening("labelled.npz", 6, 1)
    assert resume() == 2
    refused("checkpoints of a training with other images")
    labels = np.load("moved.npz")["label"]
    labels[:2] = labels[1::-1]
    evening("labelled.npz", 6, 0, label=labels)
    assert resume() == 2
    refused("checkpoints of a training with other labels")
    model = Path("killed/checkpoints/network_1/step_0000002/model.safetensors")
    whole = model.read_bytes()
    model.write_bytes(whole[:-5])
    assert resume("--data", "moved.npz") == 2
    refused("model.safetensors is not what was written", "remove it to go on from the one before")
    model.write_bytes(whole)
    next_second()
    assert resume("--data", "moved.npz") == 0
    assert [step for step, _ in curves("killed")["classifier 1/loss"]] == [0, 1, 2]


def test_the_settings_of_the_run_decide(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(monkeypatch, SIMULATED)
    capsys.readouterr()
    for options, word in [
        (["--set", "classifier.epochs=5"], "leave out --set"),
        (["--config", SMOKE], "leave out --config"),
        (["--seed", "0"], "leave out --seed"),
        (["--steps", "5"], "leave out --steps"),
        (["--data", "labelled.npz"], "trains on simulated images: leave out --data"),
        (["--env", "real"], "resume it without --env"),
        (["--fresh-area"], "--fresh-area goes with"),
    ]:
        assert resume(*options) == 2
        assert word in capsys.readouterr().err
    assert train.main(["classifier", "--resume"]) == 2
    assert "no run below runs/ is one of 'spm-gym train classifier'" in capsys.readouterr().err
    assert train.main(["--resume", "--run-dir", "killed"]) == 2
    assert "is not a run of 'spm-gym train'" in capsys.readouterr().err
    assert train.main(["recogniser", "--resume"]) == 2
    assert "cannot be resumed" in capsys.readouterr().err


def test_a_refused_classifier_has_finished(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classifier_training, "_poor", lambda report: "it is poor")
    options = [*SIMULATED, "classifier.refuse_poor=true", "--run-dir", "killed"]
    assert train.main(options) == 2
    assert "it is poor" in capsys.readouterr().err
    assert not Path("killed/checkpoints").exists()
    assert resume() == 2
    assert "has finished, and its classifier was refused" in capsys.readouterr().err
