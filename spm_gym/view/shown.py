"""Scans as pictures: raw, levelled, or as the networks see them."""

from __future__ import annotations

import io
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spm_gym.imaging import level, normalise
from spm_gym.imaging.normalisation import LIMIT
from spm_gym.imaging.plane import Method
from spm_gym.types import FloatImage

_NOT_SCANNED = 0
_PERCENTILES = (0.5, 99.5)
_SMALLEST_SPAN = 2e-11
"""Heights that differ less are noise, and do not fill the range of colours, m."""

_RAMP = np.linspace(0, 2, 256)
_HEIGHTS = np.rint(255 * np.clip(np.stack([_RAMP, _RAMP - 0.5, _RAMP - 1], axis=-1), 0, 1))
"""The colours of `spm_gym.colours.HEIGHTS`, without the library that knows them by name."""


class Kind(StrEnum):
    """How a scan is shown."""

    LEVELLED = "levelled"
    RAW = "raw"
    NETWORK = "network"


def picture(z: FloatImage, kind: Kind, method: Method) -> Image.Image:
    """Show a scan: heights in colours, transparent where nothing was scanned; else grey.

    Args:
        z: Heights (H, W), m; NaN where nothing was scanned.
        kind: Heights as they are or above the substrate; or as the networks see them, to whom what
            was not scanned is substrate.
        method: How the scan is levelled.

    Returns:
        One pixel for every pixel.

    Raises:
        ValueError: It cannot be levelled.
    """
    if kind is Kind.RAW:
        return _coloured(z)
    levelled = level(z, method)
    return _coloured(levelled) if kind is Kind.LEVELLED else seen(levelled)


def seen(levelled: FloatImage) -> Image.Image:
    """What the networks see of heights above the substrate, grey."""
    return Image.fromarray(_grey(levelled))


def grey_values(z: FloatImage, method: Method) -> NDArray[np.uint8]:
    """What the networks see, but black where nothing was scanned, or hardly anything was."""
    try:
        return grey_of_levelled(level(z, method))
    except ValueError:  # hardly anything was
        return np.full(z.shape, _NOT_SCANNED, np.uint8)


def grey_of_levelled(levelled: FloatImage) -> NDArray[np.uint8]:
    """As `grey_values`, for heights above the substrate."""
    return np.where(np.isnan(levelled), np.uint8(_NOT_SCANNED), _grey(levelled))


def limits(heights: FloatImage) -> tuple[float, float]:
    """Between which heights colours change: almost all of those that were scanned."""
    scanned = heights[np.isfinite(heights)]
    if not scanned.size:
        return 0.0, _SMALLEST_SPAN
    low, high = map(float, np.percentile(scanned, _PERCENTILES))
    return low, max(high, low + _SMALLEST_SPAN)


def png(image: Image.Image) -> bytes:
    """A picture as PNG, quickly."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=2)
    return file.getvalue()


def _grey(levelled: FloatImage) -> NDArray[np.uint8]:
    share = (normalise(levelled) + LIMIT) / (2 * LIMIT)
    grey: NDArray[np.uint8] = np.rint(255 * share).astype(np.uint8)
    return grey


def _coloured(heights: FloatImage) -> Image.Image:
    scanned = np.isfinite(heights)
    low, high = limits(heights)
    share = np.clip((np.where(scanned, heights, low) - low) / (high - low), 0, 1)
    places = np.where(scanned, np.rint(1 + 254 * share), _NOT_SCANNED).astype(np.uint8)
    image = Image.fromarray(places).convert("P")
    image.putpalette(_HEIGHTS.astype(np.uint8).tobytes())
    image.info["transparency"] = _NOT_SCANNED
    return image
