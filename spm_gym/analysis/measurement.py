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
    scans, *found = db.execute(
        "SELECT COUNT(*), MIN(bias), MAX(bias), COUNT(bias), MIN(setpoint), MAX(setpoint),"
        " COUNT(setpoint) FROM scans"
    ).fetchone()
    bias, setpoint = (
        Spread(low, high, scans - known) for low, high, known in (found[:3], found[3:])
    )
    return Measurement(bias, setpoint)
