"""Scans of a run, one at a time: which there are, where they lie, what was done after them."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from spm_gym.analysis.queries import single
from spm_gym.journal.conditions import IMAGE, UNDECIDED, WHOLE
from spm_gym.journal.reader import Label
from spm_gym.runner.run_state import RunState
from spm_gym.runner.states import State

_KEPT = f"label IS NOT '{Label.DISCARDED}'"
"""Condition for scans that can be displayed: the files of the others tell nothing of the run."""

# What is wrong with a preview its reason says, for its label is always the same.
_USABLE = (
    f"z IS NOT NULL AND label IS NOT '{Label.UNUSABLE}'"
    f" AND (label IS NOT '{Label.PREVIEW}' OR reason IN ('', '{Label.UNKNOWN}'))"
)
"""Condition for scans that show something of the sample."""


@dataclass(frozen=True, slots=True)
class ActedOn:
    """An action that was decided on a scan: its place, m, and its name."""

    x: float
    y: float
    name: str


@dataclass(frozen=True, slots=True)
class ScanFacts:
    """A scan among the others.

    Attributes:
        row: Of the table ``scans``.
        number: Of the image, from 1; 0 for a partial scan or a preview.
        before: Scan before it; None if it is the first.
        after: Scan after it; None if it is the last.
        actions: Done after it.
        is_decided_on: Whether an action is about to be chosen on it.
        stands_for: Row of the last scan, if that is unusable and this one is the last usable one.
    """

    row: sqlite3.Row
    number: int
    before: int | None
    after: int | None
    actions: tuple[ActedOn, ...]
    is_decided_on: bool
    stands_for: sqlite3.Row | None = None

    @property
    def unknown(self) -> bool:
        """Whether it is an image or preview that its classifier does not know."""
        # The label of a preview says that it is one; what it came to is the reason.
        return Label.UNKNOWN in (self.row["label"], self.row["reason"])


def scan_facts(
    db: sqlite3.Connection, run_state: RunState | None, number: int | None, usable: bool = False
) -> ScanFacts | None:
    """Find the last scan up to a number, or the first one after it; None if there is none.

    Args:
        db: The journal.
        run_state: State of the run; None before its first transition.
        number: Of the scan; None for the last one.
        usable: Take the last usable one, if there is any, where no number is given.
    """
    row = _nearest(db, number)
    if row is None:
        return None
    stands_for = None
    if usable and number is None:
        best = _first(db, _USABLE, "DESC", ()) or row
        if best["id"] != row["id"]:
            row, stands_for = best, row
    return ScanFacts(
        row=row,
        number=_image_number(db, row),
        before=single(db, f"SELECT MAX(id) FROM scans WHERE id < ? AND {_KEPT}", row["id"]),
        after=single(db, f"SELECT MIN(id) FROM scans WHERE id > ? AND {_KEPT}", row["id"]),
        actions=tuple(_actions(db, row)),
        is_decided_on=_rests_on(run_state, row["id"]),
        stands_for=stands_for,
    )


def _rests_on(run_state: RunState | None, scan: int) -> bool:
    """Tell whether the next decision rests on this scan and has not been taken."""
    if run_state is None or run_state.state is not State.CONDITION:
        return False
    episode = run_state.conditioning.episode
    return episode is not None and episode.scan == scan


def scan_row(db: sqlite3.Connection, number: int | None) -> sqlite3.Row | None:
    """Read the row of a scan; None if there is none."""
    row: sqlite3.Row | None = db.execute("SELECT * FROM scans WHERE id = ?", (number,)).fetchone()
    return row


def last_scan_number(db: sqlite3.Connection) -> int:
    """Return the number of the last scan; 0 before the first."""
    return single(db, "SELECT MAX(id) FROM scans") or 0


def scan_at(db: sqlite3.Connection, area: int | None, x: float, y: float) -> int | None:
    """Return the last image or preview that covers a place (m) of an area; None without one."""
    number: int | None = single(
        db,
        f"SELECT MAX(id) FROM scans WHERE area = ? AND {WHOLE}"
        # Rotation is neglected: a click near the corner of a rotated image may miss it.
        " AND MAX(ABS(x - ?), ABS(y - ?)) <= size / 2",
        area,
        x,
        y,
    )
    return number


def spread_scans(db: sqlite3.Connection, label: Label, most: int) -> list[sqlite3.Row]:
    """Read at most so many scans with a label, spread evenly over the run."""
    count = single(db, "SELECT COUNT(*) FROM scans WHERE label = ?", label) or 0
    number = min(count, most)
    query = "SELECT * FROM scans WHERE label = ? ORDER BY id LIMIT 1 OFFSET ?"
    return [
        db.execute(query, (label, count * place // number)).fetchone() for place in range(number)
    ]


def usable_files(db: sqlite3.Connection) -> list[sqlite3.Row]:
    """Read ``file`` and ``area`` of the whole images that show a probe.

    That are those that a classifier saw, and those of a survey, which none has seen.
    """
    unclassified = f"'{Label.UNKNOWN}', '{Label.UNCLASSIFIED}'"
    query = (
        f"SELECT file, area FROM scans WHERE {IMAGE} AND label IS NOT NULL"
        f" AND (probability IS NOT NULL OR label IN ({unclassified})) ORDER BY id"
    )
    return db.execute(query).fetchall()


def probabilities(db: sqlite3.Connection) -> list[tuple[str, float, float]]:
    """Read label (`UNDECIDED` for none), elapsed time and probability of classified scans."""
    query = (
        f"SELECT COALESCE(label, '{UNDECIDED}'), elapsed, probability FROM scans"
        " WHERE probability IS NOT NULL ORDER BY id"
    )
    return [(label, elapsed, value) for label, elapsed, value in db.execute(query)]


def unknown_times(db: sqlite3.Connection) -> list[float]:
    """Read the elapsed times (s) of the unknown images, which have no probability."""
    query = f"SELECT elapsed FROM scans WHERE label = '{Label.UNKNOWN}' ORDER BY id"
    return [elapsed for (elapsed,) in db.execute(query)]


def _nearest(db: sqlite3.Connection, number: int | None) -> sqlite3.Row | None:
    if number is None:
        return _first(db, "1", "DESC", ())
    before = _first(db, "id <= ?", "DESC", (number,))
    return before or _first(db, "id > ?", "ASC", (number,))


def _first(
    db: sqlite3.Connection, condition: str, order: str, values: tuple[int, ...]
) -> sqlite3.Row | None:
    query = f"SELECT * FROM scans WHERE {condition} AND {_KEPT} ORDER BY id {order} LIMIT 1"
    found: sqlite3.Row | None = db.execute(query, values).fetchone()
    return found


def _image_number(db: sqlite3.Connection, row: sqlite3.Row) -> int:
    if row["fraction"] != 1 or row["lines"] < row["pixels"]:
        return 0
    return single(db, f"SELECT COUNT(*) FROM scans WHERE id <= ? AND {IMAGE}", row["id"]) or 0


def _actions(db: sqlite3.Connection, row: sqlite3.Row) -> list[ActedOn]:
    # The first decision of an episode rests on the image from before it.
    episode = row["episode"]
    if episode is None:
        episode = single(db, "SELECT id FROM episodes WHERE first_scan = ?", row["id"])
    steps = db.execute(
        "SELECT name, details FROM steps JOIN acts ON acts.number = steps.act"
        " WHERE steps.episode = ? AND steps.scan = ?",
        (episode, row["id"]),
    )
    detailed = [(step["name"], json.loads(step["details"])) for step in steps]
    return [ActedOn(where["x"], where["y"], name) for name, where in detailed if "x" in where]
