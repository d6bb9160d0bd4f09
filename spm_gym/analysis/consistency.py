"""Whether the journal of a run agrees with itself and with the files beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from spm_gym.analysis.queries import count_rows
from spm_gym.imaging.files import FileFormatError, read_gsf_scan
from spm_gym.journal.reader import SCANS, Label, scan_file
from spm_gym.runner.run_state import RunState
from spm_gym.runner.states import State

_SCANNING = (State.PARTIAL, State.IMAGE)
_REFERENCES = (
    ("scans", "session", "sessions", "id"),
    ("scans", "area", "areas", "number"),
    ("scans", "episode", "episodes", "id"),
    ("acts", "session", "sessions", "id"),
    ("marks", "area", "areas", "number"),
    ("episodes", "area", "areas", "number"),
    ("episodes", "first_scan", "scans", "id"),
    ("steps", "episode", "episodes", "id"),
    ("steps", "scan", "scans", "id"),
    ("steps", "scan_after", "scans", "id"),
    ("steps", "act", "acts", "number"),
    ("recoveries", "area", "areas", "number"),
)
"""Table and column that name a row of another table, and the column of that."""

_LATER_ACTS = "SELECT 1 FROM acts AS b WHERE b.id > a.id AND b.number > 0 AND b.act <> 'withdraw'"
"""A run that is interrupted in the middle of an act withdraws all the same."""

_RULES = (
    (
        f"SELECT id FROM acts AS a WHERE result IS NULL AND EXISTS ({_LATER_ACTS})",
        "act row {}: no result, although other acts came after it",
    ),
    (
        "SELECT number, COUNT(*) FROM acts WHERE number IS NOT NULL"
        " GROUP BY number HAVING COUNT(*) > 1",
        "act {}: recorded {} times",
    ),
    (
        "SELECT id FROM acts WHERE result IS NOT NULL AND wall_result IS NULL",
        "act row {}: a result without its time",
    ),
    (
        "SELECT id FROM acts WHERE result IS NULL AND wall_result IS NOT NULL",
        "act row {}: the time of a result, but no result",
    ),
    (
        "SELECT act, COUNT(*) FROM steps WHERE act IS NOT NULL GROUP BY act HAVING COUNT(*) > 1",
        "act {}: claimed by {} steps",
    ),
    (
        "SELECT steps.id, acts.number, acts.act FROM steps JOIN acts ON acts.number = steps.act"
        " WHERE acts.act NOT IN ('pulse', 'dip', 'stall')",
        "step row {}: its act {} is a {}",
    ),
    (
        "SELECT id FROM steps WHERE reward IS NOT NULL AND scan_after IS NULL",
        "step row {}: a reward, but no image that it was for",
    ),
    (
        f"SELECT id, probability FROM scans WHERE label = '{Label.UNKNOWN}'"
        " AND probability IS NOT NULL",
        "scan {}: unknown, yet its probability is {}",
    ),
    (
        "SELECT episode FROM steps GROUP BY episode HAVING COUNT(DISTINCT policy) > 1",
        "episode {}: more than one policy has chosen its actions",
    ),
    (
        "SELECT e.id, e.actions, (SELECT COUNT(*) FROM steps WHERE episode = e.id) AS steps"
        " FROM episodes AS e WHERE e.actions <> steps",
        "episode {}: says {} actions, has {} steps",
    ),
)
"""Queries for rows that must not be, and a sentence about each."""


def scan_files(run: Path) -> set[str]:
    """List the finished files among the scans, relative to the run directory."""
    folder = run / SCANS
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return {f"{SCANS}/{name}" for name in names if not name.startswith(".")}


def find_inconsistencies(
    run: Path, db: sqlite3.Connection, run_state: RunState | None, files: Iterable[str]
) -> Iterator[str]:
    """Give one sentence for everything that does not fit together.

    The journal of a killed run fits: a scan or an act may be under way.

    Args:
        run: The run directory.
        db: Its journal, at one moment.
        run_state: Its state of the run; None if there is none.
        files: From `scan_files` before that moment, so that none is newer than its row.
    """
    yield from _integrity(db)
    yield from _unreadable_scans(run, db)
    yield from _files_without_row(run, db, run_state, files)
    yield from _labels(db, run_state)
    yield from _counters(db, run_state)
    for query, sentence in _RULES:
        yield from (sentence.format(*row) for row in db.execute(query))
    for reference in _REFERENCES:
        yield from _dangling(db, *reference)


def _integrity(db: sqlite3.Connection) -> Iterator[str]:
    # The slow check, which compares the indexes as well.
    for (found,) in db.execute("PRAGMA integrity_check"):
        if found != "ok":
            yield f"the database is damaged: {found}"


def _unreadable_scans(run: Path, db: sqlite3.Connection) -> Iterator[str]:
    query = "SELECT id, file, lines, pixels FROM scans ORDER BY id"
    for number, file, *expected in db.execute(query):
        try:
            # The whole file is read, since its size alone does not show a damaged header.
            shape = [*read_gsf_scan(run / file).shape]
        except FileFormatError as error:
            missing = not (run / file).exists()
            yield f"scan {number}: {f'its file {file} is missing' if missing else error}"
            continue
        if shape != expected:
            found, stated = (" x ".join(map(str, sides)) for sides in (shape, expected))
            yield f"scan {number}: {file} has {found} pixels, its row says {stated}"


def _files_without_row(
    run: Path, db: sqlite3.Connection, run_state: RunState | None, files: Iterable[str]
) -> Iterator[str]:
    expected = {file for (file,) in db.execute("SELECT file FROM scans")}
    # The file of a scan is complete before its row is committed; a kill leaves it in between.
    if run_state is not None and run_state.state in _SCANNING:
        last = db.execute("SELECT COALESCE(MAX(id), 0) FROM scans").fetchone()[0]
        expected.add(scan_file(last + 1))
    for file in sorted(set(files) - expected):
        if (run / file).exists():
            yield f"{file}: there is no scan with this file in the journal"


def _labels(db: sqlite3.Connection, run_state: RunState | None) -> Iterator[str]:
    # The image in hand gets its label with the next transition.
    in_hand = 0 if run_state is None else run_state.imaging.scan or 0
    for (number,) in db.execute("SELECT id FROM scans WHERE label IS NULL AND id <> ?", (in_hand,)):
        yield f"scan {number}: it was never decided what it is"
    for number, label in db.execute("SELECT id, label FROM scans WHERE label IS NOT NULL"):
        if label not in {*Label}:
            yield f"scan {number}: {label!r} is not a label"


def _counters(db: sqlite3.Connection, run_state: RunState | None) -> Iterator[str]:
    counters = (run_state or RunState()).counters
    rows = dict.fromkeys(map(str, Label), 0)
    # The condition leaves out NULL, too: the image in hand is not counted by a label yet.
    rows |= dict(db.execute("SELECT label, COUNT(*) FROM scans WHERE label <> '' GROUP BY label"))
    for name in ("scans", "episodes", "recoveries", "areas"):
        rows[name] = count_rows(db, f"SELECT COUNT(*) FROM {name}")
    rows["actions"] = count_rows(db, "SELECT COUNT(*) FROM steps") - _steps_ahead(db, run_state)
    for name, count in rows.items():
        counted = counters.get(name, 0)
        if counted != count:
            yield f"counter {name!r}: says {counted}, the journal has {count}"


def _steps_ahead(db: sqlite3.Connection, run_state: RunState | None) -> int:
    """Count decisions that have an act under way: the counters have them from its result on."""
    if run_state is None or run_state.state is not State.CONDITION:
        return 0
    return count_rows(
        db,
        "SELECT COUNT(*) FROM acts AS a WHERE result IS NULL AND act <> 'withdraw'"
        f" AND NOT EXISTS ({_LATER_ACTS})",
    )


def _dangling(
    db: sqlite3.Connection, table: str, column: str, target: str, key: str
) -> Iterator[str]:
    query = (
        f"SELECT rowid, {column} FROM {table}"
        f" WHERE {column} IS NOT NULL AND {column} NOT IN (SELECT {key} FROM {target}"
        f" WHERE {key} IS NOT NULL)"
    )
    for row, value in db.execute(query):
        yield f"{table} row {row}: its {column} {value} is not among the {target}"
