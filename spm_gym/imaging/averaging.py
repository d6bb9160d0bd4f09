"""Averages of images over larger pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.types import FloatImage


def box_averaged(z: FloatImage, pixels: int) -> NDArray[np.float64]:
    """Average an image over the areas of larger pixels; their sides need not be whole numbers.

    Args:
        z: (H, W); NaN where nothing was scanned.
        pixels: Side of the result, at most H and W.

    Returns:
        (pixels, pixels); a pixel is the mean of its scanned part, NaN if that is less than half.

    Raises:
        ValueError: The image has fewer pixels.
    """
    if z.ndim != 2 or min(z.shape) < pixels:
        raise ValueError(f"an image of {z.shape} cannot be averaged to {pixels} x {pixels} pixels")
    scanned = np.isfinite(z)
    # Sums of heights near zero lose no digits; raw heights may lie 100 nm from it.
    middle = float(np.mean(z[scanned])) if scanned.any() else 0.0
    heights = _over_areas(np.where(scanned, z - middle, 0.0), pixels)
    share = _over_areas(scanned.astype(np.float64), pixels)
    # With tolerance: the shares are sums of rounded parts.
    enough = share > 0.5 - 1e-9
    averaged = np.full((pixels, pixels), np.nan)
    averaged[enough] = heights[enough] / share[enough] + middle
    return averaged


def _over_areas(values: NDArray[np.float64], pixels: int) -> NDArray[np.float64]:
    return _over_rows(_over_rows(values, pixels).T, pixels).T


def _over_rows(values: NDArray[np.float64], pixels: int) -> NDArray[np.float64]:
    """Average groups of rows of equal thickness, which may begin and end within a row."""
    whole, part = np.divmod(np.arange(pixels + 1) * len(values), pixels)
    above = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])[whole]
    cut = np.flatnonzero(part)
    above[cut] += values[whole[cut]] * (part[cut, None] / pixels)
    means: NDArray[np.float64] = np.diff(above, axis=0) * (pixels / len(values))
    return means
