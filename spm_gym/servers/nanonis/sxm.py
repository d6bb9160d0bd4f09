"""Scan files as a Nanonis controller saves them (.sxm)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from spm_gym.atomic_file import written_whole
from spm_gym.types import FloatImage

_ROW = "\t"
# The bytes 1A 04 behind the last entry mark where the data begin.
_DATA_FOLLOWS = b"\n:SCANIT_END:\n\n\n\x1a\x04"


@dataclass(frozen=True, slots=True)
class SxmChannel:
    """Recorded signal as on the screen: row 0 at the largest y, column 0 at the left.

    Attributes:
        name: Name without unit, such as "Z".
        unit: Unit, such as "m".
        forward: (lines, pixels); NaN where nothing was scanned.
        backward: Image of the same shape and orientation as ``forward``.
        index: Index of the signal on the controller.
        calibration: Units of the signal per volt.
        offset: In units of the signal.
    """

    name: str
    unit: str
    forward: FloatImage
    backward: FloatImage
    index: int = 0
    calibration: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class SxmFeedback:
    """Row of the z-controller in the header's table; P in m, I in m/s, T in s.

    ``setpoint`` is in ``unit``, that of the controlled signal.
    """

    setpoint: float
    on: bool = True
    name: str = "log Current"
    unit: str = "A"
    p_gain: float = 1e-12
    i_gain: float = 1e-8
    time_constant: float = 1e-4


@dataclass(frozen=True, slots=True)
class SxmHeader:
    """Parameters of a scan.

    Attributes:
        center: x and y of the frame's centre, m.
        size: Width and height, m.
        angle: Degrees, clockwise, as on the controller.
        upward: Whether the line at the smallest y was scanned first.
        bias: Sample bias, V.
        feedback: The z-controller.
        started: Start of the scan.
        duration: Duration of the whole scan, s.
        line_times: Times of a line forward and of a line backward, s.
        comment: Comment, perhaps of several lines.
        modules: More entries by "Module>Parameter", such as "Scan>series name".
        version: Version of the file format.
    """

    center: tuple[float, float]
    size: tuple[float, float]
    bias: float
    feedback: SxmFeedback
    started: datetime
    duration: float
    line_times: tuple[float, float]
    angle: float = 0.0
    upward: bool = False
    comment: str = ""
    modules: Mapping[str, str] = field(default_factory=dict)
    version: int = 2


def write_sxm(path: Path, header: SxmHeader, channels: Sequence[SxmChannel]) -> None:
    """Write a scan file; it appears whole or not at all.

    Each channel is stored forward, then backward, as big-endian float32 in the order of
    acquisition: the first line of an upward scan is the one at the smallest y, and a backward
    line begins at the right.

    Raises:
        ValueError: No channels, or arrays that are not 2-D or not all of one shape.
    """
    shapes = {image.shape for c in channels for image in (c.forward, c.backward)}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 2:
        raise ValueError(
            f"{path}: channels of one shape (lines, pixels) are needed, "
            f"not {[(c.name, c.forward.shape, c.backward.shape) for c in channels]}"
        )
    entries = _entries(path, header, shape, channels)
    text = "\n".join(f":{key}:\n{value}" for key, value in entries.items()) + "\n"
    content = text.encode() + _DATA_FOLLOWS + _data(channels, header.upward)
    with written_whole(path) as beside:
        beside.write_bytes(content)


def _data(channels: Sequence[SxmChannel], upward: bool) -> bytes:
    lines = slice(None, None, -1 if upward else 1)
    images = [image[lines] for c in channels for image in (c.forward, c.backward[:, ::-1])]
    return np.stack(images).astype(">f4").tobytes()


def _entries(
    path: Path, header: SxmHeader, shape: tuple[int, ...], channels: Sequence[SxmChannel]
) -> dict[str, str]:
    lines, pixels = shape
    entries = {
        "NANONIS_VERSION": f"{header.version}",
        "SCANIT_TYPE": "              FLOAT            MSBFIRST",
        "REC_DATE": f" {header.started:%d.%m.%Y}",
        "REC_TIME": f"{header.started:%H:%M:%S}",
        "REC_TEMP": "      290.0000000000",
        "ACQ_TIME": f"{header.duration:12.1f}",
        "SCAN_PIXELS": f"{pixels:10d}{lines:10d}",
        "SCAN_FILE": _one_line(str(path)),
        "SCAN_TIME": _columns(header.line_times, 3),
        "SCAN_RANGE": _columns(header.size, 6),
        "SCAN_OFFSET": _columns(header.center, 6),
        "SCAN_ANGLE": _columns([header.angle], 3),
        "SCAN_DIR": "up" if header.upward else "down",
        "BIAS": _columns([header.bias], 3),
        "Z-CONTROLLER": _feedback_table(header.feedback),
        "COMMENT": "\n".join(_one_line(line) for line in header.comment.splitlines()),
    }
    entries |= {key: _one_line(value) for key, value in header.modules.items()}
    return entries | {"DATA_INFO": _channel_table(channels)}


def _feedback_table(feedback: SxmFeedback) -> str:
    row = [
        feedback.name,
        str(int(feedback.on)),
        f"{_number(feedback.setpoint, 3)} {feedback.unit}",
        f"{_number(feedback.p_gain, 3)} m",
        f"{_number(feedback.i_gain, 3)} m/s",
        f"{_number(feedback.time_constant, 3)} s",
    ]
    return _table([["Name", "on", "Setpoint", "P-gain", "I-gain", "T-const"], row])


def _channel_table(channels: Sequence[SxmChannel]) -> str:
    rows = [["Channel", "Name", "Unit", "Direction", "Calibration", "Offset"]]
    for c in channels:
        # White space ends a name in many readers, so the controller writes underscores.
        name = "_".join(c.name.split())
        numbers = [_number(c.calibration, 3), _number(c.offset, 3)]
        rows.append([str(c.index), name, c.unit, "both", *numbers])
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_ROW + _ROW.join(row) for row in rows)


def _one_line(text: str) -> str:
    """Write text on one line that does not begin with a colon."""
    # Comments come from clients: such a line would be the next entry of the header.
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    # Gwyddion takes an indented colon for the next entry too.
    return f"|{line}" if line.lstrip().startswith(":") else line


def _columns(values: Sequence[float], digits: int) -> str:
    return "".join(f"{_number(value, digits):>21}" for value in values).removeprefix(" ")


def _number(value: float, digits: int) -> str:
    mantissa, exponent = f"{value:.{digits}E}".split("E")
    return f"{mantissa}E{int(exponent):+d}"
