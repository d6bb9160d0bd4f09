"""The classifier that comes with the package, on images that are not in its training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.classifier import ProbeClassifier
from agents.classifier_report import score
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import SimulatorConfig
from spm_gym.imaging import level, normalise
from spm_gym.imaging.files import read_heights
from spm_gym.imaging.image_size import PIXEL_FACTOR
from spm_gym.instrument.sim.images import simulated_images
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Frame

CALM = SimulatorConfig(tip_change_rate=0, contact_loss_rate=0, crash_rate=0, rough_fraction=0)
SCANS = Path(__file__).parents[3] / "shared" / "data"


def prepared(raw: np.ndarray) -> np.ndarray:
    return np.stack([normalise(level(z)) for z in raw])[:, None]


def test_it_is_small() -> None:
    assert shipped_classifier().stat().st_size < 2_000_000


@pytest.mark.slow
def test_it_classifies_unseen_simulated_images() -> None:
    raw = simulated_images(3000, seed=2718281)
    classifier = ProbeClassifier.load(shipped_classifier())
    report = score(classifier.probability(prepared(raw.z)), raw.good, 0.9)
    assert report.auc >= 0.999
    assert report.tpr >= 0.97
    assert report.fpr <= 0.005
    assert report.calibration_error <= 0.01
    assert classifier.unknown(prepared(raw.z))[raw.good].mean() <= 0.01


def test_mirror_images_are_classified_alike() -> None:
    raw = simulated_images(300, seed=99)
    classifier = ProbeClassifier.load(shipped_classifier())
    images = prepared(raw.z)
    verdict = classifier(images) > 0.9
    mirrored = classifier(np.ascontiguousarray(images[..., ::-1])) > 0.9
    assert np.mean(verdict == mirrored) > 0.97


def called_good(image_nm: float = 10.0, bias: float = 1.0, config: SimulatorConfig = CALM) -> float:
    """Share of images by a perfect tip that are called good."""
    microscope = SimulatedMicroscope(config, 850.0, 3)
    microscope.bias = bias
    rng = np.random.default_rng(0)
    raw = []
    for x, y in rng.uniform(-4e-7, 4e-7, (60, 2)).tolist():
        microscope.wait(100)
        raw.append(microscope.scan(Frame(x, y, image_nm * 1e-9, 64)).z)
    classifier = ProbeClassifier.load(shipped_classifier())
    return float((classifier(prepared(np.stack(raw))) > 0.9).mean())


@pytest.mark.parametrize("factor", [1 / PIXEL_FACTOR, 1.0, PIXEL_FACTOR])
def test_a_perfect_tip_is_called_good_at_every_trusted_scale(factor: float) -> None:
    assert called_good(10.0 * factor) > 0.9


def test_a_perfect_tip_is_called_bad_where_the_classifier_was_not_trained() -> None:
    assert called_good(20.0) == 0
    assert called_good(bias=-1.0) == 0
    assert called_good(config=CALM.model_copy(update={"molecules_per_nm2": 0.0})) == 0
    assert called_good(config=CALM.model_copy(update={"molecule": "PTCDA"})) == 0


@pytest.mark.skipif(not SCANS.is_dir(), reason="the real scans lie beside the project only")
def test_no_real_scan_of_something_else_is_called_a_good_image() -> None:
    classifier = ProbeClassifier.load(shipped_classifier())
    crops = []
    for path in sorted([*SCANS.glob("*.npy"), *SCANS.glob("*.sxm")]):
        z = read_heights(path)
        for step in (1, 2):
            coarse = z[::step, ::step]
            rows, cols = (range(0, side - 63, 64) for side in coarse.shape)
            crops += [coarse[r : r + 64, c : c + 64] for r in rows for c in cols]
    assert len(crops) > 100
    images = prepared(np.stack(crops))
    assert classifier.probability(images).max() <= 0.9
    assert classifier.unknown(images).mean() >= 0.9
