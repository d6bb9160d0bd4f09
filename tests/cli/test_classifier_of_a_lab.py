"""A lab's labelled images become a classifier, which is scored on another evening."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agents.classifier import ProbeClassifier
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.cli import evaluate, train

PIXELS = 32

pytestmark = pytest.mark.usefixtures("fresh_folder")


def evening(path: str, sessions: int, seed: int, **changes: object) -> str:
    """Brightness of dots, which a bad probe shows as streaks."""
    rng = np.random.default_rng(seed)
    count = 24 * sessions
    good = rng.random(count) < 0.5
    rows, cols = np.mgrid[:PIXELS, :PIXELS]
    place = rng.uniform(4, PIXELS - 4, (count, 5, 2, 1, 1))
    width = np.where(good, 2.0, 30.0)[:, None, None, None]
    dots = np.exp(-((rows - place[:, :, 0]) ** 2) / 4 - (cols - place[:, :, 1]) ** 2 / 2 / width)
    z = dots.sum(axis=1) + rng.normal(0, 0.05, (count, PIXELS, PIXELS))
    z -= z.min(axis=(1, 2), keepdims=True)
    arrays = {
        "images": (255 * z / z.max(axis=(1, 2), keepdims=True)).astype(np.uint8),
        "label": np.where(good, "good", "bad"),
        "session": np.repeat([f"evening {n}" for n in range(sessions)], 24),
    }
    np.savez(path, **{**arrays, **changes})
    return path


def trained(data: str, *settings: str) -> int:
    return train.main(
        ["classifier", "--data", data, "--run-dir", "run", "--output", "mine.safetensors", "--set",
         f"env.pixels={PIXELS}", *settings]
    )  # fmt: skip


@pytest.mark.slow
def test_train_then_score_on_other_evenings(capsys: pytest.CaptureFixture[str]) -> None:
    data = evening("labelled.npz", 6, 0)
    assert trained(data, "classifier.folds=3", "classifier.epochs=50") == 0
    out = capsys.readouterr().out
    assert "from scratch: the included classifier does not know such images" in out
    classifier = ProbeClassifier.load(Path("mine.safetensors"))
    assert len(classifier.networks) == 3
    assert classifier.height_scale == "image"
    assert classifier.summary["calibration"]["coverage"] == 0.9
    assert classifier.summary["validation"]["good"] + classifier.summary["validation"]["bad"] == 144

    other = evening("other.npz", 3, 1)
    files = ["--json", "score.json", "--plot", "score.png"]
    command = ["classifier", "--classifier", "mine.safetensors", "--data", other, *files]
    assert evaluate.main(command) == 0
    assert "area under ROC curve" in capsys.readouterr().out
    found = json.loads(Path("score.json").read_text())
    assert found["images"] == 72
    assert found["auc"] > 0.9
    assert found["ci95"]["auc"][0] <= found["auc"] <= found["ci95"]["auc"][1]
    assert found["unknown_share"] < 0.2
    assert Path("score.png").read_bytes().startswith(b"\x89PNG")
    assert evaluate.main(command) == 2  # what is there is not overwritten
    assert "--force" in capsys.readouterr().err


def test_without_labels_it_is_said_what_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 64, 64)).astype(np.uint8)
    np.savez("noise.npz", images=images)
    files = ["--json", "score.json", "--plot", "score.png"]
    assert evaluate.main(["classifier", "--data", "noise.npz", *files]) == 0
    assert "20 images without labels" in capsys.readouterr().out
    Path("scans").mkdir()
    for number in range(3):
        np.save(f"scans/{number}.npy", 1e-12 * images[number])
    assert evaluate.main(["classifier", "--data", "scans"]) == 0
    assert "3 images without labels" in capsys.readouterr().out
    found = json.loads(Path("score.json").read_text())
    assert (found["unknown_share"], found["good_share"], found["auc"]) == (1, 0, None)


@pytest.mark.parametrize(
    ("settings", "changes", "reason"),
    [
        ([], {"label": np.full(48, "good")}, "good and bad images are needed"),
        ([], {"images": np.empty(48, object)}, "no objects"),
        ([], {"session": np.array(["alone", *np.repeat(list("abcde"), 9), "f", "f"])},
         "'alone' has a single image"),
        (["classifier.start=scratch", "classifier.folds=3", "classifier.split=session"],
         {"session": np.full(48, "evening")}, "at least two sessions"),
        (["classifier.start=scratch", "classifier.height_scale=measured"], {},
         "classifier.height_scale = measured"),
        (["classifier.start=shipped"], {}, "classifier.start = shipped"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_nothing_is_written(
    settings: list[str],
    changes: dict[str, object],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = evening("labelled.npz", 2, 0, **changes)
    assert trained(data, *settings) != 0
    error = capsys.readouterr().err
    assert reason in error
    assert len(error.strip().splitlines()) == 1
    assert [path.name for path in Path().iterdir()] == ["labelled.npz"]


@pytest.mark.parametrize("threshold", ["nan", "-0.1", "7", "inf"])
def test_a_threshold_is_a_probability(threshold: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["classifier", "--data", "gone", f"--threshold={threshold}", "--json", "score.json"]
    assert evaluate.main(command) == 2
    assert "--threshold must be a probability" in capsys.readouterr().err


@pytest.mark.parametrize("said", [None, [], {"recommended": "high"}, {"recommended": 7.0}])
def test_what_a_foreign_file_recommends_is_taken_if_it_is_a_probability(said: object) -> None:
    rng = np.random.default_rng(0)
    np.savez("noise.npz", images=rng.integers(0, 256, (12, 64, 64)).astype(np.uint8))
    classifier = ProbeClassifier.load(shipped_classifier())
    classifier.summary = {"validation": said}
    classifier.save(Path("mine.safetensors"))
    command = ["classifier", "--classifier", "mine.safetensors", "--data", "noise.npz"]
    assert evaluate.main([*command, "--json", "score.json"]) == 0
    assert json.loads(Path("score.json").read_text())["threshold"] == 0.9
