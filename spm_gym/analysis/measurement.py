"""Bias and setpoint of the scans of a run, which say what its data show."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Lowest and highest value in the scans of a run, None without any; how many lack it."""

    low: float | None
    high: float | None
    unknown: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """Bias (V) and setpoint (A) of the scans of a run."""

    bias: Spread
    setpoint: Spread


def measurement(db: sqlite3.Connection) -> Measurement:
    """Read bias and setpoint of all scans."""
    return Measurement(_spread(db, "bias"), _spread(db, "setpoint"))


def _spread(db: sqlite3.Connection, column: str) -> Spread:
    low, high, scans, known = db.execute(
        f"SELECT MIN({column}), MAX({column}), COUNT(*), COUNT({column}) FROM scans"
    ).fetchone()
    return Spread(low, high, scans - known)
