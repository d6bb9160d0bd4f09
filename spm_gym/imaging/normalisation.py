"""Levelled heights as the networks see them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.types import FloatImage

HALF_MOLECULE = 1e-10
"""Half the apparent height of MgPc, m: the unit of normalised images."""

LIMIT = 1.5


def normalise(levelled: FloatImage) -> NDArray[np.float32]:
    """Map the substrate to -1 and the top of a molecule to +1 (paper, *Preprocessing*).

    Args:
        levelled: Heights above the substrate, m, any shape; NaN counts as substrate.

    Returns:
        The same shape, clipped to [-1.5, 1.5].
    """
    image = np.asarray(levelled, dtype=np.float64) / HALF_MOLECULE - 1
    clipped = np.clip(image, -LIMIT, LIMIT)
    return np.where(np.isnan(clipped), -1.0, clipped).astype(np.float32)


def heights_of(image: FloatImage) -> NDArray[np.float64]:
    """Heights above the substrate, m, of a normalised image; clipped ones are NaN."""
    image = np.asarray(image, dtype=np.float64)
    return np.where(np.abs(image) < LIMIT, (image + 1) * HALF_MOLECULE, np.nan)
