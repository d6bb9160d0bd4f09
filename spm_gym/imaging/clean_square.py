"""Search for the largest square of clean substrate (paper, *Preprocessing*)."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from spm_gym.imaging.normalisation import to_metres
from spm_gym.imaging.robust import noise
from spm_gym.jit import compiled
from spm_gym.types import BoolArray, FloatImage

SMALLEST_TOLERANCE = 1e-11
"""0.1 Å, m: the tolerance of the paper."""

TOLERANCE_IN_NOISE = 4.0
"""The tolerance in noisy images: so few pixels of clean ground exceed it that squares survive."""


class Square(NamedTuple):
    """A square of pixels by its top-left pixel and its side; the side is 0 if there is none."""

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
        image: (H, W): heights above the substrate, m; or an image normalised by the fixed scale,
            which is recognised by values of order 1; or a mask of clean pixels, returned unchanged.
            NaN is not clean.
        tolerance: Largest distance from the plane, m; left out, the larger of 0.1 Å and a
            multiple of the image's noise.

    Raises:
        ValueError: The image is not (H, W).
    """
    if image.ndim != 2:
        raise ValueError(f"an image is (H, W), not {image.shape}")
    if image.dtype == np.bool_:
        return cast(BoolArray, image)
    heights = image.astype(np.float64, order="C")
    to_metres(heights.ravel())
    clean = np.empty(heights.shape, dtype=np.bool_)
    mark_clean(heights, tolerance_for(noise(heights)) if tolerance is None else tolerance, clean)
    return clean


@compiled
def tolerance_for(noise: float) -> float:
    """Return the largest distance of clean pixels from the plane, m."""
    return max(SMALLEST_TOLERANCE, TOLERANCE_IN_NOISE * noise)


@compiled
def mark_clean(heights: NDArray[np.float64], tolerance: float, clean: BoolArray) -> None:
    """Mark the pixels that lie in the plane."""
    for row in range(heights.shape[0]):
        here, there = heights[row], clean[row]
        for col in range(heights.shape[1]):
            there[col] = abs(here[col]) <= tolerance


def largest_clean_square(image: FloatImage | BoolArray, tolerance: float | None = None) -> Square:
    """Find the largest completely clean square; of equal ones the first in reading order.

    Args:
        image: As for `clean_pixels`.
        tolerance: As for `clean_pixels`.

    Raises:
        ValueError: The image is not (H, W).
    """
    return Square(*find_square(np.ascontiguousarray(clean_pixels(image, tolerance))))


@compiled
def find_square(clean: BoolArray) -> tuple[int, int, int]:
    """Return row, column and side of the largest square; all 0 without a clean pixel."""
    rows, cols = clean.shape
    # A square that ends at a pixel is one larger than the smallest of those that end at the pixels
    # to the left, above, and between the two: one pass over the image finds them all.
    # Sides of the largest squares that end at each pixel of the row above and of this one.
    both = np.zeros((2, cols + 1), dtype=np.int32)
    last_row, last_col, best = -1, -1, 0
    for row in range(rows):
        above, here, marks = both[row % 2], both[1 - row % 2, 1:], clean[row]
        above_right = above[1:]
        for col in range(cols):
            least = min(above[col], above_right[col])
            here[col] = least if marks[col] else -1
        # In a loop of its own, since each side depends on the one before; the others vectorise.
        side, largest = 0, 0
        for col in range(cols):
            side = min(side, here[col]) + 1
            here[col] = side
        for col in range(cols):
            largest = max(largest, here[col])
        if largest > best:
            best, last_row, last_col = largest, row, 0
            while here[last_col] < best:
                last_col += 1
    return last_row - best + 1, last_col - best + 1, best
