"""Images to label as pictures for a browser, and the bar that says how large they are."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from spm_gym.imaging import level, normalise
from spm_gym.imaging.averaging import box_averaged
from spm_gym.imaging.files import read_heights
from spm_gym.imaging.folder import reduced
from spm_gym.imaging.normalisation import LIMIT
from spm_gym.imaging.plane import Method
from spm_gym.scale import round_length
from spm_gym.types import FloatImage
from spm_gym.web.labelling.candidates import Image

View = Literal["levelled", "raw", "network"]
NM = 1e-9
VIEWS: tuple[View, ...] = get_args(View)
_LARGEST = 1024
_KEPT = 96
_SHOWN_SHARE = (0.5, 99.5)
_SMALLEST_SPAN = 2e-11
"""Heights that differ less are noise, and do not fill the grey scale, m."""


@lru_cache(_KEPT)
def png(path: Path, version: str, view: View, pixels: int, method: Method) -> bytes:
    """An image as grey values.

    Args:
        path: Its file.
        version: Of the file; another one is read again.
        view: Heights as they are or above the substrate, from the lowest to the highest; or as the
            network sees them.
        pixels: Side of the images that the network takes.
        method: How images are levelled.

    Raises:
        FileFormatError: It cannot be read.
        ValueError: It cannot be levelled.
    """
    z: FloatImage = read_heights(path)
    if view == "network":
        grey = (normalise(level(reduced(path, z, pixels), method)) + LIMIT) / (2 * LIMIT)
    else:
        if min(z.shape) > _LARGEST:
            z = box_averaged(z, _LARGEST)
        grey = _stretched(z if view == "raw" else level(z, method))
    file = io.BytesIO()
    Picture.fromarray(np.rint(grey * 255).astype(np.uint8)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _stretched(heights: FloatImage) -> NDArray[np.float64]:
    """From 0 for the lowest to 1 for the highest; 0 where nothing was scanned."""
    low, high = np.nanpercentile(heights, _SHOWN_SHARE)
    low, span = float(low), max(float(high - low), _SMALLEST_SPAN)
    shown: NDArray[np.float64] = np.clip((heights - low) / span, 0, 1)
    return np.nan_to_num(shown)


def scale_bar(width: float) -> tuple[float, str]:
    """A round length of a sixth to two fifths of a width (m): as a share of it, and in words."""
    length = round_length(0.4 * width)
    return length / width, f"{length / NM:.4g} nm"


def in_words(image: Image) -> str:
    """How large an image is."""
    pixels = f"{image.pixels} × {image.pixels} px"
    if not image.width or not image.height:
        return f"{pixels}, size unknown"
    return f"{image.width / NM:.4g} × {image.height / NM:.4g} nm, {pixels}"


def address_of(image: Image, view: View) -> str:
    """Where a browser finds the picture; another one if the file changes."""
    try:
        status = image.path.stat()
        version = f"{status.st_mtime_ns}-{status.st_size}"
    except OSError:
        version = "gone"
    return "/image?" + urlencode({"file": image.file, "view": view, "version": version})


def view_of(fields: Mapping[str, str]) -> View:
    """The view that a request asks for, or the usual one."""
    return next((view for view in VIEWS if view == fields.get("view")), "levelled")
