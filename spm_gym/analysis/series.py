"""The classifier's probability over the time of operation, and what the run did meanwhile."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable
from typing import Any

from spm_gym.journal.reader import Label

CODES = (Label.GOOD, Label.BAD_PROBE, Label.CONDITIONING)
"""Labels of classified images; their numbers stand for them."""


def series(db: sqlite3.Connection, after: int) -> dict[str, Any]:
    """Read the classified images after number ``after``, and the bands that reach beyond it.

    Thousands of them are to travel quickly: scans, seconds and probabilities (in thousandths) are
    whole numbers, the first two as differences to the value before; seconds start at 0.
    """
    # A page has the classified images already and asks only for those that are new.
    rows = db.execute(_CLASSIFIED, (after,)).fetchall()
    start = db.execute("SELECT elapsed FROM scans WHERE id = ?", (after,)).fetchone()
    since = 0.0 if start is None else float(start["elapsed"])
    return {
        "last": rows[-1]["id"] if rows else after,
        "scans": _differences((row["id"] for row in rows), after),
        "seconds": _differences((round(row["elapsed"]) for row in rows), round(since)),
        "probabilities": [round(1000 * row["probability"]) for row in rows],
        "labels": [CODES.index(row["label"]) for row in rows],
        "episodes": [
            tuple(row)
            for row in db.execute(
                # Also those that were open at the last question: their ends are news.
                "SELECT id, elapsed, elapsed_end FROM episodes"
                " WHERE elapsed_end IS NULL OR elapsed_end >= ?",
                (since,),
            )
        ],
        "troubles": [
            tuple(row)
            for row in db.execute(
                "SELECT id, elapsed, trouble FROM recoveries WHERE elapsed >= ?", (since,)
            )
        ],
        "areas": [
            tuple(row)
            for row in db.execute(
                "SELECT area, MIN(elapsed) FROM scans WHERE id > ? GROUP BY area", (after,)
            )
        ],
    }


_CLASSIFIED = f"""
SELECT id, elapsed, probability, label FROM scans
WHERE id > ? AND probability IS NOT NULL AND label IN ({", ".join(f"'{each}'" for each in CODES)})
ORDER BY id
"""


def _differences(values: Iterable[int], before: int) -> list[int]:
    listed = [before, *values]
    return [later - earlier for earlier, later in itertools.pairwise(listed)]
