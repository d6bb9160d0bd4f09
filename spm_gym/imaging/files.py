"""Height images in files: NumPy, Nanonis and Gwyddion formats in, Gwyddion format out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import gsffile
import numpy as np
from nanonispy2.read import FileHeaderNotFoundError, UnhandledFileError
from nanonispy2.read import Scan as NanonisScan
from numpy.typing import NDArray

from spm_gym.types import Scan
from spm_gym.whole_file import written_whole

_METRES = {"": 1.0, "m": 1.0, "mm": 1e-3, "µm": 1e-6, "um": 1e-6, "nm": 1e-9, "Å": 1e-10}
_METRES |= {"A": 1e-10, "Ang": 1e-10, "pm": 1e-12, "μm": 1e-6}
_LARGEST_SPAN = 1e-4
_LARGEST_FILE = 2**32
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    EOFError,
    SyntaxError,
    TokenError,
    MemoryError,
    OverflowError,
    FileHeaderNotFoundError,
    UnhandledFileError,
)


class FileFormatError(ValueError):
    """A file is not the image that was asked for; the message names it and what was found."""


@dataclass(frozen=True, slots=True)
class Topography:
    """Heights from a file; None is what it does not say.

    Attributes:
        z: Tip height (H, W) float64, m; row 0 at the largest y; NaN where nothing was scanned.
        width: Extent along x, m.
        height: Extent along y, m.
        bias: Sample bias, V.
        setpoint: Current held by the feedback, A.
    """

    z: NDArray[np.float64]
    width: float | None = None
    height: float | None = None
    bias: float | None = None
    setpoint: float | None = None


def read_heights(path: Path, min_finite: float = 0.5) -> NDArray[np.float64]:
    """Read only the heights of `read_topography`."""
    return read_topography(path, min_finite).z


def read_topography(path: Path, min_finite: float = 0.5) -> Topography:
    """Read a constant-current image from .npy, .sxm (forward Z channel) or .gsf.

    Args:
        path: File; .npy holds metres, the other formats say their unit.
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
    _refuse_other_files(path)
    try:
        with warnings.catch_warnings():
            # Readers warn of harmless things, such as a "µ" in a comment or a Python 2 header.
            warnings.simplefilter("ignore")
            topography = reader(path)
    except FileFormatError:
        raise
    except _UNREADABLE as error:
        raise FileFormatError(
            f"{path}: not a readable {path.suffix} image: {_one_line(error)}"
        ) from error
    _check(path, topography.z, min_finite)
    return topography


def _refuse_other_files(path: Path) -> None:
    """A pipe or a device would be read for ever; that a file is missing is said by its reader."""
    if path.exists() and not path.is_file():
        raise FileFormatError(f"{path}: this is no file but a folder, a pipe or a device")
    if path.exists() and (size := path.stat().st_size) > _LARGEST_FILE:
        raise FileFormatError(f"{path}: {size / 1e9:.3g} GB is more than any scan has")


def _check(path: Path, z: NDArray[np.float64], min_finite: float) -> None:
    if z.ndim != 2 or min(z.shape) < 2:
        raise FileFormatError(f"{path}: an image (rows, columns) is needed, not shape {z.shape}")
    finite = np.isfinite(z)
    if not finite.any():
        raise FileFormatError(f"{path}: no pixel is scanned")
    if finite.mean() < min_finite:
        raise FileFormatError(
            f"{path}: {finite.mean():.0%} of the pixels are scanned; "
            f"at least {min_finite:.0%} are needed"
        )
    span = float(np.ptp(z[finite]))
    if span > _LARGEST_SPAN:
        raise FileFormatError(
            f"{path}: heights span {span:.3g} m, more than any piezo; they must be in metres"
        )


def _read_npy(path: Path) -> Topography:
    with path.open("rb") as file:
        z = np.lib.format.read_array(file, allow_pickle=False)
    if z.dtype.kind != "f":
        raise FileFormatError(f"{path}: heights must be floating-point numbers, not {z.dtype}")
    return Topography(_scanned(z))


def _read_gsf(path: Path) -> Topography:
    z, header = gsffile.read_gsf(path)
    xy = _unit(path, header.get("XYUnits", ""))
    width, height = (
        None if (real := header.get(key)) is None else real * xy for key in ("XReal", "YReal")
    )
    heights = _scanned(z) * _unit(path, header.get("ZUnits", ""))
    return Topography(
        heights, width, height, _told(header.get("Bias")), _told(header.get("Setpoint"))
    )


def _read_sxm(path: Path) -> Topography:
    order = "little" if b"LSBFIRST" in path.read_bytes()[:512] else "big"
    scan = NanonisScan(str(path), f"{order} endian float 32")
    channels = scan.header["data_info"]
    if "Z" not in scan.signals:
        raise FileFormatError(
            f"{path}: there is no channel 'Z', only {', '.join(scan.signals) or 'none'}"
        )
    unit = _unit(path, channels["Unit"][channels["Name"].index("Z")])
    z = _scanned(scan.signals["Z"]["forward"]) * unit
    # Lines are stored as recorded: the first line of an upward scan is the lowest.
    upward = scan.header["scan_dir"].lower() == "up"
    width, height = map(float, scan.header["scan_range"])
    bias, setpoint = scan.header.get("bias"), _current(scan.header.get("z-controller"))
    return Topography(z[::-1].copy() if upward else z, width, height, _told(bias), setpoint)


def _current(table: Any) -> float | None:
    """Setpoint of the z-controller that is on, A; it may hold another signal than the current."""
    if not isinstance(table, dict):
        return None
    for on, setpoint in zip(table.get("on", ()), table.get("Setpoint", ()), strict=False):
        number, _, unit = setpoint.strip().partition(" ")
        if on.strip() == "1" and unit.strip() == "A":
            return _told(number)
    return None


def _told(number: Any) -> float | None:
    """A bias or setpoint of a header; nothing tunnels at 0, so that a 0 is as good as none."""
    try:
        value = float(number)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value else None


READERS: dict[str, Callable[[Path], Topography]] = {
    ".npy": _read_npy,
    ".sxm": _read_sxm,
    ".gsf": _read_gsf,
}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _scanned(z: NDArray[Any]) -> NDArray[np.float64]:
    return np.where(np.isfinite(z), z, np.nan).astype(np.float64)


def _unit(path: Path, unit: str) -> float:
    try:
        return _METRES[unit.strip()]
    except KeyError:
        allowed = ", ".join(filter(None, _METRES))
        raise FileFormatError(f"{path}: the unit must be one of {allowed}, not {unit!r}") from None


def read_gsf_scan(path: Path) -> NDArray[np.float32]:
    """Heights of a scan as `write_gsf` stored them, to the last bit, NaN where not scanned.

    Raises:
        FileFormatError: Unreadable or damaged.
    """
    _refuse_other_files(path)
    try:
        heights, _ = gsffile.read_gsf(path)
    except _UNREADABLE as error:
        raise FileFormatError(f"{path}: not a readable .gsf image: {_one_line(error)}") from error
    return np.array(heights, np.float32)


def write_gsf(path: Path, scan: Scan, synchronise: bool = True) -> None:
    """Store raw heights (float32) and how they were taken as a Gwyddion Simple Field.

    ``XOffset`` and ``YOffset`` are the lower left corner of the frame before its rotation. The
    file appears whole or not at all; if it is synchronised, after a power cut too.

    Raises:
        ValueError: The path does not end in .gsf, or the heights are not a 2-D array.
    """
    frame = scan.frame
    header = {
        "XReal": float(frame.size),
        "YReal": float(frame.size),
        "XOffset": float(frame.x - frame.size / 2),
        "YOffset": float(frame.y - frame.size / 2),
        "Title": "Z",
        "XYUnits": "m",
        "ZUnits": "m",
        "Angle": frame.angle,
        "Bias": scan.bias,
        "Setpoint": scan.setpoint,
        "Started": scan.started,
    }
    if scan.z_range is not None:
        header |= {"ZLowest": scan.z_range[0], "ZHighest": scan.z_range[1]}
    heights = np.asarray(scan.z, dtype=np.float32)
    with written_whole(path, synchronise) as beside:
        gsffile.write_gsf(beside, heights, header)
