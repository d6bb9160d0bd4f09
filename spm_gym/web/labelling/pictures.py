"""Images to label as pictures for a browser, and the bar that says how large they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlencode

from spm_gym.datasets.labelled_folder import read_for_classifier
from spm_gym.figures.heights import ScanRendering, png, with_span
from spm_gym.imaging.averaging import box_averaged
from spm_gym.imaging.files import read_heights
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.scale import NM, round_length
from spm_gym.types import FloatImage
from spm_gym.web.labelling.candidates import Image

_LARGEST = 1024
_KEPT = 96


# The version is part of the key, so a file that has changed is read again.
@lru_cache(_KEPT)
def picture_of(
    path: Path, version: str, kind: ScanRendering, pixels: int, preprocessing: Preprocessing
) -> tuple[bytes, float]:
    """Draw an image as PNG, and return the difference between its extreme heights, m.

    Args:
        path: Its file.
        version: Of the file; another one is read again.
        kind: How it is displayed.
        pixels: Side of the images that the network takes.
        preprocessing: How images are levelled, and normalised for the network.

    Raises:
        FileFormatError: It cannot be read.
        ValueError: It cannot be levelled.
    """
    if kind is ScanRendering.NETWORK:
        image, span = with_span(read_for_classifier(path, pixels)[1], kind, preprocessing)
        return png(image), span
    z: FloatImage = read_heights(path)
    # More pixels than a screen has only make the page slow.
    if min(z.shape) > _LARGEST:
        z = box_averaged(z, _LARGEST)
    image, span = with_span(z, kind, preprocessing)
    return png(image), span


def scale_bar(image: Image) -> tuple[float, str] | None:
    """Choose a round length of a sixth to two fifths of the width: its share, and in words.

    None if the width is not known.
    """
    if not image.width:
        return None
    length = round_length(0.4 * image.width)
    return length / image.width, f"{length / NM:.4g} nm"


def in_words(image: Image) -> str:
    """Describe the size of an image."""
    pixels = f"{image.pixels} × {image.pixels} px"
    if not image.width or not image.height:
        return f"{pixels}, size unknown"
    return f"{image.width / NM:.4g} × {image.height / NM:.4g} nm, {pixels}"


def address_of(image: Image, kind: ScanRendering, what: str = "image") -> str:
    """Return the address of a picture or its scale, which changes with the file."""
    try:
        status = image.path.stat()
        version = f"{status.st_mtime_ns}-{status.st_size}"
    except OSError:
        version = "gone"
    return f"/{what}?" + urlencode({"file": image.file, "view": kind, "version": version})


def kind_of(fields: Mapping[str, str]) -> ScanRendering:
    """Read how a request asks for images to be displayed; levelled by default."""
    return next(
        (kind for kind in ScanRendering if kind == fields.get("view")), ScanRendering.LEVELLED
    )
