"""The table of commands, read from ``commands.txt``, in the dialect of a release."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

RELEASES = (10862, 13742, 14718)
"""Releases whose protocol documents the table was compared with."""

RT_INDEXES_SINCE = 11798
"""From this release on scans count channels as the list of signals does; before, by 24 slots."""

_FIELD = re.compile(
    r"(?P<type>u16|u32|i32|f32|f64|strs|str|packed)(?P<optional>\?)?"
    r"(?P<array>\[\]\[\]|\[\w*\])?(?:=(?P<repeats>\w+)(?:\((?P<of>\w+)\))?)? (?P<name>[a-z]\w*)"
)
_HEAD = re.compile(r"(?P<name>[A-Za-z0-9]+\.\w+)( \*)?( >=(?P<since>\d+))?( <(?P<until>\d+))?")


@dataclass(frozen=True, slots=True)
class Field:
    """One argument or return value.

    Attributes:
        type: Of the value or of the elements.
        name: Key of the value.
        array: "" for a single value, "counted" for an array behind its own count, "matrix" for one
            behind its rows and columns, else the name of the field that holds the count.
        repeats: Name of the field whose value this one repeats, or "".
        bytes_of: Name of the field whose elements' size in bytes this one holds, or "".
        optional: Whether it may be missing at the end of a request.
    """

    type: str
    name: str
    array: str = ""
    repeats: str = ""
    bytes_of: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """Layout of one command."""

    name: str
    request: tuple[Field, ...]
    reply: tuple[Field, ...]


@cache
def commands(release: int) -> dict[str, Command]:
    """All commands that a release knows, by name."""
    # A layout that has changed stands there once for each range of releases.
    return {
        command.name: command
        for since, until, command in _table()
        if since <= release and (until is None or release < until)
    }


@cache
def _table() -> list[tuple[int, int | None, Command]]:
    text = (resources.files(__package__) / "commands.txt").read_text(encoding="utf-8")
    return [_line(line) for line in text.splitlines() if "|" in line and line[0] != "#"]


def _line(line: str) -> tuple[int, int | None, Command]:
    head, request, reply = (part.strip() for part in line.split(" | "))
    match = _HEAD.fullmatch(head)
    assert match is not None, f"commands.txt: {line}"
    until = match["until"]
    command = Command(match["name"], _fields(request), _fields(reply))
    return int(match["since"] or 0), int(until) if until else None, command


def _fields(text: str) -> tuple[Field, ...]:
    if text == "-":
        return ()
    return tuple(_field(part.strip()) for part in text.split(";"))


def _field(text: str) -> Field:
    match = _FIELD.match(text)
    assert match is not None, f"commands.txt: {text}"
    brackets = match["array"]
    # "[]" is an array behind its own count, "[n]" one behind a count that others share.
    array = {None: "", "[]": "counted", "[][]": "matrix"}.get(
        brackets, (brackets or "").strip("[]")
    )
    repeats, of = match["repeats"] or "", match["of"] or ""
    return Field(
        match["type"], match["name"], array, "" if of else repeats, of, bool(match["optional"])
    )
