"""One scan at a time: what it is, what is read from it, and its pictures."""

from __future__ import annotations

import json
import math
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spm_gym.figures.heights import ScanRendering, height_scales, picture, png, seen
from spm_gym.imaging import level, read_scans
from spm_gym.imaging.files import FileFormatError
from spm_gym.imaging.plane import SMALLEST_SIDE, Method
from spm_gym.journal.conditions import IMAGE
from spm_gym.journal.reader import Label, read_scan
from spm_gym.runner.run_state import RunState
from spm_gym.runner.states import State
from spm_gym.scale import round_length
from spm_gym.types import UNKNOWN_RANGE, Frame, Scan

SHOWN = f"label IS NOT '{Label.DISCARDED}'"
"""Condition for scans that can be looked at."""

LABELS = {
    Label.GOOD: "good image",
    Label.BAD_PROBE: "bad probe",
    Label.BAD_SAMPLE: "bad sample",
    Label.CONDITIONING: "after an action",
    Label.UNUSABLE: "unusable",
    None: "not classified yet",
}
"""Labels in words."""


@dataclass(frozen=True, slots=True)
class ActionMark:
    """Where an action was done or will be done, in hundredths of the image from its top left."""

    x: float
    y: float
    name: str
    done: bool


@dataclass(frozen=True, slots=True)
class Box:
    """A square, in hundredths of the image, and its side in m."""

    x: float
    y: float
    side: float
    metres: float


@dataclass(frozen=True, slots=True)
class Shown:
    """A scan that is looked at.

    Attributes:
        row: Of the table ``scans``.
        number: Of the image, from 1; 0 for a partial scan.
        before: Scan before it; None if it is the first.
        after: Scan after it; None if it is the last.
        square: The largest clean square; None without one.
        marks: Where actions were done after it or will be done.
        bar: Length of a scale bar, m.
        scales: What the colours of its pictures mean, by how it is shown: SVG to lay over them.
        problem: Why it cannot be shown; "" if it can.
    """

    row: sqlite3.Row
    number: int
    before: int | None
    after: int | None
    square: Box | None
    marks: list[ActionMark]
    bar: float
    scales: dict[ScanRendering, str]
    problem: str

    @property
    def label(self) -> str:
        """What it is, in words."""
        return LABELS.get(self.row["label"], str(self.row["label"]))


def shown_scan(
    db: sqlite3.Connection, run: Path, m: RunState | None, number: int | None, method: Method
) -> Shown | None:
    """The last scan up to a number, or the first one after it; None if there is none.

    Args:
        db: The journal.
        run: The run directory.
        m: State of the run; None before its first transition.
        number: Of the scan; None for the last one.
        method: How the run levels its scans.
    """
    row = _row(db, number)
    if row is None:
        return None
    frame = Frame(row["x"], row["y"], row["size"], row["pixels"], row["angle"])
    square, problem, scales = None, "", dict[ScanRendering, str]()
    try:
        scan = read_scan(run, row)
        square = _square(scan, method)
        scales = height_scales(scan.z, method)
    except (FileFormatError, ValueError) as error:
        problem = str(error)
    return Shown(
        row=row,
        number=_image_number(db, row),
        before=_single(db, f"SELECT MAX(id) FROM scans WHERE id < ? AND {SHOWN}", row["id"]),
        after=_single(db, f"SELECT MIN(id) FROM scans WHERE id > ? AND {SHOWN}", row["id"]),
        square=square,
        marks=_marks(db, m, row, frame, square),
        bar=round_length(row["size"] / 4),
        scales=scales,
        problem=problem,
    )


def _row(db: sqlite3.Connection, number: int | None) -> sqlite3.Row | None:
    if number is None:
        return _first(db, "1", "DESC", ())
    before = _first(db, "id <= ?", "DESC", (number,))
    return before or _first(db, "id > ?", "ASC", (number,))


def _first(
    db: sqlite3.Connection, condition: str, order: str, values: tuple[int, ...]
) -> sqlite3.Row | None:
    query = f"SELECT * FROM scans WHERE {condition} AND {SHOWN} ORDER BY id {order} LIMIT 1"
    found: sqlite3.Row | None = db.execute(query, values).fetchone()
    return found


def scan_at(db: sqlite3.Connection, area: int | None, x: float, y: float) -> int | None:
    """Number of the last image that covers a place (m) of an area; None without one."""
    return _single(
        db,
        f"SELECT MAX(id) FROM scans WHERE area = ? AND {IMAGE}"
        " AND MAX(ABS(x - ?), ABS(y - ?)) <= size / 2",
        area,
        x,
        y,
    )


def _image_number(db: sqlite3.Connection, row: sqlite3.Row) -> int:
    if row["fraction"] != 1:
        return 0
    return int(_single(db, f"SELECT COUNT(*) FROM scans WHERE id <= ? AND {IMAGE}", row["id"]) or 0)


def _square(scan: Scan, method: Method) -> Box | None:
    """The largest clean square as the run has found it."""
    pixels = scan.z.shape[0]
    found = read_scans(scan.z[None], np.array([scan.z_range_or_nan]), method).squares[0]
    if not found.side:
        return None
    percent = 100 / pixels
    return Box(
        found.col * percent, found.row * percent, found.side * percent,
        found.side * scan.frame.size / pixels,
    )  # fmt: skip


def _marks(
    db: sqlite3.Connection,
    m: RunState | None,
    row: sqlite3.Row,
    frame: Frame,
    square: Box | None,
) -> list[ActionMark]:
    marks = []
    for step in db.execute(
        "SELECT name, details FROM steps JOIN acts ON acts.number = steps.act"
        " WHERE steps.episode = ? AND steps.scan = ?",
        (_episode(db, row), row["id"]),
    ):
        details = json.loads(step["details"])
        if "x" in details:
            marks.append(_mark(frame, details["x"], details["y"], step["name"]))
    episode = None if m is None or m.state is not State.CONDITION else m.conditioning.episode
    coming = episode is not None and episode.scan == row["id"]
    if coming and not marks:
        half = 0.0 if square is None else square.side / 2
        x, y = (50.0, 50.0) if square is None else (square.x + half, square.y + half)
        marks.append(ActionMark(x, y, "the coming action", False))
    return marks


def _episode(db: sqlite3.Connection, row: sqlite3.Row) -> int | None:
    """The episode in which was decided on a scan: its own, or the one that began with it."""
    if row["episode"] is not None:
        return int(row["episode"])
    return _single(db, "SELECT id FROM episodes WHERE first_scan = ?", row["id"])


def _mark(frame: Frame, x: float, y: float, name: str) -> ActionMark:
    """A place on the sample (m) as one in the image."""
    dx, dy = x - frame.x, y - frame.y
    cos, sin = math.cos(frame.angle), math.sin(frame.angle)
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    percent = 100 / frame.size
    return ActionMark(50 + u * percent, 50 - v * percent, name, True)


def prepare() -> None:
    """Load the compiled functions, so that the first page need not wait for them."""
    blank = np.zeros((1, SMALLEST_SIDE, SMALLEST_SIDE), np.float32)
    read_scans(blank, np.array([UNKNOWN_RANGE]))
    level(blank[0])


def scan_picture(run: Path, row: sqlite3.Row, kind: ScanRendering, method: Method) -> bytes:
    """A scan as PNG, one pixel for every pixel; transparent where nothing was scanned.

    Raises:
        FileFormatError: Its file is gone or damaged.
    """
    z = read_scan(run, row).z
    try:
        return png(picture(z, kind, method))
    except ValueError:  # hardly anything was scanned
        nothing = np.full(z.shape, np.nan)
        return png(
            seen(nothing)
            if kind is ScanRendering.NETWORK
            else picture(z, ScanRendering.RAW, method)
        )


def _single(db: sqlite3.Connection, query: str, *values: Any) -> int | None:
    row = db.execute(query, values).fetchone()
    return None if row is None else row[0]
