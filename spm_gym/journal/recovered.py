"""Journals that SQLite's own recovery has written again: recognised, and continued.

Recovery (``sqlite3 damaged.sqlite .recover``) and dumps keep tables and rows, but not the number of
the format, which is 0 in what they write. Such a file is not an empty one.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from spm_gym.journal.reader import JOURNAL, SCANS, VERSION, JournalError, columns, lacking, schema

References = Callable[[Any], list[tuple[str, int | None]]]
"""Reads the state of a runner; tables and rows that it refers to, or a ValueError."""

UNLISTED = "unlisted"
"""Below the folder of the scans: files that no row of the journal lists."""


def begin_or_take_up(db: sqlite3.Connection, run: Path, references: References) -> None:
    """Give a journal without a format number its tables, or take up the ones that it has.

    Nothing is ever deleted: what cannot be continued is left as it is.

    Args:
        db: The journal.
        run: The run directory.
        references: Names the rows that a state refers to.

    Raises:
        JournalError: There are scans, but no rows of them, or the rows make no whole journal.
    """
    if db.execute("PRAGMA user_version").fetchone()[0]:
        return
    if not columns(db):
        refuse_scans_alone(run)
        # In one transaction: a kill must not leave half of the tables.
        db.executescript(f"BEGIN; {schema()} PRAGMA user_version = {VERSION}; COMMIT;")
        return
    for reason in _reasons_against(db, references):
        raise JournalError(f"{run / JOURNAL} was recovered, and cannot be continued: {reason}")
    last = db.execute("SELECT COALESCE(MAX(id), 0) FROM scans").fetchone()[0]
    moved = set_aside_scans(run, last)
    text = "the journal was recovered from a damaged one, and is taken up again"
    text += f"; {moved} scans without a row are in {SCANS}/{UNLISTED}" if moved else ""
    db.execute(
        "INSERT INTO events(wall, time, kind, text)"
        " SELECT ?, COALESCE(MAX(time), 0), 'recovered', ? FROM events",
        (time.time(), text),
    )
    # Last, in one commit with the event: a kill before it leaves a journal that is taken up again.
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.commit()


def refuse_scans_alone(run: Path) -> None:
    """Refuse to begin a journal where there are scans already.

    Raises:
        JournalError: There are.
    """
    if any((run / SCANS).glob("*")):
        raise JournalError(
            f"{run} has scans, but no {JOURNAL} that lists them: it cannot be continued; put a "
            "copy of the journal there, or begin another run"
        )


def set_aside_scans(run: Path, last: int) -> int:
    """Move scans that the journal does not list where new ones cannot overwrite them.

    Args:
        run: The run directory.
        last: Number of the last scan that has a row.

    Returns:
        How many.
    """
    unlisted = scans_beyond(run, last)
    if not unlisted:
        return 0
    folder = run / SCANS / UNLISTED
    number = 1
    while folder.exists():
        number += 1
        folder = folder.with_name(f"{UNLISTED}{number}")
    folder.mkdir()
    for file in unlisted:
        # Moved, not deleted: they may be the only trace of the rows that were lost.
        file.rename(folder / file.name)
    return len(unlisted)


def scans_beyond(run: Path, last: int) -> list[Path]:
    """List files of scans with numbers greater than ``last``."""
    files = (run / SCANS).glob("*.gsf")
    return [file for file in files if file.stem.isdecimal() and int(file.stem) > last]


def _reasons_against(db: sqlite3.Connection, references: References) -> Iterator[str]:
    """Explain why what was recovered is not enough to go on with."""
    if missing := lacking(db):
        yield f"it lacks {', '.join(missing[:5])}"
    # The quick one: it leaves out the indexes, which `spm-gym journal` compares with the tables.
    damage = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        yield f"it is still damaged ({damage})"
    # Without its state the run would begin again in an area whose used places it does not know.
    row = db.execute("SELECT runner FROM state").fetchone()
    if row is None:
        if any(db.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() for name in _STARTED):
            yield "the row of the table state, where the run was to go on, is lost"
        return
    try:
        needed = references(json.loads(row[0]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        yield f"the row of the table state is damaged ({type(error).__name__}: {error})"
        return
    for table, number in needed:
        if number is not None and not _has(db, table, number):
            yield f"row {number} of the table {table}, with which the run was to go on, is lost"


_STARTED = ("scans", "acts", "areas")


def _has(db: sqlite3.Connection, table: str, number: int) -> bool:
    # The key of areas is called number, that of the others id: rowid is the key of all.
    return db.execute(f"SELECT 1 FROM {table} WHERE rowid = ?", (number,)).fetchone() is not None
