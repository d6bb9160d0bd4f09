"""Scan files of Nanonis controllers (.sxm), and of programs that write such files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spm_gym.imaging.files.text import (
    AMPERES,
    VOLTS,
    data_length,
    decoded,
    metres,
    number,
    quantity,
    quoted,
    size,
)
from spm_gym.imaging.files.topography import FileFormatError, Topography

_LONGEST_HEADER = 2**20
# A comment may contain the words, so only a line of its own before the data mark is the end.
_END = re.compile(rb"^[ \t]*:SCANIT_END:\s*\x1a\x04", re.MULTILINE)
_TAG = re.compile(r":(.+):")
_WHOLE = re.compile(r"[1-9]\d{0,6}")
_COLUMN = re.compile(r"\t| {2,}")
# Names of a channel of heights, with the pass of a multipass scan, and with or without a unit.
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

Entries = Mapping[str, list[str]]
"""Lines of each entry of a header, by its name in small letters."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A recorded signal.

    Attributes:
        name: Name as written in the file.
        unit: Unit of its values.
        directions: Directions of its images, in the order of the data.
        first_image: Index of the first of them among all images of the file.
    """

    name: str
    unit: str
    directions: tuple[str, ...]
    first_image: int


def read_sxm(path: Path) -> Topography:
    """Read the heights of a scan: forward, or backward if only that was recorded.

    Of a scan of several passes it is the first one.

    Raises:
        FileFormatError: Damaged, without heights, or in a number format that programs interpret
            differently.
    """
    # Only the header and one image are read: a file may hold many images of several megabytes.
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
    backward = channel.directions[0] == "backward"
    return Topography(
        # The file has the order of recording: the first line of an upward scan is the lowest, and a
        # backward line begins at the right.
        z[:: -1 if _upward(header) else 1, :: -1 if backward else 1],
        width,
        height,
        feedback,
        _bias(header) if bias is None else bias,
        _setpoint(header, table) if setpoint is None else setpoint,
    )


def split_header(head: bytes) -> tuple[dict[str, list[str]], int]:
    """Split a header into entries, and find the first byte of the data.

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
        # A comment may look like entries. It follows the real ones, so the first ones count, but it
        # precedes the table of channels, so there the last one counts.
        if key not in entries or key == "data_info":
            entries[key] = here
    return entries, end.end()


def channels_in(header: Entries) -> list[Channel]:
    """Read the table of channels, in the order of the data.

    Raises:
        FileFormatError: It is missing, or the number of images of a channel is unknown.
    """
    channels: list[Channel] = []
    images = 0
    for row in _table(header, "data_info", name_has_blanks=True):
        name, direction = row.get("name", ""), row.get("direction", "")
        directions = _DIRECTIONS.get(direction.casefold())
        if directions is None:
            raise FileFormatError(
                f"DATA_INFO gives the channel {quoted(name)} the direction {quoted(direction)}; "
                f"known are {', '.join(_DIRECTIONS)}"
            )
        channels.append(Channel(name, row.get("unit", ""), directions, images))
        images += len(directions)
    if not channels:
        raise FileFormatError("its header lists no channels (DATA_INFO)")
    return channels


def _heights_among(channels: list[Channel]) -> tuple[Channel, int]:
    """Choose the channel of heights: of the first pass, and forward, if there are several.

    Returns:
        The channel, and its pass counted from 1; 0 in a scan without passes.
    """
    named = [(c, match) for c in channels if (match := _HEIGHTS.fullmatch(c.name))]
    if not named:
        there = ", ".join(f"{quoted(c.name)} in {quoted(c.unit)}" for c in channels)
        raise FileFormatError(f"there is no channel of heights (Z), only {there}")
    in_passes = [(int(match[1] or 0), c) for c, match in named]
    # Later passes may repeat the heights of the first one at another bias, with the feedback off.
    number_of_pass, channel = min(
        in_passes, key=lambda each: (each[0], each[1].directions[0] == "backward")
    )
    return channel, number_of_pass


def _table(header: Entries, key: str, name_has_blanks: bool = False) -> list[dict[str, str]]:
    """Read the rows of a table, by the names of its columns in small letters.

    Args:
        header: Entries of the header.
        key: Name of the entry.
        name_has_blanks: Whether surplus words in rows divided by single blanks belong to the name.
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
    """Divide a line at tabs and several blanks or, if it has neither, at single blanks."""
    cells = [cell.strip() for cell in _COLUMN.split(line.strip())]
    if len(cells) == 1:
        return line.split()
    return cells if len(cells) == columns else [cell for cell in cells if cell]


def _entry(header: Entries, key: str) -> str:
    """Return the first line of an entry with content; "" if it is missing or not available."""
    text = next((line.strip() for line in header.get(key, []) if line.strip()), "")
    return "" if text.casefold() in _NOTHING else text


def _shape(header: Entries) -> tuple[int, int]:
    words = _entry(header, "scan_pixels").split()
    if len(words) != 2 or not all(_WHOLE.fullmatch(word) for word in words):
        raise FileFormatError(
            f"SCAN_PIXELS is {quoted(' '.join(words))}; pixels and lines are needed, such as 64 64"
        )
    return int(words[0]), int(words[1])


def _refuse_other_numbers(header: Entries) -> None:
    words = _entry(header, "scanit_type").split()
    if words in ([], ["FLOAT", "MSBFIRST"]):
        return
    because = ""
    if words == ["FLOAT", "LSBFIRST"]:
        because = " (such files have either order of bytes, and programs disagree)"
    raise FileFormatError(
        f"SCANIT_TYPE is {quoted(' '.join(words))}{because}; only FLOAT MSBFIRST is read: "
        f"save it so from the program that wrote it"
    )


def _range(header: Entries) -> tuple[float | None, float | None]:
    words = _entry(header, "scan_range").split()
    if not words or all(word.casefold() in _NOTHING for word in words):
        return None, None
    if len(words) != 2:
        raise FileFormatError(f"SCAN_RANGE is {quoted(' '.join(words))}, not width and height")
    return size("SCAN_RANGE", words[0]), size("SCAN_RANGE", words[1])


def _upward(header: Entries) -> bool:
    direction = _entry(header, "scan_dir").casefold()
    if direction not in ("up", "down", ""):
        raise FileFormatError(f"SCAN_DIR is {quoted(direction)}; known are up and down")
    return direction == "up"


def _feedback(header: Entries, controllers: list[dict[str, str]]) -> bool | None:
    states = [_STATES.get(row.get("on", "").casefold()) for row in controllers]
    known = [state for state in states if state is not None]
    if known:
        return any(known)
    return _STATES.get(_entry(header, "z-controller>controller status").casefold())


def _bias(header: Entries) -> float | None:
    found = quantity(_entry(header, "bias"), VOLTS)
    return number(_entry(header, "bias>bias (v)")) if found is None else found


def _setpoint(header: Entries, controllers: list[dict[str, str]]) -> float | None:
    # The controller that is on holds the tip; it may hold a frequency shift instead of a current.
    on = [row for row in controllers if _STATES.get(row.get("on", "").casefold())]
    texts = [row.get("setpoint", "") for row in on or controllers]
    entry = "z-controller>setpoint"
    texts.append(f"{_entry(header, entry)} {_entry(header, f'{entry} unit')}")
    return next((s for text in texts if (s := quantity(text, AMPERES)) is not None), None)


def _of_pass(header: Entries, number_of_pass: int) -> tuple[float | None, float | None, bool]:
    """Read bias and setpoint of one pass, and whether it plays back recorded heights."""
    rows = _table(header, "multipass-config")
    forward = 2 * (number_of_pass - 1)  # the table has two rows for each pass: forward, backward
    if not number_of_pass or not 0 <= forward < len(rows):
        return None, None, False
    row = rows[forward]

    def own(entry: str) -> float | None:
        if not _STATES.get(row.get(f"{entry}_override", "").casefold()):
            return None
        return number(row.get(f"{entry}_override_value", ""))

    played_back = bool(_STATES.get(row.get("playback", "").casefold()))
    return own("bias"), own("z_setp"), played_back
