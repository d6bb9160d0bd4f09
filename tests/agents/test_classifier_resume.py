"""A training of a classifier that is stopped goes on to the same end, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents import classifier_checkpoint, classifier_training
from agents.checkpoint import CheckpointError, latest_checkpoint
from agents.classifier_checkpoint import ClassifierCheckpoints, NetworkCheckpoints, fingerprint
from agents.classifier_training import train_classifier
from agents.labelled import Labelled
from agents.network_training import NetworkTraining
from agents.vgg import VGG
from spm_gym.config import ClassifierConfig
from spm_gym.imaging.conditions import TrainingConditions
from tests.support.blobs import PIXELS, TINY, blobs

DATA = blobs(160, seed=0)
SESSION = np.repeat([f"evening {n}" for n in range(8)], 20)
NETWORK = TINY.model_copy(update={"dropout": 0.3, "norm": "batch"})
CONFIG = ClassifierConfig(
    network=NETWORK, epochs=4, batch_size=32, device="cpu", refuse_poor=False, folds=2, patience=2,
    learning_rate=0.01, split="session",
)  # fmt: skip
CONDITIONS = TrainingConditions("real")
START = VGG(NETWORK, 1, PIXELS, torch.Generator().manual_seed(7))


class Stopped(Exception):
    """Stands for a kill."""


def train(
    folder: Path,
    data: Labelled = DATA,
    session: np.ndarray = SESSION,
    config: ClassifierConfig = CONFIG,
    seed: int = 3,
    start: VGG | None = START,
    conditions: TrainingConditions = CONDITIONS,
) -> None:
    checkpoints = ClassifierCheckpoints(
        folder / "checkpoints", fingerprint(data, session, conditions, config, seed, start)
    )
    train_classifier(
        data, session, config, 0.9, seed, folder, conditions, False, start=start,
        checkpoints=checkpoints,
    )  # fmt: skip


def stop_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """Stop when so many epochs more are kept."""
    left, keep = [epochs], NetworkCheckpoints.keep

    def kept(self: NetworkCheckpoints, training: NetworkTraining) -> None:
        keep(self, training)
        left[0] -= 1
        if not left[0]:
            raise Stopped

    monkeypatch.setattr(NetworkCheckpoints, "keep", kept)


def stopped(folder: Path, epochs: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, epochs)
        with pytest.raises(Stopped):
            train(folder)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(autouse=True)
def every_epoch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier_checkpoint, "REST", 0.0)


@pytest.fixture(autouse=True, scope="module")
def without_picture() -> Iterator[None]:
    """Draw no picture, which takes longer than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier_training, "plot", lambda *arguments: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of a training that nobody has stopped."""
    folder = tmp_path_factory.mktemp("whole")
    train_classifier(DATA, SESSION, CONFIG, 0.9, 3, folder, CONDITIONS, False, start=START)
    return content(folder)


def test_stopped_after_every_epoch_it_ends_as_if_it_had_not_been(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    stops = 0
    with pytest.MonkeyPatch.context() as patch:
        while not (tmp_path / "classifier.safetensors").exists():
            patch.undo()
            patch.setattr(classifier_checkpoint, "REST", 0.0)
            stop_after(patch, 1)
            try:
                train(tmp_path)
            except Stopped:
                stops += 1
    assert 4 < stops <= 8  # one of the networks stops early, so that its best weights count
    assert content(tmp_path) == whole


def test_without_time_for_checkpoints_finished_networks_are_kept(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier_checkpoint, "REST", np.inf)
    stopped(tmp_path, 5)
    folders = list((tmp_path / "checkpoints").glob("network_*/*"))
    assert [path.parent.name for path in folders] == ["network_1"]
    train(tmp_path)
    assert content(tmp_path) == whole


def changed(name: str) -> dict[str, object]:
    flipped = DATA.good.copy()
    flipped[0] = not flipped[0]
    return {
        "images": {"data": Labelled(DATA.images + np.float32(1e-6), DATA.good)},
        "labels": {"data": Labelled(DATA.images, flipped)},
        "labels of several": {"data": replace(DATA, share=np.full(160, 0.5, np.float32))},
        "sessions": {"session": np.roll(SESSION, 1)},
        "imaging conditions": {"conditions": TrainingConditions("real", bias=(1.0, 1.0))},
        "settings": {"config": CONFIG.model_copy(update={"learning_rate": 0.02})},
        "settings, the seed": {"seed": 4},
        "initial weights": {"start": None},
    }[name]


@pytest.mark.parametrize(
    "name",
    ["images", "labels", "labels of several", "sessions", "imaging conditions", "settings",
     "settings, the seed", "initial weights"],
)  # fmt: skip
def test_it_does_not_go_on_with_anything_else(tmp_path: Path, name: str) -> None:
    stopped(tmp_path, 1)
    kept = latest_checkpoint(tmp_path / "checkpoints" / "network_1")
    known = name.partition(",")[0].partition(" of ")[0]
    with pytest.raises(CheckpointError, match=f"a training with other {known}: put back"):
        train(tmp_path, **changed(name))  # type: ignore[arg-type]
    assert latest_checkpoint(tmp_path / "checkpoints" / "network_1") == kept


def test_another_device_and_place_of_the_images_are_no_other_training() -> None:
    other = CONFIG.model_copy(update={"data": Path("moved"), "device": "auto"})
    first = fingerprint(DATA, SESSION, CONDITIONS, CONFIG, 3, START)
    assert first == fingerprint(DATA, SESSION, CONDITIONS, other, 3, START)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_goes_on(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    stopped(tmp_path, 2)
    newest = latest_checkpoint(tmp_path / "checkpoints" / "network_1")
    assert newest is not None
    model = newest / "model.safetensors"
    damaged = bytearray(model.read_bytes())
    damaged[-1] ^= 1
    model.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not what was written"):
        train(tmp_path)
    newest.rename(tmp_path / "aside")
    train(tmp_path)
    (tmp_path / "aside").rename(tmp_path.parent / "aside")
    assert content(tmp_path) == whole


def test_a_checkpoint_of_another_network_or_training_does_not_fit(tmp_path: Path) -> None:
    stopped(tmp_path, 5)
    first, second = (tmp_path / "checkpoints" / f"network_{number}" for number in (1, 2))
    (kept,) = second.iterdir()
    kept.rename(first / "step_0000009")
    with pytest.raises(CheckpointError, match="step_0000009 does not fit this training: its seed"):
        train(tmp_path)


@pytest.mark.parametrize("said", [None, b"", b"[]", b'{"images": 1}', b"\x80\x04K\x01.", b"\xff"])
def test_checkpoints_of_unknown_images_are_refused(tmp_path: Path, said: bytes | None) -> None:
    stopped(tmp_path, 1)
    file = tmp_path / "checkpoints" / "fingerprint.json"
    if said is None:
        file.unlink()
    else:
        file.write_bytes(said)
    with pytest.raises(CheckpointError, match=r"cannot be read|with other images") as caught:
        train(tmp_path)
    assert "\n" not in str(caught.value)
    assert latest_checkpoint(tmp_path / "checkpoints" / "network_1") is not None
