"""The last readings of the instrument."""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import dataclass
from typing import Any

from spm_gym.runner.run_state import RunState


@dataclass(frozen=True, slots=True)
class InstrumentReadings:
    """The last readings of the instrument.

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


def instrument(
    db: sqlite3.Connection, run_state: RunState | None, at_work: bool
) -> InstrumentReadings:
    """Read what the journal last noted of the instrument."""
    z = current = math.nan
    wall = None
    # When a run is resumed, a simulated microscope is put back to its last commit: what an earlier
    # session read after that never was.
    session = "session = (SELECT MAX(id) FROM sessions)" if at_work else "1"
    # Reconnecting and refused acts have no readings; among twenty acts some have.
    query = f"SELECT * FROM acts WHERE {session} ORDER BY id DESC LIMIT 20"
    for row in db.execute(query):
        after, before = json.loads(row["after"]), json.loads(row["before"])
        readings = after if "z" in after else before
        if "z" in readings:
            z, current = _number(readings["z"]), _number(readings.get("current"))
            wall = row["wall_result"] if readings is after else row["wall"]
            break
    scan = db.execute("SELECT bias, setpoint FROM scans ORDER BY id DESC LIMIT 1").fetchone()
    contact = None
    if run_state is not None:
        contact = _contact(db, run_state, at_work)
    return InstrumentReadings(
        contact,
        z,
        current,
        wall,
        math.nan if scan is None else _number(scan["bias"]),
        math.nan if scan is None else _number(scan["setpoint"]),
    )


def _contact(db: sqlite3.Connection, run_state: RunState, at_work: bool) -> bool | None:
    """Tell whether the tip is in contact: while it works, the run knows, then the last act."""
    if at_work:
        return run_state.tip.in_contact
    row = db.execute("SELECT * FROM acts ORDER BY id DESC LIMIT 1").fetchone()
    if row is None or row["result"] is None:
        return None
    approached: bool | None = json.loads(row["after"]).get("approached")
    return approached


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
