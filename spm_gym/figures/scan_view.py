"""One scan on the live page: its picture, what lies over it, and why it cannot be displayed."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spm_gym.analysis.scans import ActedOn, ScanFacts, scan_facts
from spm_gym.config import EnvConfig
from spm_gym.figures.heights import (
    ScanRendering,
    height_scales,
    network_picture,
    picture,
    png,
)
from spm_gym.imaging import level, read_scans, readings_of
from spm_gym.imaging.files import FileFormatError
from spm_gym.imaging.observed import read_observed
from spm_gym.imaging.plane import SMALLEST_SIDE
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.reader import Label, read_frame, read_scan
from spm_gym.runner.run_state import RunState
from spm_gym.scale import round_length
from spm_gym.types import UNKNOWN_RANGE, Frame, Scan

LABELS = {
    Label.GOOD: "good image",
    Label.BAD_PROBE: "bad probe",
    Label.BAD_SAMPLE: "bad sample",
    Label.UNKNOWN: "unknown",
    Label.UNCLASSIFIED: "of a survey, not classified",
    Label.CONDITIONING: "after an action",
    Label.PREVIEW: "preview",
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
class ScanView:
    """A scan as the page displays it.

    Attributes:
        facts: Which scan it is, and what was done after it.
        square: The largest clean square; None without one.
        marks: Where actions were done after it or will be done.
        bar: Length of a scale bar, m.
        scales: What the colours of its pictures mean, by rendering: SVG to lay over them.
        problem: Why it cannot be displayed; "" if it can.
    """

    facts: ScanFacts
    square: Box | None
    marks: list[ActionMark]
    bar: float
    scales: dict[ScanRendering, str]
    problem: str

    @property
    def label(self) -> str:
        """The label in words."""
        return LABELS.get(self.facts.row["label"], str(self.facts.row["label"]))


def scan_view(
    db: sqlite3.Connection,
    run: Path,
    run_state: RunState | None,
    number: int | None,
    preprocessing: Preprocessing,
    env: EnvConfig | None = None,
    usable: bool = False,
) -> ScanView | None:
    """View the last scan up to a number, or the first one after it; None if there is none.

    Args:
        db: The journal.
        run: The run directory.
        run_state: State of the run; None before its first transition.
        number: Of the scan; None for the last one.
        preprocessing: How the run levels its scans, and normalises them for the networks.
        env: Its settings, by which squares are found; None where nobody knows them.
        usable: Take the last usable one, if there is any, where no number is given.
    """
    facts = scan_facts(db, run_state, number, usable)
    if facts is None:
        return None
    row = facts.row
    square, problem, scales = None, "", dict[ScanRendering, str]()
    try:
        scan = read_scan(run, row)
        square = _square(scan, preprocessing, env)
        scales = height_scales(scan.z, preprocessing)
    except (FileFormatError, ValueError) as error:
        problem = str(error)
    frame = read_frame(row)
    # At their recorded places: the square may have been found with other settings.
    marks = [_mark(frame, action) for action in facts.actions]
    # Until it is done an action has no place of its own.
    if facts.is_decided_on and not marks:
        marks = [_coming_mark(square)]
    return ScanView(facts, square, marks, round_length(row["size"] / 4), scales, problem)


def _square(scan: Scan, preprocessing: Preprocessing, env: EnvConfig | None) -> Box | None:
    """Find the largest clean square as the run has found it."""
    pixels = scan.frame.pixels
    read = readings_of([scan], *preprocessing) if env is None else read_observed([scan], env)
    found = read.squares[0]
    if not found.side:
        return None
    percent = 100 / pixels
    return Box(
        found.col * percent, found.row * percent, found.side * percent,
        found.side * scan.frame.size / pixels,
    )  # fmt: skip


def _coming_mark(square: Box | None) -> ActionMark:
    """Mark where the next action will be done: in the middle of the largest clean square."""
    half = 0.0 if square is None else square.side / 2
    x, y = (50.0, 50.0) if square is None else (square.x + half, square.y + half)
    return ActionMark(x, y, "the coming action", False)


def _mark(frame: Frame, action: ActedOn) -> ActionMark:
    """Turn a place on the sample (m) into one in the image."""
    dx, dy = action.x - frame.x, action.y - frame.y
    cos, sin = math.cos(frame.angle), math.sin(frame.angle)
    # Into the axes of the frame, which may be rotated; v points up, hundredths go down.
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    percent = 100 / frame.size
    return ActionMark(50 + u * percent, 50 - v * percent, action.name, True)


def prepare() -> None:
    """Load the compiled functions, so that the first page need not wait for them."""
    blank = np.zeros((1, SMALLEST_SIDE, SMALLEST_SIDE), np.float32)
    read_scans(blank, np.array([UNKNOWN_RANGE]))
    level(blank[0])


def scan_picture(
    run: Path, row: sqlite3.Row, kind: ScanRendering, preprocessing: Preprocessing
) -> bytes:
    """Draw a scan as PNG, one pixel for every pixel; transparent where nothing was scanned.

    Raises:
        FileFormatError: Its file is gone or damaged.
    """
    z = read_scan(run, row).z
    try:
        return png(picture(z, kind, preprocessing))
    except ValueError:  # hardly anything was scanned: there is nothing to level
        nothing = np.full(z.shape, np.nan)
        return png(
            network_picture(nothing, preprocessing.scale)
            if kind is ScanRendering.NETWORK
            else picture(z, ScanRendering.RAW, preprocessing)
        )
