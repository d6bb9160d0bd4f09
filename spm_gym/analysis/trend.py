"""Height and current over the time of operation, which show a creep towards an end of the range."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from spm_gym.analysis.queries import single

_BINS = 240
"""More than a small chart has room for; a run may have tens of thousands of scans."""

Trace = list[tuple[float, float, float]]
"""Time of operation, s, and the lowest and highest value around it."""


@dataclass(frozen=True, slots=True)
class Trend:
    """Height and current over the time of operation.

    Attributes:
        elapsed: Of the last scan, s.
        z: Median height of the scans, m.
        current: After the images, A.
        z_range: Lowest and highest height that the z piezo reaches, m; None if unknown.
        last_z: Of the last scan that has any, m; None without one.
        last_current: After the last image of which it is known, A.
    """

    elapsed: float
    z: Trace
    current: Trace
    z_range: tuple[float, float] | None
    last_z: float | None
    last_current: float | None


def trend(db: sqlite3.Connection) -> Trend | None:
    """Read height and current of all scans, those close in time together; None without any."""
    elapsed = single(db, "SELECT elapsed FROM scans ORDER BY id DESC LIMIT 1")
    if not elapsed:
        return None
    bounds = db.execute(
        "SELECT z_low, z_high FROM scans WHERE z_low IS NOT NULL AND z_high IS NOT NULL"
        " ORDER BY id DESC LIMIT 1"
    ).fetchone()
    # Extremes, not means: a jump of a single scan must not be lost among the others.
    rows = db.execute(
        "SELECT AVG(elapsed), MIN(z), MAX(z), MIN(current), MAX(current) FROM scans"
        " GROUP BY CAST(elapsed / ? AS INTEGER) ORDER BY 1",
        (elapsed / _BINS,),
    ).fetchall()
    return Trend(
        elapsed,
        [(row[0], row[1], row[2]) for row in rows if row[1] is not None],
        [(row[0], row[3], row[4]) for row in rows if row[3] is not None],
        None if bounds is None else (bounds["z_low"], bounds["z_high"]),
        _last(db, "z"),
        _last(db, "current"),
    )


def _last(db: sqlite3.Connection, column: str) -> float | None:
    query = f"SELECT {column} FROM scans WHERE {column} IS NOT NULL ORDER BY id DESC LIMIT 1"
    value: float | None = single(db, query)
    return value
