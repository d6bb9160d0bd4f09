"""Gwyddion Simple Field files (.gsf): a text header, then little-endian float32."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spm_gym.atomic_file import written_whole
from spm_gym.imaging.files.text import (
    AMPERES,
    VOLTS,
    data_length,
    decoded,
    metres,
    positive,
    quantity,
    quoted,
    size,
)
from spm_gym.imaging.files.topography import FileFormatError, Topography
from spm_gym.types import RecordedImage, Scan

_MAGIC = b"Gwyddion Simple Field 1.0"
_LONGEST_HEADER = 2**20
_WHOLE = re.compile(r"[1-9]\d{0,6}")


def read_gsf(path: Path) -> Topography:
    """Read heights.

    Raises:
        FileFormatError: Damaged, or the values are not heights.
    """
    header, values = read_field(path)
    # Without a unit, the format means plain numbers. Heights are then taken as metres, as programs
    # write them, but a size may also be a number of pixels and is left out.
    unit = metres(header["ZUnits"], "values") if header.get("ZUnits") else 1.0
    width, height = _sizes(header)
    return Topography(
        values.astype(np.float64) * unit,
        width,
        height,
        bias=quantity(header.get("Bias", ""), VOLTS),
        setpoint=quantity(header.get("Setpoint", ""), AMPERES | {"": 1.0}),
    )


def read_field(path: Path) -> tuple[dict[str, str], NDArray[np.float32]]:
    """Read the header and the values (YRes, XRes) as they are stored.

    Raises:
        FileFormatError: Damaged.
    """
    with path.open("rb") as file:
        head = file.read(_LONGEST_HEADER)
        length = file.seek(0, 2)
        header, begin = split_header(head)
        cols, rows = (_pixels(header, key) for key in ("XRes", "YRes"))
        data_length(length - begin, 4 * rows * cols, f"{cols} x {rows} px")
        file.seek(begin)
        data = file.read(4 * rows * cols)
    return header, np.frombuffer(data, "<f4").reshape(rows, cols).astype(np.float32)


def split_header(head: bytes) -> tuple[dict[str, str], int]:
    """Split off the entries of a header, and find the first byte of the data.

    Raises:
        FileFormatError: It is not such a header, or it has no end.
    """
    first, line_end, _ = head.partition(b"\n")
    if first.rstrip(b"\r") != _MAGIC or not line_end:
        raise FileFormatError(f"it does not begin with the line {_MAGIC.decode()}")
    end = head.find(b"\0")
    if end < 0:
        raise FileFormatError("its header has no end (a zero byte): the file is cut off")
    entries = {}
    for line in decoded(head[len(first) : end]).split("\n"):
        key, equals, value = line.partition("=")
        if equals:
            entries[key.strip()] = value.strip()
    # One to four zero bytes bring the data to a multiple of four.
    return entries, end + 4 - end % 4


def _pixels(header: Mapping[str, str], key: str) -> int:
    text = header.get(key, "")
    if not _WHOLE.fullmatch(text):
        raise FileFormatError(f"{key} is {quoted(text)}; a number of pixels is needed")
    return int(text)


def _sizes(header: Mapping[str, str]) -> tuple[float | None, float | None]:
    numbers = {key: positive(key, header[key]) for key in ("XReal", "YReal") if key in header}
    unit = header.get("XYUnits", "")
    if not unit or len(numbers) < 2:
        return None, None
    metre = metres(unit, "sizes")
    return size("XReal", header["XReal"], metre), size("YReal", header["YReal"], metre)


def _title_and_unit(channel: RecordedImage) -> tuple[str, str]:
    """Split the name of a signal, such as "Current (A)", for the title and unit of its field."""
    name, _, unit = channel.name.rpartition("(")
    direction = "backward" if channel.backward else "forward"
    return f"{name.strip() or channel.name} {direction}", unit.rstrip(") ") if name else ""


def write_gsf(
    path: Path, scan: Scan, synchronise: bool = True, channel: RecordedImage | None = None
) -> None:
    """Write raw heights (float32) and how they were taken as a Gwyddion Simple Field.

    Args:
        path: The file.
        scan: Whose heights are written.
        synchronise: Whether it outlasts a power cut.
        channel: One of its other images, to be written instead of the heights.

    ``XOffset`` and ``YOffset`` are the lower left corner of the frame before its rotation. The
    file appears whole or not at all; if it is synchronised, this holds after a power cut too.

    Raises:
        ValueError: The heights are not a 2-D array.
    """
    heights = np.asarray(scan.z if channel is None else channel.values, dtype="<f4")
    title, unit = ("Z", "m") if channel is None else _title_and_unit(channel)
    if heights.ndim != 2:
        raise ValueError(f"{path}: heights are (rows, columns), not {heights.shape}")
    frame = scan.frame
    header = {
        "XRes": heights.shape[1],
        "YRes": heights.shape[0],
        "XReal": float(frame.size),
        "YReal": float(frame.size),
        "XOffset": float(frame.x - frame.size / 2),
        "YOffset": float(frame.y - frame.size / 2),
        "Title": title,
        "XYUnits": "m",
        "ZUnits": unit,
        "Angle": float(frame.angle),
        "Bias": float(scan.bias),
        "Setpoint": float(scan.setpoint),
        "Started": float(scan.started),
    }
    # Keys beyond the format's own, such as the z range, are ignored by other programs.
    if scan.z_range is not None:
        header |= {"ZLowest": float(scan.z_range[0]), "ZHighest": float(scan.z_range[1])}
    text = _MAGIC + "".join(f"\n{key} = {value}" for key, value in header.items()).encode() + b"\n"
    with written_whole(path, synchronise) as beside:
        beside.write_bytes(text + b"\0" * (4 - len(text) % 4) + heights.tobytes())
