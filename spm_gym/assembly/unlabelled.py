"""Images without labels that a classifier's training pretrains on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import ClassifierConfig, ConfigError
from spm_gym.datasets.labelled_folder import LabelledImages
from spm_gym.datasets.unlabelled import load_unlabelled
from spm_gym.imaging import normalise
from spm_gym.imaging.normalisation import HeightScale
from spm_gym.imaging.plane import Method


def unlabelled_images(
    data: Path,
    loaded: LabelledImages,
    settings: ClassifierConfig,
    scale: HeightScale,
    plane: Method,
) -> NDArray[np.float32] | None:
    """Read and normalise the images that pretraining takes besides the labelled ones.

    Returns:
        (N, H, H), or None where nothing is pretrained.

    Raises:
        ConfigError: They have brightness, and those with labels are normalised by metres.
    """
    if settings.start != "pretrained":
        return None
    pixels = loaded.heights.shape[1]
    images, known = [np.empty((0, pixels, pixels), np.float32)], list(loaded.paths)
    for path in (data, settings.unlabelled):
        if path is None:
            continue
        found = load_unlabelled(path, pixels, plane, known)
        if not found.metres and scale != "image":
            raise ConfigError(
                f"setting classifier.unlabelled: {path} has brightness, and no heights in metres; "
                "set classifier.height_scale=image"
            )
        left_out = f", {found.left_out} files left out" if found.left_out else ""
        print(f"  pretrains on {len(found.heights)} unlabelled images of {path}{left_out}")
        images += [normalise(z, scale)[None] for z in found.heights]
        known += found.paths
    return np.concatenate(images)
