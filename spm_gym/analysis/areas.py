"""Approach areas of a run: their images, their blocked places, and what was done in them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from spm_gym.analysis.queries import count_rows, single
from spm_gym.envs.regions import kind_of_mark
from spm_gym.journal.conditions import IMAGE, UNDECIDED, WHOLE
from spm_gym.scale import NM

_SMALLEST_SIDE_NM = 100.0


@dataclass(frozen=True, slots=True)
class Place:
    """A blocked place: centre and radius, nm, its kind (of `colours.BLOCKED`), and why."""

    x: float
    y: float
    radius: float
    kind: str
    reason: str


def area_rows(db: sqlite3.Connection) -> list[sqlite3.Row]:
    """Read all rows of the table ``areas``, in the order of their use."""
    return db.execute("SELECT * FROM areas ORDER BY number").fetchall()


def area_numbers(db: sqlite3.Connection) -> list[int]:
    """List all approach areas, in the order of their use."""
    return [row["number"] for row in area_rows(db)]


def area_title(db: sqlite3.Connection, area: int) -> str:
    """Name an area with its coarse position."""
    row = db.execute("SELECT * FROM areas WHERE number = ?", (area,)).fetchone()
    place = f"coarse position {row['coarse_x']}, {row['coarse_y']}"
    return f"area {area} ({place}{'' if row['certain'] else ', uncertain'})"


def images_of_area(db: sqlite3.Connection, area: int, after: int = 0) -> Iterator[sqlite3.Row]:
    """Read the rows of an area's images and previews after the scan ``after``, in their order."""
    query = f"SELECT * FROM scans WHERE area = ? AND id > ? AND {WHOLE} ORDER BY id"
    yield from db.execute(query, (area, after))


def image_count(db: sqlite3.Connection) -> int:
    """Count the images of the whole run."""
    return count_rows(db, f"SELECT COUNT(*) FROM scans WHERE {IMAGE}")


def images_by_label(db: sqlite3.Connection, area: int) -> dict[str, int]:
    """Count the images and previews of an area by label, `UNDECIDED` for none."""
    query = (
        f"SELECT COALESCE(label, '{UNDECIDED}'), COUNT(*) FROM scans"
        f" WHERE area = ? AND {WHOLE} GROUP BY 1"
    )
    return dict(map(tuple, db.execute(query, (area,))))


def first_image_size(db: sqlite3.Connection, area: int) -> float | None:
    """Return the side of the first image of an area whose size makes sense, m; None before it."""
    query = (
        # Tiles are laid out by this size, so a damaged row must not decide it.
        f"SELECT size FROM scans WHERE area = ? AND {WHOLE} AND size BETWEEN 1e-12 AND 1e-3"
        " ORDER BY id LIMIT 1"
    )
    size: float | None = single(db, query, area)
    return size


def largest_scan(db: sqlite3.Connection, area: int) -> float | None:
    """Return the side of the largest scan of an area, m; None without any."""
    size: float | None = single(db, "SELECT MAX(size) FROM scans WHERE area = ?", area)
    return size


def bounds(db: sqlite3.Connection, area: int) -> tuple[float, float, float]:
    """Return left and top edge and side, nm, of a square around all images and blocked places."""
    low_x, high_x, low_y, high_y = db.execute(_EXTENT, {"area": area}).fetchone()
    if low_x is None:
        return -_SMALLEST_SIDE_NM / 2, _SMALLEST_SIDE_NM / 2, _SMALLEST_SIDE_NM
    # A margin, so that frames at the edge are not cut.
    side = max(1.04 * max(high_x - low_x, high_y - low_y) / NM, _SMALLEST_SIDE_NM)
    return (low_x + high_x) / 2 / NM - side / 2, (low_y + high_y) / 2 / NM + side / 2, side


# Half the diagonal of a square is 0.71 of its side: so far reaches one that is rotated.
_EXTENT = f"""
SELECT MIN(x - reach), MAX(x + reach), MIN(y - reach), MAX(y + reach) FROM (
    SELECT x, y, size * CASE WHEN angle THEN 0.71 ELSE 0.5 END AS reach FROM scans
    WHERE area = :area AND {WHOLE}
    UNION ALL SELECT x, y, radius FROM marks WHERE area = :area)
"""


def blocked_places(db: sqlite3.Connection, area: int) -> list[Place]:
    """List the places of an area that must not be imaged any more, without those of the images."""
    # The settings may have been edited since: actions are those that were chosen.
    actions = {name for (name,) in db.execute("SELECT DISTINCT name FROM steps")}
    # Every image blocks its own place: those marks would cover the whole map.
    query = "SELECT * FROM marks WHERE area = ? AND reason <> 'image' ORDER BY id"
    return [_place(row, actions) for row in db.execute(query, (area,))]


def _place(row: sqlite3.Row, actions: set[str]) -> Place:
    reason = row["reason"]
    x, y, radius = (row[name] / NM for name in ("x", "y", "radius"))
    return Place(x, y, radius, kind_of_mark(reason, actions), reason)


def last_act(db: sqlite3.Connection, area: int) -> tuple[float, float, str] | None:
    """Return place (nm) and name of the last action, if it was done in this area."""
    row = db.execute(
        "SELECT steps.name, acts.details, episodes.area FROM steps"
        " JOIN acts ON acts.number = steps.act JOIN episodes ON episodes.id = steps.episode"
        " ORDER BY steps.id DESC LIMIT 1"
    ).fetchone()
    if row is None or row["area"] != area:
        return None
    details = json.loads(row["details"])
    # Only in a damaged journal, whose act is none of the probe.
    if "x" not in details:
        return None
    return details["x"] / NM, details["y"] / NM, row["name"]
