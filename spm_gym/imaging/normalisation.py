"""Normalisation of levelled heights for the networks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spm_gym.errors import brief
from spm_gym.jit import compiled
from spm_gym.scale import length_text
from spm_gym.types import FloatImage

HALF_MOLECULE = 1e-10
"""Half the apparent height of MgPc, m: the unit of normalised images."""

LIMIT = 1.5
"""Where normalised images are clipped (paper, *Preprocessing*)."""

LARGEST_IN_METRES = 1e-3


HeightScale = float | Literal["image"]
"""What becomes the unit of normalised images: a height, m; or "image", twice the spread of the
heights of each image, for images that have no metres or whose corrugation is not always the same.
"""

_LEAST_SCALE = 1e-12
_HIGH = 0.98


def normalise(levelled: FloatImage, scale: HeightScale = HALF_MOLECULE) -> NDArray[np.float32]:
    """Map the substrate to -1 and the top of a molecule to +1 (paper, *Preprocessing*).

    By the scale "image" the mean height becomes 0, and two standard deviations 1.

    Args:
        levelled: Heights above the substrate, m, any shape; NaN counts as substrate. One image,
            if the scale is "image".
        scale: Half the height of what is on the substrate.

    Returns:
        The same shape, clipped to [-1.5, 1.5].
    """
    image = np.empty(levelled.shape, dtype=np.float32)
    flat = np.ascontiguousarray(levelled, dtype=np.float64).ravel()
    normalise_into(flat, image.ravel(), unit_of(scale))
    return image


def unit_of(scale: HeightScale) -> float:
    """Give the scale as `normalise_into` takes it: 0 stands for that of each image."""
    return 0.0 if scale == "image" else float(scale)


def checked_scale(value: object) -> HeightScale:
    """Take a height scale from a file.

    Raises:
        ValueError: It is none.
    """
    if value == "image":
        return "image"
    if isinstance(value, int | float) and _LEAST_SCALE <= value < LARGEST_IN_METRES:
        return float(value)
    raise ValueError(f"its height scale is {brief(value)}, neither 'image' nor 1 pm to 1 mm, in m")


def scale_text(scale: HeightScale) -> str:
    """Write a height scale in words."""
    return "the spread of each image" if scale == "image" else length_text(scale)


def height_of_unit(levelled: FloatImage, scale: HeightScale) -> float:
    """Compute the height, m, that is 1 in the normalised image; 0 if an "image" has no spread."""
    if scale != "image":
        return scale
    flat = np.ascontiguousarray(levelled, dtype=np.float64).ravel()
    return float(2 * _moments(flat)[1])


def measured_scale(levelled: Iterable[FloatImage]) -> float:
    """Measure the scale by which images of good probes fill the range.

    Args:
        levelled: Heights of each image above its substrate, m.

    Returns:
        Half the height, m, that 98 % of the pixels stay below, in the middle one of the images.
    """
    heights = [float(np.nanquantile(image, _HIGH)) for image in levelled]
    return max(_LEAST_SCALE, float(np.median(heights)) / 2)


@compiled
def normalise_into(levelled: NDArray[np.float64], image: NDArray[np.float32], unit: float) -> None:
    """Fill in a normalised image; both arrays have one dimension; for the unit see `unit_of`."""
    offset, substrate = 1.0, -1.0
    if unit == 0:
        mean, spread = _moments(levelled)
        unit = 2 * spread if spread > 0 else 1.0
        offset, substrate = mean / unit, 0.0
    for n in range(levelled.size):
        value = levelled[n] * (1 / unit) - offset
        value = -LIMIT if value < -LIMIT else value
        value = LIMIT if value > LIMIT else value
        image[n] = value if value == value else substrate  # NaN is not equal to itself


@compiled
def _moments(heights: NDArray[np.float64]) -> tuple[float, float]:
    """Compute mean and standard deviation, without NaN; 0 where nothing was scanned."""
    count, mean, squares = 0, 0.0, 0.0
    for n in range(heights.size):
        value = heights[n]
        if value == value:
            count += 1
            before = mean
            mean += (value - mean) / count
            squares += (value - before) * (value - mean)
    return mean, np.sqrt(squares / max(count, 1))


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
