"""Events of a run, newest first."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from spm_gym.analysis.queries import count_rows

# A long run has tens of thousands of events, and the page asks for them every other second.
FIRST_ROWS = 30
MOST_ROWS = 3000


@dataclass(frozen=True, slots=True)
class EventLog:
    """Some of the events.

    Attributes:
        rows: Of the table ``events``, newest first.
        kinds: How many there are of every kind.
        more: How many older ones there are of that kind.
    """

    rows: list[sqlite3.Row]
    kinds: dict[str, int]
    more: int


def event_log(db: sqlite3.Connection, kind: str, rows: int) -> EventLog:
    """Read the last events.

    Args:
        db: The journal.
        kind: Only these; "" for all.
        rows: At most so many, and at most `MOST_ROWS`.
    """
    kinds = dict(
        map(tuple, db.execute("SELECT kind, COUNT(*) FROM events GROUP BY kind ORDER BY kind"))
    )
    # The page lets anybody ask for any number of rows.
    rows = min(rows, MOST_ROWS)
    found = db.execute(
        "SELECT * FROM events WHERE ? IN ('', kind) ORDER BY id DESC LIMIT ?", (kind, rows)
    ).fetchall()
    total = kinds.get(kind, 0) if kind else sum(kinds.values())
    return EventLog(found, kinds, total - len(found))


def last_event_number(db: sqlite3.Connection) -> int:
    """Return the number of the newest event; 0 without any."""
    return count_rows(db, "SELECT COALESCE(MAX(id), 0) FROM events")


def events_after(db: sqlite3.Connection, number: int) -> list[sqlite3.Row]:
    """Read the events that are newer than one, oldest first."""
    return db.execute("SELECT * FROM events WHERE id > ? ORDER BY id", (number,)).fetchall()


def last_trouble(db: sqlite3.Connection) -> sqlite3.Row | None:
    """Read the newest event that is a trouble."""
    return _single(db, "SELECT * FROM events WHERE kind = 'trouble' ORDER BY id DESC LIMIT 1")


def last_failure(db: sqlite3.Connection) -> sqlite3.Row | None:
    """Read the newest act that was not carried out, or of which nobody knows."""
    return _single(
        db,
        "SELECT * FROM acts WHERE result IN ('failed', 'unknown', 'refused')"
        " ORDER BY id DESC LIMIT 1",
    )


def _single(db: sqlite3.Connection, query: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(query).fetchone()
    return row
