"""Images unlike the training are unknown, and those like it are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.classifier import ClassifierError, ProbeClassifier
from agents.labelled import Labelled
from agents.novelty import Novelty
from spm_gym.imaging.statistics import STATISTICS, image_statistics
from tests.support.blobs import PIXELS, blobs


@pytest.fixture(scope="module")
def novelty(data: Labelled) -> Novelty:
    found = Novelty.of(image_statistics(data.images[:, None]), np.random.default_rng(0))
    assert found is not None
    return found


def lattice(count: int) -> np.ndarray:
    rows, cols = np.mgrid[:PIXELS, :PIXELS]
    phases = np.random.default_rng(1).uniform(0, 6, (count, 2, 1, 1))
    z = np.sin(rows + phases[:, 0]) * np.sin(cols + phases[:, 1])
    return np.asarray(z[:, None], np.float32)


def test_images_like_the_training_are_known_and_others_are_not(
    novelty: Novelty, others: Labelled
) -> None:
    assert novelty.unknown(image_statistics(others.images[:, None])).mean() < 0.03
    for strange in (
        lattice(50),
        np.random.default_rng(2).normal(0, 1, (50, 1, PIXELS, PIXELS)).astype(np.float32),
        np.full((5, 1, PIXELS, PIXELS), -1, np.float32),
    ):
        assert novelty.unknown(image_statistics(strange)).mean() > 0.95


def test_an_image_that_is_no_number_is_unknown(novelty: Novelty) -> None:
    nothing = np.full((1, 1, PIXELS, PIXELS), np.nan, np.float32)
    assert novelty.unknown(image_statistics(nothing)).all()


def test_unknown_images_have_no_probability_and_a_file_keeps_that(
    novelty: Novelty, trained: ProbeClassifier, others: Labelled, tmp_path: Path
) -> None:
    classifier = ProbeClassifier(trained.networks, novelty=novelty, temperature=2.0)
    images = np.concatenate([others.images[:20, None], lattice(5)])
    answer = classifier(images)
    assert np.isnan(answer[20:]).all()
    assert np.array_equal(np.isnan(answer), novelty.unknown(image_statistics(images)))
    known = ~np.isnan(answer)
    assert np.array_equal(answer[known], classifier.probability(images)[known])
    classifier.save(tmp_path / "c.safetensors")
    loaded = ProbeClassifier.load(tmp_path / "c.safetensors")
    assert np.array_equal(loaded(images), answer, equal_nan=True)


def test_few_images_are_no_ground_to_call_others_unknown() -> None:
    few = image_statistics(blobs(30, seed=3).images[:, None])
    assert Novelty.of(few, np.random.default_rng(0)) is None


def test_damaged_numbers_are_refused(novelty: Novelty) -> None:
    tensors = novelty.tensors()
    with pytest.raises(ClassifierError, match="not finite"):
        Novelty.restored({**tensors, "farthest": tensors["farthest"] * np.nan})
    with pytest.raises(ClassifierError, match="does not fit"):
        Novelty.restored({**tensors, "bank": tensors["bank"][:, :3]})


@pytest.mark.parametrize("side", [4, 16, 24, 64, 96])
def test_statistics_of_any_size_are_as_many_and_finite(side: int) -> None:
    images = np.random.default_rng(0).normal(0, 1, (3, 1, side, side)).astype(np.float32)
    images[0] = 0
    found = image_statistics(images)
    assert found.shape == (3, STATISTICS)
    assert np.isfinite(found).all()
    one_by_one = [image_statistics(images[n : n + 1])[0] for n in range(3)]
    assert found == pytest.approx(np.stack(one_by_one))
