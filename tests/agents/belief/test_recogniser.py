"""The recogniser learns classes, gives their probabilities and is kept in a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from agents.belief.errors import BeliefError
from agents.belief.recogniser import FORMAT, Recogniser
from agents.belief.recogniser_report import score_recogniser
from agents.belief.recogniser_training import ClassedImages, fit_recogniser
from agents.vgg import VGG
from spm_gym.config import RecogniserConfig
from tests.support.blobs import PIXELS, TINY, blobs

QUICK = RecogniserConfig(network=TINY, epochs=4, batch_size=32, learning_rate=5e-3, shift_pixels=2)


def classed(count: int, seed: int) -> ClassedImages:
    """Sharp, double, and empty images: three classes."""
    data = blobs(count, seed)
    states = np.where(data.good, 0, 1)
    images = data.images[:, None].astype(np.float16)
    states[::3], images[::3] = 2, -1
    return ClassedImages(images, states)


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return fit_recogniser(classed(1200, 0), 3, "hash", 0, QUICK)


def test_classes_are_learned(recogniser: Recogniser) -> None:
    others = classed(300, 1)
    found = score_recogniser(recogniser, others)
    assert found.accuracy > 0.9
    assert found.cross_entropy < 0.3
    logarithms = recogniser.logarithms(others.images.astype(np.float32))
    assert logarithms.shape == (300, 3)
    assert np.exp(logarithms).sum(axis=1) == pytest.approx(1)
    assert recogniser.shares == pytest.approx([0.2, 0.467, 0.333], abs=0.04)


def test_it_classifies_good_and_bad_probes(recogniser: Recogniser) -> None:
    others = classed(300, 1)
    images = others.images.astype(np.float32)
    probability = recogniser(images)
    assert probability.shape == (300,)
    assert probability.dtype == np.float32
    assert ((probability >= 0) & (probability <= 1)).all()
    assert probability == pytest.approx(np.exp(recogniser.logarithms(images)[:, 0]))
    assert probability[others.states == 0].min() > probability[others.states == 2].max()


def test_mirrored_images_have_the_same_answer(recogniser: Recogniser) -> None:
    images = classed(10, 2).images.astype(np.float32)
    answers = recogniser.logarithms(images)
    for mirrored in (images[..., ::-1], images[..., ::-1, :]):
        assert recogniser.logarithms(mirrored) == pytest.approx(answers, abs=1e-5)


def test_the_same_seed_gives_the_same_weights_and_reports_every_epoch() -> None:
    epochs: list[int] = []
    few = classed(100, 0)
    first, again, other = (
        fit_recogniser(few, 3, "", seed, QUICK, lambda epoch, loss: epochs.append(epoch))
        for seed in (1, 1, 2)
    )
    assert epochs == [1, 2, 3, 4] * 3
    ours, theirs, others = (each.network.state_dict() for each in (first, again, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(not torch.equal(ours[name], others[name]) for name in ours)
    assert len(first.summary["losses"]) == 4


def test_a_loaded_recogniser_is_the_saved_one(recogniser: Recogniser, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    recogniser.save(path)
    loaded = Recogniser.load(path)
    images = classed(20, 3).images.astype(np.float32)
    assert np.array_equal(loaded.logarithms(images), recogniser.logarithms(images))
    assert np.array_equal(loaded.shares, recogniser.shares)
    assert loaded.settings == "hash"
    assert loaded.summary == recogniser.summary
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "another"}, "'another'"),
        ({"settings": None}, "settings are a NoneType"),
        ({"shares": {}}, "shares are a dict"),
        ({"shares": [0.5, 0.5]}, "do not fit"),
        ({"shares": ["a", "b", "c"]}, "could not convert"),
        ({"shares": [0.5, 0.5, 0.0]}, "positive share"),
        ({"shares": [0.5, 0.5, 0.5]}, "sum to 1"),
        ({"pixels": 64}, "do not fit"),
        ({"pixels": None}, "do not fit"),
        ({"network": {"chanels": [3]}}, "chanels"),
    ],
)
def test_a_file_that_is_no_recogniser_is_one_error_that_names_it(
    recogniser: Recogniser, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    path = tmp_path / "r.safetensors"
    recogniser.save(path)
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert about["format"] == FORMAT
    save_file(weights, path, {"about": json.dumps(about | changes)})
    with pytest.raises(BeliefError, match=reason) as caught:
        Recogniser.load(path)
    assert str(caught.value).startswith(f"{path} is not a recogniser")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BeliefError, match="No such file"):
        Recogniser.load(tmp_path / "none")


def test_other_pixels_and_broken_weights_are_refused(recogniser: Recogniser) -> None:
    with pytest.raises(BeliefError, match=rf"this recogniser takes .*{PIXELS}.* not .*64, 64"):
        recogniser.logarithms(np.zeros((2, 1, 64, 64), np.float32))
    broken = VGG(TINY, 3, PIXELS)
    torch.nn.init.constant_(broken.head.bias, torch.nan)
    with pytest.raises(BeliefError, match="finite"):
        Recogniser(broken, np.full(3, 1 / 3), "")


def test_images_that_cannot_be_learned_from_are_refused() -> None:
    data = classed(30, 0)
    with pytest.raises(BeliefError, match="all 4 classes"):
        fit_recogniser(data, 4, "", 0, QUICK)
    alone = QUICK.model_copy(
        update={"batch_size": 1, "network": TINY.model_copy(update={"norm": "batch"})}
    )
    with pytest.raises(BeliefError, match=r"recogniser.batch_size of at least 2"):
        fit_recogniser(data, 3, "", 0, alone)
    with pytest.raises(BeliefError, match="as many classes"):
        ClassedImages(data.images, data.states[1:])
    with pytest.raises(BeliefError, match="square"):
        ClassedImages(data.images[..., 1:], data.states)


def test_training_that_diverges_is_refused() -> None:
    wild = RecogniserConfig(network=TINY, epochs=2, batch_size=32, learning_rate=1e30)
    with pytest.raises(BeliefError, match=r"not finite: lower recogniser.learning_rate"):
        fit_recogniser(classed(100, 0), 3, "", 0, wild)
