"""Read heights from a file of any known format, and refuse files that are not scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from spm_gym.imaging.files.gsf import read_field, read_gsf
from spm_gym.imaging.files.npy import read_npy
from spm_gym.imaging.files.sxm import read_sxm
from spm_gym.imaging.files.topography import (
    FEEDBACK_OFF,
    FileFormatError,
    NoTopographyError,
    Topography,
)

READERS: dict[str, Callable[[Path], Topography]] = {
    ".npy": read_npy,
    ".sxm": read_sxm,
    ".gsf": read_gsf,
}

Read = TypeVar("Read")

_LARGEST_SPAN = 1e-4
_LARGEST_FILE = 2**32


def read_heights(path: Path, min_finite: float = 0.5) -> NDArray[np.float64]:
    """Read only the heights of `read_topography`, and only those of a surface.

    Raises:
        NoTopographyError: The feedback was off.
        FileFormatError: As for `read_topography`.
    """
    topography = read_topography(path, min_finite)
    if topography.feedback is False:
        raise NoTopographyError(f"{path}: {FEEDBACK_OFF}")
    return topography.z


def read_topography(path: Path, min_finite: float = 0.5) -> Topography:
    """Read an image from .npy, .sxm (Z channel) or .gsf.

    An image of constant height is read too: its `feedback` is False.

    Args:
        path: File; .npy holds metres, the other formats name their unit.
        min_finite: Smallest allowed share of scanned pixels.

    Raises:
        FileFormatError: Unreadable, damaged, not a 2-D image, mostly not scanned, or heights that
            cannot be metres.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise FileFormatError(
            f"{path}: {path.suffix or 'no suffix'!r} is not a known image format; "
            f"known are {', '.join(READERS)}"
        )
    topography = _read(path, reader)
    z = np.where(np.isfinite(topography.z), topography.z, np.nan)
    _check(path, z, min_finite)
    return replace(topography, z=z)


def read_gsf_scan(path: Path) -> NDArray[np.float32]:
    """Read the heights of a scan as `write_gsf` stored them, bit for bit; NaN where not scanned.

    Raises:
        FileFormatError: Unreadable or damaged.
    """
    return _read(path, read_field)[1]


def _read(path: Path, reader: Callable[[Path], Read]) -> Read:
    """Read a regular file; errors name it."""
    _refuse_other_files(path)
    try:
        # Damaged files may hold any numbers; they are checked afterwards.
        with np.errstate(invalid="ignore", over="ignore"):
            return reader(path)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: not a readable {path.suffix} image: {error}") from error
    except OSError as error:
        raise FileFormatError(f"{path}: it cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise FileFormatError(f"{path}: it is too large for the memory of this computer") from error


def _refuse_other_files(path: Path) -> None:
    """Refuse everything but regular files of a possible size; a missing file is left to readers."""
    # A pipe or a device would be read for ever.
    if path.exists() and not path.is_file():
        raise FileFormatError(f"{path}: this is not a file but a folder, a pipe or a device")
    if path.exists() and (size := path.stat().st_size) > _LARGEST_FILE:
        raise FileFormatError(f"{path}: {size / 1e9:.3g} GB is more than any scan has")


def _check(path: Path, z: NDArray[np.float64], min_finite: float) -> None:
    if min(z.shape) < 2:
        raise FileFormatError(f"{path}: an image (rows, columns) is needed, not shape {z.shape}")
    finite = np.isfinite(z)
    if not finite.any():
        raise FileFormatError(f"{path}: no pixel is scanned")
    if finite.mean() < min_finite:
        raise FileFormatError(
            f"{path}: {finite.mean():.0%} of the pixels are scanned; "
            f"at least {min_finite:.0%} are needed"
        )
    # The usual mistake: nanometres that are taken for metres.
    span = float(np.ptp(z[finite]))
    if span > _LARGEST_SPAN:
        raise FileFormatError(
            f"{path}: heights span {span:.3g} m, more than any piezo; they must be in metres"
        )
