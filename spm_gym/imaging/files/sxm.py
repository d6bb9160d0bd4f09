"""Scan files of Nanonis controllers (.sxm), and of programs that write such files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spm_gym.imaging.files.text import (
    AMPERES,
    VOLTS,
    data_length,
    decoded,
    metres,
    number,
    quantity,
    shown,
    size,
)
from spm_gym.imaging.files.topography import FileFormatError, Topography

_LONGEST_HEADER = 2**20
# A comment may name the end of the header, so only a line of its own before the data mark is it.
_END = re.compile(rb"^[ \t]*:SCANIT_END:\s*\x1a\x04", re.MULTILINE)
_TAG = re.compile(r":(.+):")
_WHOLE = re.compile(r"[1-9]\d{0,6}")
_COLUMN = re.compile(r"\t| {2,}")
# What heights are called, with the pass of a scan of several passes, and with or without a unit.
_HEIGHTS = re.compile(
    r"(?:\[p(\d{1,4})\][ _]*)?(z|topography|topo|height|z[ _]height)"
    r"(?:[ _]*[(\[]\w{0,3}[)\]]|[ _]+(?:m|nm|pm|å))?",
    re.IGNORECASE,
)
_NOTHING = ("", "n/a", "none", "-")
_DIRECTIONS = {
    "both": ("forward", "backward"),
    "forward": ("forward",),
    "fwd": ("forward",),
    "backward": ("backward",),
    "bwd": ("backward",),
}
_STATES = {"1": True, "on": True, "true": True, "0": False, "off": False, "false": False}

Header = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class Channel:
    """A recorded signal.

    Attributes:
        name: As it is written.
        unit: Of its values.
        directions: Which images of it follow each other in the data.
        first_image: Place of the first of them among all images of the file.
    """

    name: str
    unit: str
    directions: tuple[str, ...]
    first_image: int


def read_sxm(path: Path) -> Topography:
    """Read the heights of a scan: forward, or backward if only that was recorded.

    Of a scan of several passes it is the first one.

    Raises:
        FileFormatError: Damaged, without heights, or of numbers that programs read differently.
    """
    with path.open("rb") as file:
        head = file.read(_LONGEST_HEADER)
        length = file.seek(0, 2)
        header, begin = split_header(head)
        pixels, lines = _shape(header)
        _refuse_other_numbers(header)
        channels = channels_in(header)
        image_bytes = 4 * pixels * lines
        images = sum(len(channel.directions) for channel in channels)
        what = f"{images} images of {pixels} x {lines} px"
        data_length(length - begin, images * image_bytes, what)
        channel, number_of_pass = _heights_among(channels)
        unit = metres(channel.unit, "heights")
        file.seek(begin + channel.first_image * image_bytes)
        data = file.read(image_bytes)
    z = np.frombuffer(data, ">f4").reshape(lines, pixels).astype(np.float64) * unit
    width, height = _range(header)
    table = _table(header, "z-controller")
    bias, setpoint, played_back = _of_pass(header, number_of_pass)
    feedback = False if played_back else _feedback(header, table)
    return Topography(
        _as_on_the_screen(z, channel.directions[0] == "backward", _upward(header)),
        width,
        height,
        feedback,
        _bias(header) if bias is None else bias,
        _setpoint(header, table) if setpoint is None else setpoint,
    )


def split_header(head: bytes) -> tuple[dict[str, list[str]], int]:
    """Entries of a header, in small letters, each with its lines; and where the data begin.

    Raises:
        FileFormatError: The header has no end.
    """
    end = _END.search(head)
    if end is None:
        raise FileFormatError(
            "its header has no end, a line :SCANIT_END: and then the bytes 1A 04 before the data: "
            "it is cut off or was changed as text, or is no Nanonis scan"
        )
    entries: dict[str, list[str]] = {}
    here: list[str] = []
    for line in decoded(head[: end.start()]).split("\n"):
        tag = _TAG.fullmatch(line.strip())
        if tag is None:
            here.append(line.strip(" \r"))
            continue
        here, key = [], tag[1].strip().casefold()
        # A comment may repeat entries; it stands behind the real ones, but before the channels.
        if key not in entries or key == "data_info":
            entries[key] = here
    return entries, end.end()


def channels_in(header: Header) -> list[Channel]:
    """The table of channels, in the order of the data.

    Raises:
        FileFormatError: It is missing, or it does not say how many images a channel has.
    """
    channels: list[Channel] = []
    images = 0
    for row in _table(header, "data_info", name_has_blanks=True):
        name, said = row.get("name", ""), row.get("direction", "")
        directions = _DIRECTIONS.get(said.casefold())
        if directions is None:
            raise FileFormatError(
                f"DATA_INFO gives the channel {shown(name)} the direction {shown(said)}; "
                f"known are {', '.join(_DIRECTIONS)}"
            )
        channels.append(Channel(name, row.get("unit", ""), directions, images))
        images += len(directions)
    if not channels:
        raise FileFormatError("its header lists no channels (DATA_INFO)")
    return channels


def _heights_among(channels: list[Channel]) -> tuple[Channel, int]:
    """The channel of heights and its pass, 0 in a scan without passes.

    The first pass, and forward, if there is a choice.
    """
    named = [(c, match) for c in channels if (match := _HEIGHTS.fullmatch(c.name))]
    if not named:
        there = ", ".join(f"{shown(c.name)} in {shown(c.unit)}" for c in channels)
        raise FileFormatError(f"there is no channel of heights (Z), only {there}")
    in_passes = [(int(match[1] or 0), c) for c, match in named]
    number_of_pass, channel = min(
        in_passes, key=lambda each: (each[0], each[1].directions[0] == "backward")
    )
    return channel, number_of_pass


def _table(header: Header, key: str, name_has_blanks: bool = False) -> list[dict[str, str]]:
    """Rows of a table by the names of its columns, in small letters.

    Args:
        header: Entries.
        key: Of the entry.
        name_has_blanks: In rows divided by single blanks, words too many belong to the name.
    """
    lines = [line for line in header.get(key, []) if line.strip()]
    if not lines:
        return []
    columns = [cell.casefold() for cell in _cells(lines[0], 0)]
    rows = []
    for line in lines[1:]:
        cells = _cells(line, len(columns))
        extra = len(cells) - len(columns)
        if extra > 0 and name_has_blanks and "name" in columns:
            at = columns.index("name")
            cells[at : at + extra + 1] = [" ".join(cells[at : at + extra + 1])]
        rows.append(dict(zip(columns, cells, strict=False)))
    return rows


def _cells(line: str, columns: int) -> list[str]:
    """What a line is divided into: by tabs, several blanks, or, without those, single ones."""
    cells = [cell.strip() for cell in _COLUMN.split(line.strip())]
    if len(cells) == 1:
        return line.split()
    return cells if len(cells) == columns else [cell for cell in cells if cell]


def _said(header: Header, key: str) -> str:
    """The first line of an entry that says anything; "" if it is missing or not available."""
    text = next((line.strip() for line in header.get(key, []) if line.strip()), "")
    return "" if text.casefold() in _NOTHING else text


def _shape(header: Header) -> tuple[int, int]:
    words = _said(header, "scan_pixels").split()
    if len(words) != 2 or not all(_WHOLE.fullmatch(word) for word in words):
        raise FileFormatError(
            f"SCAN_PIXELS says {shown(' '.join(words))}; pixels and lines are needed, such as 64 64"
        )
    return int(words[0]), int(words[1])


def _refuse_other_numbers(header: Header) -> None:
    said = _said(header, "scanit_type").split()
    if said in ([], ["FLOAT", "MSBFIRST"]):
        return
    because = ""
    if said == ["FLOAT", "LSBFIRST"]:
        because = " (files that say so are of either order of bytes, and programs disagree)"
    raise FileFormatError(
        f"SCANIT_TYPE says {shown(' '.join(said))}{because}; only FLOAT MSBFIRST is read: "
        f"save it so from the program that wrote it"
    )


def _range(header: Header) -> tuple[float | None, float | None]:
    words = _said(header, "scan_range").split()
    if not words or all(word.casefold() in _NOTHING for word in words):
        return None, None
    if len(words) != 2:
        raise FileFormatError(f"SCAN_RANGE says {shown(' '.join(words))}, not width and height")
    return size("SCAN_RANGE", words[0]), size("SCAN_RANGE", words[1])


def _upward(header: Header) -> bool:
    said = _said(header, "scan_dir").casefold()
    if said not in ("up", "down", ""):
        raise FileFormatError(f"SCAN_DIR says {shown(said)}; known are up and down")
    return said == "up"


def _as_on_the_screen(z: NDArray[np.float64], backward: bool, upward: bool) -> NDArray[np.float64]:
    """Turn an image from the order of recording: row 0 at the largest y, column 0 at the left."""
    # The first line of an upward scan is the lowest; a backward line begins at the right.
    return z[:: -1 if upward else 1, :: -1 if backward else 1]


def _feedback(header: Header, controllers: list[dict[str, str]]) -> bool | None:
    said = [_STATES.get(row.get("on", "").casefold()) for row in controllers]
    known = [state for state in said if state is not None]
    if known:
        return any(known)
    return _STATES.get(_said(header, "z-controller>controller status").casefold())


def _bias(header: Header) -> float | None:
    found = quantity(_said(header, "bias"), VOLTS)
    return number(_said(header, "bias>bias (v)")) if found is None else found


def _setpoint(header: Header, controllers: list[dict[str, str]]) -> float | None:
    # The one that is on holds the tip; it may hold a frequency shift, and no current.
    on = [row for row in controllers if _STATES.get(row.get("on", "").casefold())]
    said = [row.get("setpoint", "") for row in on or controllers]
    entry = "z-controller>setpoint"
    said.append(f"{_said(header, entry)} {_said(header, f'{entry} unit')}")
    return next((s for text in said if (s := quantity(text, AMPERES)) is not None), None)


def _of_pass(header: Header, number_of_pass: int) -> tuple[float | None, float | None, bool]:
    """Bias and setpoint that a pass has of its own, and whether it repeats recorded heights."""
    rows = _table(header, "multipass-config")
    forward = 2 * (number_of_pass - 1)  # two rows for every pass: forward, backward
    if not number_of_pass or not 0 <= forward < len(rows):
        return None, None, False
    row = rows[forward]

    def own(entry: str) -> float | None:
        if not _STATES.get(row.get(f"{entry}_override", "").casefold()):
            return None
        return number(row.get(f"{entry}_override_value", ""))

    played_back = bool(_STATES.get(row.get("playback", "").casefold()))
    return own("bias"), own("z_setp"), played_back
