"""Scans as pictures: raw, levelled, or as the networks see them; and what their colours mean."""

from __future__ import annotations

import io
from contextlib import suppress
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spm_gym.colours import HEIGHT_STOPS, OBSERVATION_STOPS
from spm_gym.imaging import level, normalise
from spm_gym.imaging.normalisation import LIMIT, HeightScale, height_of_unit
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.scale import length_text
from spm_gym.types import FloatImage

_NOT_SCANNED = 0
_BULK = (10, 90)
"""Percentiles between which few heights of a crash lie."""

_PROTRUSION = 4e-10
"""How far colours follow beyond those at least, m: twice a molecule, or two steps of silver."""

_SMALLEST_SPAN = 2e-11
"""Heights that differ less are noise, and do not fill the range of colours, m."""

_HEADROOM = 0.3
"""Of the span of heights, above them: the upper quarter of the colours is white to the eye, and the
tops of molecules are what a person classifies a probe by."""

_FOOTROOM = 0.05
"""The same below them: the noise of a substrate reaches lower than its lowest four pixels."""

_RAMP = np.linspace(0, 2, 256)
_HEIGHTS = np.rint(255 * np.clip(np.stack([_RAMP, _RAMP - 0.5, _RAMP - 1], axis=-1), 0, 1))
"""The colours of `spm_gym.colours.HEIGHTS`, without the library that knows them by name."""


class ScanRendering(StrEnum):
    """How a scan is displayed."""

    LEVELLED = "levelled"
    RAW = "raw"
    NETWORK = "network"


def picture(z: FloatImage, kind: ScanRendering, preprocessing: Preprocessing) -> Image.Image:
    """Draw a scan, as `with_span`."""
    return with_span(z, kind, preprocessing)[0]


def with_span(
    z: FloatImage, kind: ScanRendering, preprocessing: Preprocessing
) -> tuple[Image.Image, float]:
    """Draw a scan: heights in colours, transparent where nothing was scanned; else grey.

    Args:
        z: Heights (H, W), m; NaN where nothing was scanned.
        kind: Heights as they are or above the substrate; or as the networks see them, to whom what
            was not scanned is substrate.
        preprocessing: How the scan is levelled, and normalised for the networks.

    Returns:
        One pixel for every pixel, and the difference between the heights of the darkest and the
        brightest colour, m.

    Raises:
        ValueError: It cannot be levelled.
    """
    if kind is ScanRendering.RAW:
        return _coloured(z)
    levelled = level(z, preprocessing.method)
    if kind is ScanRendering.LEVELLED:
        return _coloured(levelled)
    scale = preprocessing.scale
    return network_picture(levelled, scale), network_span(levelled, scale)


def network_picture(levelled: FloatImage, scale: HeightScale) -> Image.Image:
    """Draw heights above the substrate as the networks see them, grey."""
    return Image.fromarray(_grey(levelled, scale))


def grey_values(z: FloatImage, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Convert a scan to normalised grey values, black where nothing was scanned."""
    try:
        return grey_of_levelled(level(z, preprocessing.method), preprocessing.scale)
    except ValueError:  # hardly anything was
        return np.full(z.shape, _NOT_SCANNED, np.uint8)


def grey_of_levelled(levelled: FloatImage, scale: HeightScale) -> NDArray[np.uint8]:
    """Convert heights above the substrate as `grey_values` does."""
    return np.where(np.isnan(levelled), np.uint8(_NOT_SCANNED), _grey(levelled, scale))


def network_span(levelled: FloatImage, scale: HeightScale) -> float:
    """Compute the difference between the heights of black and white in a network's image, m."""
    return 2 * LIMIT * height_of_unit(levelled, scale)


def grey_words(scale: HeightScale) -> str:
    """Say what lies between black and white in `grey_values`, for many scans at once."""
    if scale == "image":
        return "six standard deviations of its heights"
    return length_text(2 * LIMIT * scale)


def limits(heights: FloatImage) -> tuple[float, float]:
    """Choose the heights between which colours change, so that molecules do not saturate.

    All heights have a colour of their own but those of single pixels and lines and those out of all
    proportion, and some colours are left above them.

    Args:
        heights: (H, W), m; NaN where nothing was scanned.
    """
    scanned = heights[np.isfinite(heights)]
    if not scanned.size:
        return 0.0, _SMALLEST_SPAN
    # Not by percentiles: a molecule may be less of a wide image than a bad line is of a small one.
    low, high = _extremes(heights)
    # What a crash leaves fills many pixels, and would leave all else in one colour.
    below, above = map(float, np.percentile(scanned, _BULK))
    reach = max(2 * (above - below), _PROTRUSION)
    low, high = max(min(low, below), below - reach), min(max(high, above), above + reach)
    span = high - low
    low -= _FOOTROOM * span
    return low, max(high + _HEADROOM * span, low + _SMALLEST_SPAN)


def _extremes(heights: FloatImage) -> tuple[float, float]:
    """Find the lowest and the highest height that fill two by two pixels."""
    low = high = np.where(np.isfinite(heights), heights, np.nan)
    for axis in (0, 1):
        if heights.shape[axis] > 1:
            each = (slice(None),) * axis
            before, after = (*each, slice(None, -1)), (*each, slice(1, None))
            low, high = np.fmax(low[before], low[after]), np.fmin(high[before], high[after])
    return float(np.nanmin(low)), float(np.nanmax(high))


def height_scales(z: FloatImage, preprocessing: Preprocessing) -> dict[ScanRendering, str]:
    """Draw the `height_scale` of every picture of a scan."""
    low, high = limits(z)
    spans = {
        ScanRendering.RAW: high - low,
        ScanRendering.LEVELLED: high - low,
        ScanRendering.NETWORK: network_span(z, preprocessing.scale),
    }
    with suppress(ValueError):  # hardly anything was scanned: displayed raw
        levelled = level(z, preprocessing.method)
        low, high = limits(levelled)
        spans[ScanRendering.LEVELLED] = high - low
        spans[ScanRendering.NETWORK] = network_span(levelled, preprocessing.scale)
    return {kind: height_scale(span, kind) for kind, span in spans.items()}


def height_scale(span: float, kind: ScanRendering) -> str:
    """Draw a scale of the colours of a picture, as SVG to be laid over it.

    Args:
        span: Difference between the heights of the darkest and the brightest colour, m.
        kind: How the scan is displayed.
    """
    ramp = OBSERVATION_STOPS if kind is ScanRendering.NETWORK else HEIGHT_STOPS
    stops = "".join(
        f'<stop offset="{place / (len(ramp) - 1):g}" stop-color="{colour}"/>'
        for place, colour in enumerate(ramp)
    )
    # In SVG, which stays sharp at any size of the picture below it.
    words = f"dark to bright: {length_text(span)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100" role="img" '
        f'aria-label="{words}"><defs><linearGradient id="heights">{stops}</linearGradient></defs>'
        '<rect x="63" y="1" width="36" height="12" rx="1" fill="black" fill-opacity=".8"/>'
        '<rect x="66" y="4" width="30" height="2.5" fill="url(#heights)" stroke="white" '
        'stroke-width=".4"/><text x="96" y="10.5" text-anchor="end" font-size="3.5" '
        'font-weight="600" font-family="system-ui, sans-serif" fill="white" stroke="black" '
        f'stroke-width=".8" paint-order="stroke">{length_text(span)}</text></svg>'
    )


def png(image: Image.Image) -> bytes:
    """Encode a picture as PNG, quickly."""
    file = io.BytesIO()
    # More compression costs more time than the few bytes less save on the way to a browser.
    image.save(file, "PNG", compress_level=2)
    return file.getvalue()


def _grey(levelled: FloatImage, scale: HeightScale) -> NDArray[np.uint8]:
    share = (normalise(levelled, scale) + LIMIT) / (2 * LIMIT)
    grey: NDArray[np.uint8] = np.rint(255 * share).astype(np.uint8)
    return grey


def _coloured(heights: FloatImage) -> tuple[Image.Image, float]:
    scanned = np.isfinite(heights)
    low, high = limits(heights)
    share = np.clip((np.where(scanned, heights, low) - low) / (high - low), 0, 1)
    # The first colour of the palette is kept for what was not scanned.
    places = np.where(scanned, np.rint(1 + 254 * share), _NOT_SCANNED).astype(np.uint8)
    image = Image.fromarray(places).convert("P")
    image.putpalette(_HEIGHTS.astype(np.uint8).tobytes())
    # Transparent, so that a page can tell what was not scanned from what is deep.
    image.info["transparency"] = _NOT_SCANNED
    return image, high - low
