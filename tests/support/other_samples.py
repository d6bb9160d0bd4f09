"""Classifiers of samples that are not as high as MgPc."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.classifier import ProbeClassifier
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.imaging.normalisation import HALF_MOLECULE, HeightScale

PM = 1e-12


def rescaled(scale: HeightScale) -> ProbeClassifier:
    """Give the classifier in the package as if it had been trained with another height scale."""
    shipped = ProbeClassifier.load(shipped_classifier())
    return ProbeClassifier(
        shipped.networks,
        shipped.conditions,
        shipped.summary,
        novelty=shipped.novelty,
        height_scale=scale,
    )


def rescaled_file(folder: Path, scale: HeightScale = 150 * PM) -> Path:
    path = folder / "other.safetensors"
    rescaled(scale).save(path)
    return path


class Scaled:
    """Calls every probe bad, and remembers the images it was given."""

    def __init__(self, scale: HeightScale = HALF_MOLECULE) -> None:
        self.height_scale = scale
        self.images: list[NDArray[np.float32]] = []

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        self.images.extend(images)
        return np.full(len(images), 0.5, np.float32)
