"""Averages of images over larger pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.types import FloatImage


def box_averaged(z: FloatImage, pixels: int, rows: int | None = None) -> NDArray[np.float64]:
    """Average an image over the areas of larger pixels; their sides need not be whole numbers.

    Args:
        z: (H, W); NaN where nothing was scanned.
        pixels: Side of the result, at most W.
        rows: Its rows, at most H; None for as many.

    Returns:
        (rows, pixels); a pixel is the mean of its scanned part, NaN if that is less than half.

    Raises:
        ValueError: The image has fewer pixels.
    """
    shape = pixels if rows is None else rows, pixels
    if z.ndim != 2 or z.shape[0] < shape[0] or z.shape[1] < shape[1]:
        raise ValueError(f"an image of {z.shape} cannot be averaged to {shape} pixels")
    scanned = np.isfinite(z)
    # Sums of heights near zero lose no digits; raw heights may lie 100 nm from it.
    middle = float(np.mean(z[scanned])) if scanned.any() else 0.0
    heights = _over_areas(np.where(scanned, z - middle, 0.0), shape)
    share = _over_areas(scanned.astype(np.float64), shape)
    # With tolerance: the shares are sums of rounded parts.
    enough = share > 0.5 - 1e-9
    averaged = np.full(shape, np.nan)
    averaged[enough] = heights[enough] / share[enough] + middle
    return averaged


def middle(z: FloatImage, pixels: int) -> FloatImage:
    """Cut the square of so many pixels out of the middle of an image."""
    top, left = ((length - pixels) // 2 for length in z.shape)
    return z[top : top + pixels, left : left + pixels]


def _over_areas(values: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64]:
    return _over_rows(_over_rows(values, shape[0]).T, shape[1]).T


def _over_rows(values: NDArray[np.float64], pixels: int) -> NDArray[np.float64]:
    """Average groups of rows of equal thickness, which may begin and end within a row."""
    whole, part = np.divmod(np.arange(pixels + 1) * len(values), pixels)
    above = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])[whole]
    cut = np.flatnonzero(part)
    above[cut] += values[whole[cut]] * (part[cut, None] / pixels)
    means: NDArray[np.float64] = np.diff(above, axis=0) * (pixels / len(values))
    return means
