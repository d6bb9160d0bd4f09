"""A classifier that learns from unlabelled scans of the lab before it sees a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents import classifier_checkpoint, classifier_fit
from agents.classifier import ProbeClassifier
from spm_gym.assembly import classifier_training as assembly
from spm_gym.cli import train
from spm_gym.config import load_config
from tests.cli.test_classifier_of_a_lab import PIXELS, evening
from tests.cli.test_classifier_resume import content, curves, next_second, resume

QUICK = ["--set", f"env.pixels={PIXELS}", "classifier.folds=2", "classifier.epochs=1",
         "classifier.pretraining_epochs=2", "classifier.refuse_poor=false",
         "classifier.statistics=false"]  # fmt: skip
PRETRAINED = [*QUICK, "classifier.start=pretrained"]

pytestmark = pytest.mark.usefixtures("fresh_folder")


def labels_of_half(path: str) -> str:
    """Write images of six evenings, of which every other one has no label."""
    evening(path, 6, 0)
    with np.load(path) as file:
        label = np.where(np.arange(len(file["label"])) % 2, file["label"], "")
    return evening(path, 6, 0, label=label)


def trained(run: str, *options: str) -> int:
    command = ["classifier", "--data", "labelled.npz", "--run-dir", run, *PRETRAINED]
    return train.main([*command, *options])


def test_images_without_labels_are_learned_from_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels_of_half("labelled.npz")
    evening("archive.npz", 2, 1)
    taken, pretrain = [], assembly.pretrain

    def spied(images: np.ndarray, *others: object) -> object:
        taken.append(len(images))
        return pretrain(images, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(assembly, "pretrain", spied)
    assert trained("without") == 0
    out = capsys.readouterr().out
    assert "begins with a network that learns without labels first" in out
    assert "pretrains on 72 unlabelled images of labelled.npz" in out
    assert trained("further", "--unlabelled", "archive.npz") == 0
    assert "pretrains on 48 unlabelled images of archive.npz" in capsys.readouterr().out
    assert taken == [144, 192]
    settings = load_config(Path("further/classifier.yaml")).classifier
    assert settings.start == "pretrained"
    assert settings.unlabelled == Path("archive.npz").absolute()
    assert settings.learning_rate == 5e-4
    about = ProbeClassifier.load(Path("further/classifier.safetensors")).summary["settings"]
    assert about["start"] == "pretrained"
    assert "unlabelled" not in about
    assert [step for step, _ in curves("without")["classifier/pretraining_loss"]] == [0, 1]


@pytest.mark.parametrize("start", ["pretrained", "auto"])
def test_images_that_the_manifest_does_not_list_are_unlabelled_ones(
    start: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evening("all.npz", 2, 0)
    Path("scans").mkdir()
    rows = ["file,label"]
    with np.load("all.npz") as file:
        for number, (image, label) in enumerate(zip(file["images"], file["label"], strict=True)):
            np.save(f"scans/{number}.npy", 1e-12 * image)
            rows += [f"{number}.npy,{label}"] * (number < 40)
    Path("scans/manifest.csv").write_text("\n".join(rows) + "\n")

    def interrupted(*arguments: object, **others: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(assembly, "pretrain", interrupted)
    monkeypatch.setattr(assembly.classifier_training, "train_classifier", interrupted)
    assert train.main(["classifier", "--data", "scans", *QUICK, f"classifier.start={start}"]) == 130
    out = capsys.readouterr().out
    assert ("pretrains on 8 unlabelled images of scans" in out) == (start == "pretrained")
    assert ("from scratch" in out) == (start == "auto")


@pytest.mark.parametrize("place", ["pretraining", "fit"])
def test_interrupted_it_goes_on_to_the_same_end(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels_of_half("labelled.npz")
    monkeypatch.setattr(classifier_checkpoint, "REST", 0.0)

    def interrupted(*arguments: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if place == "fit":
            patch.setattr(classifier_fit, "_learn", interrupted)
        else:
            patch.setattr("agents.pretraining._keep", interrupted)
        assert trained("killed") == 130
    kept = Path("killed/checkpoints/pretrained")
    assert kept.is_dir() == (place == "fit")
    next_second()
    with monkeypatch.context() as patch:
        if place == "fit":
            patch.setattr("agents.pretraining._learn", interrupted)
        assert resume() == 0
    assert trained("whole") == 0
    assert content("killed") == content("whole")
    assert curves("killed") == curves("whole")
    capsys.readouterr()
    assert resume("--unlabelled", "archive.npz") == 2
    assert "trains on no further images: leave out --unlabelled" in capsys.readouterr().err


def test_other_unlabelled_images_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evening("labelled.npz", 6, 0)
    evening("archive.npz", 2, 1)

    def interrupted(*arguments: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(classifier_fit, "_learn", interrupted)
        options = ["classifier.start=auto", "--unlabelled", "archive.npz"]
        assert trained("killed", *options) == 130
    Path("archive.npz").rename("moved.npz")
    evening("archive.npz", 2, 2)
    capsys.readouterr()
    assert resume() == 2
    assert "a training with other unlabelled images: put back" in capsys.readouterr().err
    assert resume("--unlabelled", "moved.npz") == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--unlabelled", "gone"], "no such folder or .npz file"),
        (["--unlabelled", "labelled.npz", "--set", "classifier.start=scratch"],
         "classifier.start = scratch: classifier.unlabelled"),
        (["--unlabelled", "labelled.npz", "--set", "classifier.start=shipped"],
         "classifier.start = shipped: classifier.unlabelled"),
        (["--unlabelled", "brightness.npz", "--set", "classifier.height_scale=fixed"],
         "brightness, and no heights in metres"),
        (["--set", "classifier.start=pretrained", "classifier.pretraining_rate=0"],
         "pretraining_rate"),
        (["--unlabelled", "labelled.npz", "--set", "classifier.pretraining_rate=1e30"],
         "pretraining diverged"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(
    options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evening("brightness.npz", 2, 0)
    with np.load("brightness.npz") as file:
        evening("labelled.npz", 2, 0, images=1e-12 * file["images"])
    assert trained("run", *options) != 0
    error = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(error) == 1
    assert reason in error[0]


def test_without_images_of_a_lab_there_is_nothing_to_pretrain_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    evening("archive.npz", 2, 1)
    assert train.main(["classifier", "--unlabelled", "archive.npz", "--run-dir", "run"]) == 2
    assert "--data" in capsys.readouterr().err
    assert train.main(["classifier", "--set", "classifier.start=pretrained"]) == 2
    assert "--data" in capsys.readouterr().err
    assert train.main(["agent", "--unlabelled", "archive.npz"]) == 2
    assert "--unlabelled belongs to 'train.py classifier'" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["archive.npz"]
