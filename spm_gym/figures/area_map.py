"""The map of an approach area: its tiles, and what is drawn over them."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from spm_gym import colours
from spm_gym.analysis.areas import (
    area_rows,
    blocked_places,
    bounds,
    images_by_label,
    largest_scan,
    last_act,
)
from spm_gym.figures.mosaic import Blocked, outlines
from spm_gym.figures.tiles import Painter
from spm_gym.runner.run_state import RunState
from spm_gym.scale import NM, ticks
from spm_gym.types import Frame

_STEPS = 20.0
"""The map grows in steps of so many nm for images of 10 nm, or it would always move."""


@dataclass(frozen=True, slots=True)
class TileOfMap:
    """Where a tile is (left and top edge, nm) and its version, which no other tile has."""

    column: int
    row: int
    left: float
    top: float
    version: str


@dataclass(frozen=True, slots=True)
class LiveMap:
    """An approach area.

    Attributes:
        number: Of the area.
        areas: All rows of the table ``areas``.
        left: Edge, nm.
        top: Edge, nm.
        side: Of the square, nm.
        x_ticks: Round positions within it, nm.
        y_ticks: The same upwards.
        tile_nm: Side of the tiles.
        tiles: Painted so far.
        waiting: Images that are still to be painted.
        unreadable: Scans whose files could not be read, or that make no sense.
        stopped: Why no more is painted; "" as long as it is.
        labels: Number of images by label.
        blocked: Places that must not be imaged any more.
        frame: Corners of what is imaged now or next, as the points of a polygon, nm, y down; "" if
            nothing is planned.
        planned: The same in words.
        act: Place (nm) and name of the last action in this area, None without one.
    """

    number: int
    areas: list[sqlite3.Row]
    left: float
    top: float
    side: float
    x_ticks: list[float]
    y_ticks: list[float]
    tile_nm: float
    tiles: list[TileOfMap]
    waiting: int
    unreadable: int
    stopped: str
    labels: dict[str, int]
    blocked: list[Blocked]
    frame: str
    planned: str
    act: tuple[float, float, str] | None

    @property
    def places(self) -> int:
        """Number of blocked places."""
        return sum(sum(kind.reasons.values()) for kind in self.blocked)


def live_map(
    db: sqlite3.Connection, painter: Painter, run_state: RunState | None, number: int | None
) -> LiveMap | None:
    """Make the map of an area, or of the present area; None before the first."""
    areas = area_rows(db)
    if not areas:
        return None
    present = areas[-1]["number"]
    if number is None or number not in {row["number"] for row in areas}:
        number = present
    # Returns at once: the page shows what is there, and asks again.
    painter.request(number)
    labels = images_by_label(db, number)
    place = None if run_state is None else run_state.place
    frame = place.frame if place is not None and number == place.area else None
    tile_nm, tiles = painter.tiles(number)
    left, top, side = _extent(db, number, frame, _painted(tile_nm, tiles))
    return LiveMap(
        number=number,
        areas=areas,
        left=left,
        top=top,
        side=side,
        x_ticks=ticks(left, side),
        y_ticks=ticks(top - side, side),
        tile_nm=tile_nm,
        tiles=[
            TileOfMap(
                column, row, column * tile_nm, (row + 1) * tile_nm, f"{painter.key}-{version}"
            )
            for (column, row), version in sorted(tiles.items())
        ],
        waiting=painter.waiting(number),
        unreadable=painter.unreadable(number),
        stopped=painter.stopped,
        labels={label: labels[label] for label in colours.LABELS if label in labels},
        blocked=outlines(blocked_places(db, number)),
        frame="" if frame is None else _corners(frame),
        planned="" if frame is None else f"{frame.x / NM:.0f}, {frame.y / NM:.0f} nm",
        act=last_act(db, number),
    )


def _painted(tile_nm: float, tiles: Collection[tuple[int, int]]) -> tuple[float, float, float]:
    """Return left and top edge and side, nm, of a square around all tiles."""
    columns, rows = zip(*(tiles or [(0, 0)]), strict=True)
    wide = 1 + max(max(columns) - min(columns), max(rows) - min(rows))
    return min(columns) * tile_nm, (max(rows) + 1) * tile_nm, wide * tile_nm


def _extent(
    db: sqlite3.Connection, area: int, frame: Frame | None, painted: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Return left and top edge and side, nm, of a square around everything; it seldom changes."""
    left, top, side = bounds(db, area)
    if not math.isfinite(left + top + side):  # a place that makes no sense, which is not painted
        left, top, side = painted
    # In whole steps, so that the map does not jump with every image.
    step = _STEPS * (largest_scan(db, area) or 10 * NM) / (10 * NM)
    edges = [left, left + side, top - side, top]
    if frame is not None:
        # A little more than half, so that the line around the frame lies within the map.
        reach = 0.6 * frame.size / NM
        x, y = frame.x / NM, frame.y / NM
        edges = [min(edges[0], x - reach), max(edges[1], x + reach),
                 min(edges[2], y - reach), max(edges[3], y + reach)]  # fmt: skip
    low_x, low_y = (step * math.floor(edge / step) for edge in (edges[0], edges[2]))
    high_x, high_y = (step * math.ceil(edge / step) for edge in (edges[1], edges[3]))
    side = max(high_x - low_x, high_y - low_y)
    return low_x, max(high_y, low_y + side), side


def _corners(frame: Frame) -> str:
    return " ".join(f"{x / NM:.1f},{-y / NM:.1f}" for x, y in frame.corners)
