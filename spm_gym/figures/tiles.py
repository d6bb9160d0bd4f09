"""Approach areas painted in the background, in tiles: only what is new costs anything.

Coloured squares are there at once; the images themselves follow, the newest first.
"""

from __future__ import annotations

import io
import math
import secrets
import sqlite3
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spm_gym import colours
from spm_gym.analysis.areas import first_image_size, images_of_area
from spm_gym.analysis.scans import scan_row
from spm_gym.analysis.session import last_session
from spm_gym.figures.mosaic import Canvas, PaintLog, grey_of
from spm_gym.journal.conditions import UNDECIDED
from spm_gym.journal.reader import JournalError, reading
from spm_gym.scale import NM

TILE_PIXELS = 400
_IMAGES_A_SIDE = 10
_MOST_AREAS = 3
_CHUNK = 20
_PLACED_AT_ONCE = 100
_BREATH_S = 0.001
"""Between two chunks, or a request that waits for the lock might never get it."""

_WIDEST_TILES = 4
"""A wider image is a damaged row; painting it would fill the memory with tiles."""

_QUALITY = 80
_QUICK = 1
"""Method of WebP, from 0 to 6: the quicker the larger."""


@dataclass(slots=True)
class Tile:
    """A part of an area.

    Attributes:
        canvas: Its raster.
        version: Of its last change, by the painter's count; no two changes have the same.
        encoded: A version and its picture, WebP.
    """

    canvas: Canvas
    version: int
    encoded: tuple[int, bytes] = (-1, b"")


@dataclass(slots=True)
class Area:
    """The painted part of an area.

    Attributes:
        tile_nm: Side of a tile, nm; tile (0, 0) has its lower left corner at the origin.
        files: Which scans could not be read, or make no sense.
        tiles: By column and row.
        last: The last scan that was read.
        undecided: Scans without a label so far.
        waiting: Scans of which only the label is painted, the newest last.
    """

    tile_nm: float
    files: PaintLog
    tiles: dict[tuple[int, int], Tile] = field(default_factory=dict)
    last: int = 0
    undecided: set[int] = field(default_factory=set)
    waiting: list[sqlite3.Row] = field(default_factory=list)


class Painter:
    """Paints the requested areas, in a thread of its own that ends with the program.

    Attributes:
        key: Of this painter alone: its versions mean nothing to another one, as after a restart.
        stopped: Why it paints no more; "" as long as it does.

    Args:
        run: The run directory.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._areas: OrderedDict[int, Area] = OrderedDict()
        self._lock = threading.Lock()
        self._requested = threading.Event()
        self._area = 0
        self._changes = 0
        self.key = secrets.token_hex(4)
        self.stopped = ""
        # A daemon: the page may end in the middle of a tile, which is painted again next time.
        threading.Thread(target=self._work, name="painter", daemon=True).start()

    def request(self, area: int) -> None:
        """Have an area painted as far as the run has come; returns at once."""
        self._area = area
        self._requested.set()

    def version(self) -> int:
        """Count the changes of everything that is painted, without waiting for the lock."""
        return self._changes

    def waiting(self, area: int) -> int:
        """Count the images of an area that are still to be painted."""
        with self._lock:
            known = self._areas.get(area)
            return 0 if known is None else len(known.waiting)

    def tiles(self, area: int) -> tuple[float, dict[tuple[int, int], int]]:
        """Return the side of the tiles, nm, and their versions by column and row."""
        with self._lock:
            known = self._areas.get(area)
            if known is None:
                return 1.0, {}
            return known.tile_nm, {place: tile.version for place, tile in known.tiles.items()}

    def unreadable(self, area: int) -> int:
        """Count the images of an area that cannot be read or make no sense."""
        with self._lock:
            known = self._areas.get(area)
            return 0 if known is None else len(known.files.unreadable)

    def picture(self, area: int, column: int, row: int) -> bytes | None:
        """Encode a tile as WebP; None if there is none."""
        with self._lock:
            known = self._areas.get(area)
            tile = None if known is None else known.tiles.get((column, row))
            if tile is None:
                return None
            version, encoded = tile.encoded
            if version == tile.version:
                return encoded
            # Encoding takes longer than copying, and the painter waits for the lock.
            version, image = tile.version, tile.canvas.image.copy()
        file = io.BytesIO()
        image.save(file, "WEBP", quality=_QUALITY, method=_QUICK)
        encoded = file.getvalue()
        # One assignment of both, so that without the lock no reader gets a picture of another
        # version.
        tile.encoded = version, encoded
        return encoded

    def _work(self) -> None:
        try:
            self._paint_requested()
        except BaseException as error:
            self.stopped = f"{type(error).__name__}: {error}"
            self._changes += 1
            raise

    def _paint_requested(self) -> None:
        while True:
            self._requested.wait()
            # Before the work, not after it: a request that comes meanwhile must not be lost.
            self._requested.clear()
            try:
                self._follow(self._area)
            except (JournalError, sqlite3.Error):
                continue  # the page reports it to the one who asked

    def _follow(self, number: int) -> None:
        """Read new scans, then paint until something else is requested."""
        with reading(self._run) as db:
            area = self._known(db, number)
            if area is None:
                return
            rows = list(images_of_area(db, number, after=area.last))
            rows += _decided(db, area)
        for first in range(0, len(rows), _PLACED_AT_ONCE):
            with self._lock:
                for row in rows[first : first + _PLACED_AT_ONCE]:
                    self._place(area, row)
            time.sleep(_BREATH_S)
        while area.waiting and not self._requested.is_set():
            self._paint(area)
        if area.waiting:
            self._requested.set()

    def _known(self, db: sqlite3.Connection, number: int) -> Area | None:
        with self._lock:
            if number in self._areas:
                self._areas.move_to_end(number)
                return self._areas[number]
        size = first_image_size(db, number)
        if size is None:
            return None
        with self._lock:
            files = PaintLog(last_session(db).preprocessing)
            self._areas[number] = Area(_IMAGES_A_SIDE * size / NM, files)
            # Some 50 MB each; the area that was requested least recently goes.
            if len(self._areas) > _MOST_AREAS:
                self._areas.popitem(last=False)
            self._changes += 1
            return self._areas[number]

    def _place(self, area: Area, row: sqlite3.Row) -> None:
        area.last = max(area.last, row["id"])
        self._changes += 1
        if fault := _fault(area, row):
            area.files.unreadable[row["file"]] = fault
            return
        if row["label"] is None:
            area.undecided.add(row["id"])
        for tile in self._tiles_of(area, row):
            # A square in the colour of the label first, so that no image is missing while others
            # are read.
            tile.canvas.fill(row)
        area.waiting.append(row)

    def _paint(self, area: Area) -> None:
        """Put some images in their places."""
        # The newest first: they are what somebody who watches a run waits for.
        chunk = area.waiting[-_CHUNK:][::-1]
        # Reading takes long and needs no lock.
        painted = [(row, self._grey(area, row)) for row in chunk]
        with self._lock:
            del area.waiting[-len(chunk) :]
            for row, grey in painted:
                if grey is None:
                    continue
                for tile in self._tiles_of(area, row):
                    tile.canvas.paste(row, grey)
            self._changes += 1

    def _grey(self, area: Area, row: sqlite3.Row) -> NDArray[np.uint8] | None:
        try:
            return grey_of(self._run, row, area.files)
        except ValueError as error:  # a file that is none of a scan
            area.files.unreadable[row["file"]] = str(error)
            return None

    def _tiles_of(self, area: Area, row: sqlite3.Row) -> list[Tile]:
        """Find the tiles that an image is painted on, and note that they change."""
        self._changes += 1
        reach = _reach(row)
        columns, lines = (
            range(
                math.floor((middle - reach) / area.tile_nm),
                math.ceil((middle + reach) / area.tile_nm),
            )
            for middle in (row["x"] / NM, row["y"] / NM)
        )
        tiles = [self._tile(area, column, line) for column in columns for line in lines]
        for tile in tiles:
            tile.version = self._changes
        return tiles

    def _tile(self, area: Area, column: int, line: int) -> Tile:
        if (column, line) not in area.tiles:
            side = area.tile_nm
            canvas = Canvas(column * side, (line + 1) * side, side, TILE_PIXELS / side, 0)
            area.tiles[column, line] = Tile(canvas, self._changes)
        return area.tiles[column, line]


def _decided(db: sqlite3.Connection, area: Area) -> list[sqlite3.Row]:
    """Read the scans that have got a label since they were painted."""
    found = []
    for number in sorted(area.undecided):
        row = scan_row(db, number)
        if row is not None and row["label"] is not None:
            area.undecided.discard(number)
            found.append(row)
    return found


def _fault(area: Area, row: sqlite3.Row) -> str:
    """Explain why an image cannot be painted; "" if it can."""
    numbers = [row[name] for name in ("x", "y", "size", "angle")]
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in numbers):
        return f"no finite place: x, y, size, angle {numbers}"
    if not 0 < 2 * _reach(row) <= _WIDEST_TILES * area.tile_nm:
        return f"no size of an image: {row['size']} m"
    if (row["label"] or UNDECIDED) not in colours.LABELS:
        return f"a label that this program does not know: {row['label']}"
    return ""


def _reach(row: sqlite3.Row) -> float:
    """Return the distance from the middle of an image to its edge, nm; more if it is rotated."""
    return float(row["size"]) / NM * (0.71 if row["angle"] else 0.5)
