"""The manifest of a folder of labelled images: a CSV file that people can read and edit.

Columns: ``file`` (relative to the folder), ``label`` (what training takes), optionally ``session``,
one "by NAME" for every person who labels, and ``consensus``, the label that they chose together
where they do not agree. All other columns, all rows and their order are kept as they are, and so
are semicolons or tabs in place of the commas.
"""

from __future__ import annotations

import codecs
import copy
import csv
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from spm_gym.atomic_file import written_whole
from spm_gym.datasets.manifest_table import (
    BREAKS,
    BY,
    CONSENSUS,
    FILE,
    LABEL,
    SESSION,
    Row,
    harmless,
    harmless_session,
    hides_formula,
    read_table,
)
from spm_gym.imaging.files import FileFormatError

MANIFEST = "manifest.csv"
LABELS = ("good", "bad", "sample")
DISPUTED = "disputed"
EARLIER = "earlier"
"""Stands for the person who gave the labels that have no name."""

NO_FILE = "."
"""Stands for the file of a row that names none."""

_NAME = re.compile(r"[^\W\d_][\w .'-]{0,39}")


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """Labels of an image.

    Attributes:
        by: Label by name of the person; of `EARLIER` it may be any word.
        consensus: Label that all agreed on, or "".
        label: The one that training takes; people may have edited it, so that it does not follow
            from the others.
    """

    by: dict[str, str]
    consensus: str
    label: str


class Manifest:
    """A manifest in memory.

    A label without any name counts as given by `EARLIER`; one that differs from those with a name
    was edited by hand and counts as consensus.

    Attributes:
        entries: Labels by file.
    """

    def __init__(self) -> None:
        """Make an empty manifest."""
        self.entries: dict[str, ImageLabels] = {}
        self._header = [FILE, LABEL, SESSION]
        self._rows: dict[str, Row] = {}
        self._encoding = "utf-8"
        self._delimiter = ","

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a file.

        Raises:
            FileFormatError: It makes no sense; the message says where.
        """
        manifest = cls()
        table = read_table(path)
        manifest._header, manifest._delimiter = table.header, table.delimiter
        if path.read_bytes().startswith(codecs.BOM_UTF8):  # for the sake of Excel
            manifest._encoding = "utf-8-sig"
        for line, row in table.rows:
            file = _plain(row[manifest._header.index(FILE)])
            if file in manifest._rows:
                raise FileFormatError(f"{path}: line {line} lists {file!r} again")
            manifest._rows[file] = row
            try:
                manifest.entries[file] = manifest._labels_of(row)
            except _Contradiction as error:
                raise FileFormatError(f"{path}: line {line}: {error}") from None
        return manifest

    def write(self, path: Path) -> None:
        """Write it; the file is the old one or the new one, never half of one."""
        with (
            written_whole(path) as beside,
            beside.open("w", encoding=self._encoding, newline="") as file,
        ):
            writer = csv.writer(file, delimiter=self._delimiter)
            writer.writerow(self._header)
            writer.writerows(self._rows.values())

    def copy(self) -> Manifest:
        """Make an independent copy, quickly."""
        other = copy.copy(self)
        other._header, other._rows = list(self._header), dict(self._rows)
        other.entries = dict(self.entries)
        return other

    @property
    def labellers(self) -> list[str]:
        """Names of all who have a column."""
        return [name[len(BY) :] for name in self._header if name.startswith(BY)]

    def session(self, file: str) -> str:
        """Return the session of a listed file, or ""."""
        return self._cell(self._rows[file], SESSION)

    def drop(self, file: str) -> None:
        """List a file no more."""
        self._rows.pop(file, None)
        self.entries.pop(file, None)

    def add(self, file: str, session: str, label: str = "") -> None:
        """List a file that is not listed."""
        self._rows[file] = ("",) * len(self._header)
        self.entries[file] = ImageLabels({}, "", "")
        self._set(file, FILE, harmless(file))
        if session:
            self._set(file, SESSION, harmless_session(session))
        if label:
            self._set(file, LABEL, label)
            self.entries[file] = ImageLabels({EARLIER: label}, "", label)

    def label_by(self, file: str, name: str) -> str:
        """Return the word in a person's column, which may be none of `LABELS`, or ""."""
        return self._cell(self._rows[file], _column(name))

    def set_label(self, file: str, name: str, word: str) -> None:
        """Note the label that a person gives a listed file; "" takes it back."""
        known = self.entries[file]
        by = {other: label for other, label in known.by.items() if other != name}
        if _word(word) in LABELS:
            by[name] = _word(word)
        # Labels without a name get a column now, or the new one would overwrite them.
        if EARLIER in by:
            self._set(file, _column(EARLIER), by[EARLIER])
        self._set(file, _column(name), word)
        self._update(file, by, known.consensus)

    def set_consensus(self, file: str, consensus: str) -> None:
        """Note the consensus of all on a listed file; "" takes it back."""
        self._update(file, self.entries[file].by, consensus)

    def _update(self, file: str, by: dict[str, str], consensus: str) -> None:
        label = training_label(by, consensus)
        if consensus or CONSENSUS in self._header:
            self._set(file, CONSENSUS, consensus)
        self._set(file, LABEL, label)
        self.entries[file] = ImageLabels(by, consensus, label)

    def _labels_of(self, row: Row) -> ImageLabels:
        label, consensus = _word(self._cell(row, LABEL)), _word(self._cell(row, CONSENSUS))
        words = {name: _word(self._cell(row, _column(name))) for name in self.labellers}
        by = {n: word for n, word in words.items() if word in LABELS or (n == EARLIER and word)}
        follows = training_label(by, consensus)
        # An empty or disputed cell is no opinion: somebody may have cleared it.
        if label in ("", DISPUTED, follows):
            return ImageLabels(by, consensus, label)
        if consensus:
            raise _Contradiction(
                f"its label is {label!r} but its consensus {consensus!r}: make them equal"
            )
        if by:
            return ImageLabels(by, label, label)
        return ImageLabels({EARLIER: label}, "", label)

    def _cell(self, row: Row, column: str) -> str:
        if column not in self._header:
            return ""
        place = self._header.index(column)
        return row[place] if place < len(row) else ""

    def _set(self, file: str, column: str, value: str) -> None:
        if column not in self._header:
            self._header.append(column)
        cells = list(self._rows[file])
        cells += [""] * (len(self._header) - len(cells))
        cells[self._header.index(column)] = value
        self._rows[file] = tuple(cells)


class _Contradiction(ValueError):
    """A row contradicts itself."""


def training_label(by: dict[str, str], consensus: str) -> str:
    """Determine the label that training takes.

    The consensus if there is one, else the label that everybody gave, `DISPUTED` if they differ, or
    whatever was there before.
    """
    given = {label for label in by.values() if label in LABELS}
    if consensus or not given:
        return consensus or by.get(EARLIER, "")
    return DISPUTED if len(given) > 1 else given.pop()


def read_listed(path: Path) -> Iterator[tuple[str, str, str]]:
    """Read file, label and session of every row of a manifest.

    Raises:
        FileFormatError: It makes no sense.
    """
    manifest = Manifest.read(path)
    for file, labels in manifest.entries.items():
        yield file, labels.label, manifest.session(file)


def unlistable(file: str) -> str:
    """Explain why no manifest can list a file of this name; "" if one can."""
    if BREAKS.search(file):
        return "its name has a line break"
    try:
        file.encode()
    except UnicodeEncodeError:
        return "its name is no UTF-8 text"
    if hides_formula(file):
        return "spreadsheets would take a part of its name, behind a semicolon, for a formula"
    return ""


def labeller_name(text: str) -> str | None:
    """Normalise a name for the head of a column; None if it cannot be one.

    It begins with a letter and has at most 40 letters, digits, blanks and ``_ . ' -``.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    return name if _NAME.fullmatch(name) and name.casefold() != EARLIER else None


def _column(name: str) -> str:
    return BY + name


def _word(cell: str) -> str:
    return cell.strip().lower()


def _plain(file: str) -> str:
    """Give a file always the same name."""
    return PurePosixPath(file).as_posix()
