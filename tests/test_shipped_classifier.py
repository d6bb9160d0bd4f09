"""The classifier that comes with the package, on images that it has never seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.classifier import ProbeClassifier
from agents.classifier_report import score
from spm_gym.build import shipped_classifier
from spm_gym.imaging import level, normalise
from spm_gym.imaging.files import read_heights
from spm_gym.instrument.sim.images import simulated_images

SCANS = Path(__file__).parent.parent.parent / "shared" / "data"


def prepared(raw: np.ndarray) -> np.ndarray:
    return np.stack([normalise(level(z)) for z in raw])[:, None]


def test_it_is_small() -> None:
    assert shipped_classifier().stat().st_size < 2_000_000


@pytest.mark.slow
def test_it_judges_unseen_simulated_images() -> None:
    raw = simulated_images(3000, seed=2718281)
    report = score(ProbeClassifier.load(shipped_classifier())(prepared(raw.z)), raw.good)
    assert report.auc >= 0.999
    assert report.tpr >= 0.97
    assert report.fpr <= 0.005


def test_mirror_images_are_judged_alike() -> None:
    raw = simulated_images(300, seed=99)
    judge = ProbeClassifier.load(shipped_classifier())
    images = prepared(raw.z)
    verdict = judge(images) > 0.9
    mirrored = judge(np.ascontiguousarray(images[..., ::-1])) > 0.9
    assert np.mean(verdict == mirrored) > 0.97


@pytest.mark.skipif(not SCANS.is_dir(), reason="the real scans lie beside the project only")
def test_no_real_scan_of_something_else_is_called_a_good_image() -> None:
    judge = ProbeClassifier.load(shipped_classifier())
    crops = []
    for path in sorted([*SCANS.glob("*.npy"), *SCANS.glob("*.sxm")]):
        z = read_heights(path)
        for step in (1, 2):
            coarse = z[::step, ::step]
            rows, cols = (range(0, side - 63, 64) for side in coarse.shape)
            crops += [coarse[r : r + 64, c : c + 64] for r in rows for c in cols]
    assert len(crops) > 100
    assert judge(prepared(np.stack(crops))).max() <= 0.9
