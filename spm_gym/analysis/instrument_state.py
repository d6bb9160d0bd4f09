"""What was last seen of the instrument."""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import dataclass
from typing import Any

from spm_gym.runner.run_state import RunState


@dataclass(frozen=True, slots=True)
class InstrumentReadings:
    """What was last seen of the instrument.

    Attributes:
        in_contact: Whether the tip should be at the surface; None if nobody knows.
        z: Height, m; NaN if unknown.
        current: A; NaN if unknown.
        wall: When these two were read.
        bias: Of the last scan, V; NaN if unknown.
        setpoint: Of the last scan, A; NaN if unknown.
    """

    in_contact: bool | None
    z: float
    current: float
    wall: float | None
    bias: float
    setpoint: float


def instrument(db: sqlite3.Connection, m: RunState | None, at_work: bool) -> InstrumentReadings:
    """What was last seen of the instrument."""
    z = current = math.nan
    wall = None
    # What was seen before a simulated microscope was put back where it had been does not count.
    session = "session = (SELECT MAX(id) FROM sessions)" if at_work else "1"
    query = f"SELECT * FROM acts WHERE {session} ORDER BY id DESC LIMIT 20"
    for row in db.execute(query):
        after, before = json.loads(row["after"]), json.loads(row["before"])
        seen = after if "z" in after else before
        if "z" in seen:
            z, current = _number(seen["z"]), _number(seen.get("current"))
            wall = row["wall_result"] if seen is after else row["wall"]
            break
    scan = db.execute("SELECT bias, setpoint FROM scans ORDER BY id DESC LIMIT 1").fetchone()
    contact = None if m is None else _contact(db, m, at_work)
    return InstrumentReadings(
        contact,
        z,
        current,
        wall,
        math.nan if scan is None else _number(scan["bias"]),
        math.nan if scan is None else _number(scan["setpoint"]),
    )


def _contact(db: sqlite3.Connection, m: RunState, at_work: bool) -> bool | None:
    """While it works, the run knows; afterwards the last act says it, unless it is unknown."""
    if at_work:
        return m.tip.in_contact
    row = db.execute("SELECT * FROM acts ORDER BY id DESC LIMIT 1").fetchone()
    if row is None or row["result"] is None:
        return None
    approached: bool | None = json.loads(row["after"]).get("approached")
    return approached


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
