"""Normalisation of levelled heights for the networks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.jit import compiled
from spm_gym.types import FloatImage

HALF_MOLECULE = 1e-10
"""Half the apparent height of MgPc, m: the unit of normalised images."""

LIMIT = 1.5
"""Where normalised images are clipped (paper, *Preprocessing*)."""

LARGEST_IN_METRES = 1e-3


def normalise(levelled: FloatImage) -> NDArray[np.float32]:
    """Map the substrate to -1 and the top of a molecule to +1 (paper, *Preprocessing*).

    Args:
        levelled: Heights above the substrate, m, any shape; NaN counts as substrate.

    Returns:
        The same shape, clipped to [-1.5, 1.5].
    """
    image = np.empty(levelled.shape, dtype=np.float32)
    normalise_into(np.ascontiguousarray(levelled, dtype=np.float64).ravel(), image.ravel())
    return image


@compiled
def normalise_into(levelled: NDArray[np.float64], image: NDArray[np.float32]) -> None:
    """Fill in a normalised image; both arrays have one dimension."""
    for n in range(levelled.size):
        value = levelled[n] * (1 / HALF_MOLECULE) - 1
        value = -LIMIT if value < -LIMIT else value
        value = LIMIT if value > LIMIT else value
        image[n] = value if value == value else -1.0  # NaN is not equal to itself


@compiled
def to_metres(heights: NDArray[np.float64]) -> None:
    """Turn a normalised image into heights, in place; clipped heights become NaN.

    An image in metres is left as it is. Normalised ones have values of order 1, while no height
    above a substrate reaches a millimetre.
    """
    # Twice over the whole image, without leaving early: such loops are compiled to vectors.
    large = 0
    for n in range(heights.size):
        large += abs(heights[n]) >= LARGEST_IN_METRES
    if large:
        for n in range(heights.size):
            value = heights[n]
            heights[n] = (value + 1) * HALF_MOLECULE if abs(value) < LIMIT else np.nan
