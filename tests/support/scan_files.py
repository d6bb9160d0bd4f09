"""Scan files as other instruments and programs write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Header:
    """Content of a scan file; every field may be spoilt."""

    version: str = "2"
    type: str = "FLOAT            MSBFIRST"
    acquired: str = "64.0"
    pixels: str = ""
    times: str = "1.0E+0 1.0E+0"
    range: str = "1.000000E-8           1.000000E-8"
    offset: str = "1.0E-7         -2.0E-7"
    direction: str = "down"
    bias: str = "-5.000E-1"
    controller: str = (
        "\tName\ton\tSetpoint\tP-gain\tI-gain\tT-const\n"
        "\tlog Current\t1\t5.000E-11 A\t1.000E-12 m\t1.000E-8 m/s\t1.000E-4 s"
    )
    comment: str = ""

    def entries(self) -> dict[str, str]:
        """By their names in the file."""
        return {
            "NANONIS_VERSION": self.version,
            "SCANIT_TYPE": self.type,
            "ACQ_TIME": self.acquired,
            "SCAN_PIXELS": self.pixels,
            "SCAN_TIME": self.times,
            "SCAN_RANGE": self.range,
            "SCAN_OFFSET": self.offset,
            "SCAN_DIR": self.direction,
            "BIAS": self.bias,
            "Z-CONTROLLER": self.controller,
            "COMMENT": self.comment,
        }


Channel = tuple[str, str, str, np.ndarray]
COLUMNS = "\tChannel\tName\tUnit\tDirection\tCalibration\tOffset\n"


def sxm(
    path: Path,
    channels: list[Channel],
    header: Header | None = None,
    leave_out: frozenset[str] | set[str] = frozenset(),
    before: str = "",
    table: str = COLUMNS,
    after: str = "\n",
    newlines: int = 3,
    line_end: str = "\n",
    encoding: str = "utf-8",
) -> Path:
    """Write a scan file; images are as on the screen of a downward scan."""
    rows, cols = channels[0][3].shape
    entries = {"SCAN_PIXELS": f"       {cols}       {rows}"}
    entries = {k: v or entries.get(k, "") for k, v in (header or Header()).entries().items()}
    text = "".join(f":{k}:\n{v}\n" for k, v in entries.items() if k not in leave_out) + before
    text += f":DATA_INFO:\n{table}"
    for n, (name, unit, direction, _) in enumerate(channels):
        text += f"\t{14 + n}\t{name}\t{unit}\t{direction}\t1.000E+0\t0.000E+0\n"
    text += f"{after}:SCANIT_END:" + "\n" * newlines
    data = b""
    for _, _, direction, z in channels:
        if direction.lower() in ("both", "forward", "fwd"):
            data += z.astype(">f4").tobytes()
        if direction.lower() in ("both", "backward", "bwd"):
            data += z[:, ::-1].astype(">f4").tobytes()
    path.write_bytes(text.replace("\n", line_end).encode(encoding) + b"\x1a\x04" + data)
    return path


def gsf(path: Path, z: np.ndarray, fields: str = "", end: str = "\n", code: str = "utf-8") -> Path:
    """Write a Gwyddion Simple Field; the fields come last."""
    rows, cols = z.shape
    text = f"Gwyddion Simple Field 1.0\nXRes = {cols}\nYRes = {rows}\n{fields}{end}".encode(code)
    path.write_bytes(text + b"\0" * (4 - len(text) % 4) + z.astype("<f4").tobytes())
    return path


def image(seed: int = 0, shape: tuple[int, int] = (9, 12)) -> np.ndarray:
    """Heights that differ in every pixel."""
    return (5e-8 + 1e-10 * np.random.default_rng(seed).random(shape)).astype(np.float32)
