"""The table of a manifest, as people and their spreadsheets write it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from spm_gym.imaging.files import FileFormatError

FILE, LABEL, SESSION, CONSENSUS = "file", "label", "session", "consensus"
BY = "by "
"""Prefix of the columns of people."""
BREAKS = re.compile("[\0\r\n]")
"""No cell of a column of ours may have one."""

_FORMULA = r"\s*[=+\-@＝＋－＠]"
_BEGINS_FORMULA = re.compile(rf"{_FORMULA}|[\t\r]")
"""Cells that spreadsheets calculate."""

_SPLIT_OFF = rf"[\s'\"]*{_FORMULA}"
_HIDES_FORMULA = re.compile(rf"[;\t]{_SPLIT_OFF}")
_MAY_HIDE_FORMULA = re.compile(rf"[,;\t]{_SPLIT_OFF}")
"""Formulas behind what they take for the end of a cell, which depends on the country."""

_OURS = (FILE, LABEL, SESSION, CONSENSUS)
_DELIMITERS = ",;\t"
_ADVICE = "save it as comma-separated values in UTF-8, with the columns file and label"

Row = tuple[str, ...]


class Table(NamedTuple):
    """Contents of a file.

    Attributes:
        header: The columns; ours are in small letters.
        rows: With their lines in the file; all as wide as the widest, as is the header.
        delimiter: Between cells: a comma, a semicolon or a tab.
    """

    header: list[str]
    rows: list[tuple[int, Row]]
    delimiter: str


def read_table(path: Path) -> Table:
    """Read a file.

    Raises:
        FileFormatError: It is not such a table; the message says where and what to do.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise FileFormatError(f"{path}: not a readable CSV file: {error}") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: not a readable CSV file: {error}: {_ADVICE}") from error
    delimiter, header = _columns(path, text)
    rows = [(line, tuple(row)) for line, row in _lines(path, text, delimiter) if any(row)][1:]
    for line, row in rows:
        _refuse_breaks(path, line, header, row)
    width = max(len(header), *(len(row) for _, row in rows)) if rows else len(header)
    header += [""] * (width - len(header))
    filled = [(line, row + ("",) * (width - len(row))) for line, row in rows]
    return Table(header, filled, delimiter)


def hides_formula(file: str) -> bool:
    """Tell whether spreadsheets take the rest of a name for a formula, however it is quoted."""
    return _HIDES_FORMULA.search(file) is not None


def harmless(text: str) -> str:
    """Rewrite the name of a file or a session so that no spreadsheet takes it for a formula."""
    return f"./{text}" if _BEGINS_FORMULA.match(text) else text


def harmless_session(name: str) -> str:
    """Rewrite the name of a session so that no spreadsheet calculates or divides it."""
    name = BREAKS.sub(" ", name)
    return harmless(re.sub(r"[,;\t]", " ", name) if _MAY_HIDE_FORMULA.search(name) else name)


def _columns(path: Path, text: str) -> tuple[str, list[str]]:
    """Find the delimiter, and read the header."""
    # Not by `csv.Sniffer`, which guesses from the rows and is fooled by names with commas.
    for delimiter in _DELIMITERS:
        _, first = next(_lines(path, text, delimiter, strict=False), (1, []))
        header = [_column_name(cell) for cell in first]
        if {FILE, LABEL} <= set(header):
            break
    else:
        found = text.partition("\n")[0].strip()[:200] or "none"
        raise FileFormatError(
            f"{path}: needs the columns file and label; found are {found}: {_ADVICE}"
        )
    for name in header:
        if header.count(name) > 1 and _is_ours(name):
            raise FileFormatError(f"{path}: has the column {name!r} twice")
    return delimiter, header


def _lines(
    path: Path, text: str, delimiter: str, strict: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """Read rows with the lines in which they start.

    Strictly, for a quotation mark that is missing would swallow all rows up to the next one.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise FileFormatError(
                f"{path}: not a readable CSV file: line {line}: {error}: is a quotation mark "
                "missing or too many?"
            ) from error


def _refuse_breaks(path: Path, line: int, header: list[str], row: Row) -> None:
    for name, cell in zip(header, row, strict=False):
        if _is_ours(name) and BREAKS.search(cell):
            raise FileFormatError(
                f"{path}: line {line} has a line break (or a NUL) in the column {name!r}: is a "
                "quotation mark missing or too many?"
            )


def _column_name(cell: str) -> str:
    name = cell.strip()
    if name.lower() in _OURS:
        return name.lower()
    return name if name.startswith(BY) else cell


def _is_ours(name: str) -> bool:
    return name in _OURS or name.startswith(BY)
