"""A network learns from images without labels, the same one every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from agents import pretraining
from agents.checkpoint import CheckpointError, latest_checkpoint
from agents.classifier_fit import fit
from agents.pretraining import pretrain
from agents.vgg import VGG
from spm_gym.config import AugmentationConfig, ClassifierConfig, NetworkConfig
from spm_gym.imaging.conditions import ClassifierError
from tests.support.blobs import PIXELS, blobs

NETWORK = NetworkConfig(
    channels=(8, 16), pooled_sets=2, hidden=(), norm="batch", average_maps=True
)  # fmt: skip
CONFIG = ClassifierConfig(
    network=NETWORK, batch_size=32, device="cpu", pretraining_rate=0.01, pretraining_epochs=10,
    augmentation=AugmentationConfig(crop=5 / 6, noise=0.05), height_scale="image",
)  # fmt: skip


def textures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two textures that differ in how far their heights are alike, along a random direction."""
    rng = np.random.default_rng(seed)
    fine = rng.random(count) < 0.5
    spectrum = np.hypot(*np.meshgrid(np.fft.fftfreq(PIXELS), np.fft.fftfreq(PIXELS)))
    width = np.where(fine, 0.19, 0.17)[:, None, None]
    noise = np.fft.fft2(rng.standard_normal((count, PIXELS, PIXELS)))
    images = np.fft.ifft2(noise * np.exp(-((spectrum / width) ** 2))).real
    images /= 2 * images.std(axis=(1, 2), keepdims=True)
    return images.astype(np.float32), fine


def weights(network: VGG) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def same(first: VGG, second: VGG) -> bool:
    ours, others = weights(first), weights(second)
    return all(np.array_equal(ours[name], others[name]) for name in ours)


def test_a_few_labels_separate_textures_better_than_with_a_random_trunk() -> None:
    images, _ = textures(400, 0)
    few, labels = textures(40, 1)
    fresh, truth = textures(400, 2)

    def score(network: VGG) -> float:
        def features(of: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                values: np.ndarray = network.trunk(torch.from_numpy(of[:, None])).numpy()
            return values

        known = features(few)
        mean, spread = known.mean(axis=0), known.std(axis=0) + 1e-9
        model = LogisticRegression().fit((known - mean) / spread, labels)
        return float(model.score((features(fresh) - mean) / spread, truth))

    drawn = VGG(NETWORK, 1, PIXELS, torch.Generator().manual_seed(0)).eval()
    assert score(pretrain(images, CONFIG, 0)) > score(drawn) + 0.05


def test_the_same_seed_gives_the_same_weights_whatever_the_global_generator() -> None:
    images = blobs(64, 0).images
    config = CONFIG.model_copy(
        update={"pretraining_epochs": 2,
                "network": NETWORK.model_copy(update={"hidden": (8,), "dropout": 0.5})}
    )  # fmt: skip
    first = pretrain(images, config, 3)
    torch.rand(5)
    assert same(first, pretrain(images, config, 3))
    assert not same(first, pretrain(images, config, 4))


def test_what_was_kept_is_taken_and_not_learned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = blobs(64, 0).images
    first = pretrain(images, CONFIG, 3, directory=tmp_path)
    assert same(first, pretrain(images, CONFIG, 3))
    monkeypatch.setattr(pretraining, "_learn", None)
    assert same(first, pretrain(images, CONFIG, 3, directory=tmp_path))
    labelled = blobs(40, 1)
    started, _ = fit(labelled, CONFIG.model_copy(update={"epochs": 1}), 0, start=first)
    scratch, _ = fit(labelled, CONFIG.model_copy(update={"epochs": 1}), 0)
    assert not same(started, scratch)


def test_a_damaged_or_foreign_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    images = blobs(64, 0).images
    config = CONFIG.model_copy(update={"pretraining_epochs": 1})
    pretrain(images, config, 3, directory=tmp_path)
    wider = config.model_copy(update={"network": NETWORK.model_copy(update={"channels": (8, 24)})})
    with pytest.raises(CheckpointError, match=r"does not fit this training: .*; remove it"):
        pretrain(images, wider, 3, directory=tmp_path)
    newest = latest_checkpoint(tmp_path)
    assert newest is not None
    model = newest / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not what was written"):
        pretrain(images, config, 3, directory=tmp_path)


@pytest.mark.parametrize(
    ("count", "change", "reason"),
    [
        (1, {}, "batch_size of at least 2"),
        (64, {"augmentation": AugmentationConfig(crop=0.2)}, "leaves 5 px"),
        (64, {"batch_size": 1}, "batch_size of at least 2"),
        (64, {"pretraining_rate": 1e30}, "pretraining diverged"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    count: int, change: dict[str, object], reason: str
) -> None:
    with pytest.raises(ClassifierError, match=reason):
        pretrain(blobs(count, 0).images, CONFIG.model_copy(update=change), 0)
