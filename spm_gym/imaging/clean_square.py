"""Where the surface is empty: the largest square without adsorbates (paper, *Preprocessing*)."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from spm_gym.imaging.normalisation import heights_of
from spm_gym.imaging.robust import noise
from spm_gym.types import BoolArray, FloatImage

SMALLEST_TOLERANCE = 1e-11
"""0.1 Å, m: the tolerance of the paper."""

TOLERANCE_IN_NOISE = 4.0
LARGEST_IN_METRES = 1e-3


class Square(NamedTuple):
    """A square of pixels: its top-left pixel and its side; a side of 0 is no square."""

    row: int
    col: int
    side: int

    @property
    def centre(self) -> tuple[float, float]:
        """Row and column of the centre; whole numbers are pixel centres."""
        return self.row + (self.side - 1) / 2, self.col + (self.side - 1) / 2


def clean_pixels(image: FloatImage | BoolArray, tolerance: float | None = None) -> BoolArray:
    """Mark the pixels that lie in the plane of the substrate.

    Args:
        image: (H, W): heights above the substrate, m; or a normalised image, told apart by its
            size of order 1; or a mask of clean pixels, returned as it is. NaN is not clean.
        tolerance: Largest distance from the plane, m; left out, 0.1 Å or a multiple of the
            image's noise, whichever is more.

    Raises:
        ValueError: The image is not (H, W).
    """
    if image.ndim != 2:
        raise ValueError(f"an image is (H, W), not {image.shape}")
    if image.dtype == np.bool_:
        return cast(BoolArray, image)
    heights = cast(FloatImage, image)
    if np.fmax.reduce(np.abs(heights), axis=None, initial=0.0) >= LARGEST_IN_METRES:
        heights = heights_of(heights)
    if tolerance is None:
        tolerance = max(SMALLEST_TOLERANCE, TOLERANCE_IN_NOISE * noise(heights))
    clean: BoolArray = np.abs(heights) <= tolerance
    return clean


def largest_clean_square(image: FloatImage | BoolArray, tolerance: float | None = None) -> Square:
    """Find the largest square that is clean all over; of equal ones the first in reading order.

    Args:
        image: As for `clean_pixels`.
        tolerance: As for `clean_pixels`.

    Raises:
        ValueError: The image is not (H, W).
    """
    clean = clean_pixels(image, tolerance)
    sums = np.zeros((clean.shape[0] + 1, clean.shape[1] + 1), dtype=np.int32)
    np.cumsum(np.cumsum(clean, axis=0, dtype=np.int32), axis=1, out=sums[1:, 1:])
    # A clean square holds clean ones of every smaller side, so the side can be bisected.
    best, too_large = Square(0, 0, 0), min(clean.shape) + 1
    while too_large - best.side > 1:
        side = (best.side + too_large) // 2
        full = _full_squares(sums, side)
        first = int(full.argmax())
        if full.flat[first]:
            best = Square(first // full.shape[1], first % full.shape[1], side)
        else:
            too_large = side
    return best


def _full_squares(sums: NDArray[np.int32], side: int) -> BoolArray:
    """Which top-left pixels start a square of ``side`` all of whose pixels are clean."""
    wide = sums[:, side:] - sums[:, :-side]
    full: BoolArray = wide[side:] - wide[:-side] == side * side
    return full
