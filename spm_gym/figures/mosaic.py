"""Approach areas with all their images and blocked places, for reports, maps and the live page."""

from __future__ import annotations

import base64
import io
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from spm_gym import colours
from spm_gym.analysis.areas import (
    Place,
    area_rows,
    blocked_places,
    bounds,
    image_count,
    images_of_area,
)
from spm_gym.analysis.scans import spread_scans
from spm_gym.figures.heights import grey_values, grey_words
from spm_gym.imaging.files import FileFormatError
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.conditions import UNDECIDED
from spm_gym.journal.reader import Label, read_scan
from spm_gym.scale import NM, length_text, round_length, ticks

MOST_PAINTED = 40_000
"""Of more images, every n-th is painted."""

EXAMPLES = 6
EXAMPLE_PIXELS = 96

_WIDEST_MAP = 1700
_MANY_MAPS = 6
_FINEST_PER_NM = 5.0
_QUALITY = 70


@dataclass(slots=True)
class PaintLog:
    """Which files of scans became part of a picture: what a report has to own up to.

    Attributes:
        preprocessing: How scans are levelled and normalised.
        painted: Images that are in the maps.
        left_out: Images that are not, because there are too many.
        unreadable: What is wrong with files that could not be read.
    """

    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    painted: int = 0
    left_out: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AreaRaster:
    """The images of one approach area in their places.

    Attributes:
        image: RGBA, transparent where nothing was imaged.
        left: Edge, nm.
        top: Edge, nm.
        side: Of the square, nm.
        labels: Number of images by label, in the order of `colours.LABELS`.
    """

    image: Image.Image
    left: float
    top: float
    side: float
    labels: dict[str, int]


@dataclass(frozen=True, slots=True)
class Blocked:
    """Blocked places of one kind.

    Attributes:
        kind: "bad sample", "conditioning" or "other".
        path: Their outlines as an SVG path, nm, y down.
        reasons: Their numbers by reason.
    """

    kind: str
    path: str
    reasons: dict[str, int]


@dataclass(frozen=True, slots=True)
class AreaMap:
    """One approach area: a raster of its images, and what is drawn on it.

    Attributes:
        area: Its row of the table ``areas``.
        picture: The raster as a data URI, transparent where nothing was imaged.
        left: Edge of the map, nm.
        top: Edge of the map, nm.
        side: Of the map, nm.
        x_ticks: Round positions within it, nm.
        y_ticks: The same upwards.
        labels: Number of images by label.
        blocked: Places that must not be imaged any more, without those of the images themselves.
    """

    area: sqlite3.Row
    picture: str
    left: float
    top: float
    side: float
    x_ticks: list[float]
    y_ticks: list[float]
    labels: dict[str, int]
    blocked: list[Blocked]


@dataclass(frozen=True, slots=True)
class Example:
    """One image by itself.

    Attributes:
        scan: Its row of ``scans``.
        picture: As a data URI, with a bar in its lower left corner.
        words: Length of the bar, and what lies between black and white.
    """

    scan: sqlite3.Row
    picture: str
    words: str


def area_maps(db: sqlite3.Connection, run: Path, log: PaintLog) -> Iterator[AreaMap]:
    """Paint the approach areas in the order of their use, one at a time.

    Args:
        db: The journal.
        run: The run directory.
        log: Takes note of what was painted and what could not be.
    """
    areas = area_rows(db)
    # A page with many areas would otherwise grow without bound.
    widest = _WIDEST_MAP * min(1.0, math.sqrt(_MANY_MAPS / max(len(areas), 1)))
    for area in areas:
        raster = paint_area(db, run, area["number"], log, widest)
        yield AreaMap(
            area=area,
            picture=_uri(raster.image),
            left=raster.left,
            top=raster.top,
            side=raster.side,
            x_ticks=ticks(raster.left, raster.side),
            y_ticks=ticks(raster.top - raster.side, raster.side),
            labels=raster.labels,
            blocked=outlines(blocked_places(db, area["number"])),
        )


def paint_area(
    db: sqlite3.Connection,
    run: Path,
    area: int,
    log: PaintLog,
    widest: float,
    smallest: int = 0,
) -> AreaRaster:
    """Put the images of an approach area in their places.

    Args:
        db: The journal.
        run: The run directory.
        area: Its number.
        log: Takes note of what was painted and what could not be.
        widest: Side of the raster, pixels, unless the area is small.
        smallest: Images of fewer pixels are painted in the colour of their label, unread.
    """
    stride = -(-image_count(db) // MOST_PAINTED) or 1
    left, top, side = bounds(db, area)
    canvas = Canvas(left, top, side, min(widest / side, _FINEST_PER_NM), smallest)
    labels: Counter[str] = Counter()
    for row in images_of_area(db, area):
        labels[row["label"] or UNDECIDED] += 1
        # Every n-th image of the whole run, so that all areas are thinned alike.
        if row["id"] % stride:
            log.left_out += 1
        else:
            _paint(canvas, run, row, log)
    found = {each: labels[each] for each in colours.LABELS if each in labels}
    return AreaRaster(canvas.image, left, top, side, found)


def examples(db: sqlite3.Connection, run: Path, label: Label, log: PaintLog) -> Iterator[Example]:
    """Draw a few images with a label, spread over the run."""
    for row in spread_scans(db, label, EXAMPLES):
        grey = grey_of(run, row, log)
        if grey is not None:
            size = (EXAMPLE_PIXELS, EXAMPLE_PIXELS)
            image = Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC)
            bar = round_length(row["size"] / 2)
            _add_bar(image, bar / row["size"])
            span = grey_words(log.preprocessing.scale)
            yield Example(row, _uri(image), f"bar {length_text(bar)}, grey {span}")


def _add_bar(image: Image.Image, share: float) -> None:
    """Draw a bar of this share of the width, white within black, so that it shows on any ground."""
    left, below = 5, image.height - 6
    right = left + max(1, round(share * image.width))
    draw = ImageDraw.Draw(image)
    draw.rectangle((left - 1, below - 3, right + 1, below + 1), fill=0)
    draw.rectangle((left, below - 2, right, below), fill=255)


class Canvas:
    """The raster of one area: left and top edge and side in nm, pixels per nm, as `paint_area`."""

    def __init__(self, left: float, top: float, side: float, per_nm: float, smallest: int) -> None:
        pixels = max(1, round(side * per_nm))
        self.image = Image.new("RGBA", (pixels, pixels))
        self._left, self._top, self._per_nm = left, top, pixels / side
        self._smallest = smallest

    def has_detail(self, row: sqlite3.Row) -> bool:
        """Tell whether an image is large enough here to be more than its label."""
        return self._pixels(row) >= self._smallest

    def paste(self, row: sqlite3.Row, grey: NDArray[np.uint8]) -> None:
        """Put an image in its place, within a frame in the colour of its label."""
        pixels = self._pixels(row)
        # Averaged over areas: sharper filters ring at steps and molecules.
        small = Image.fromarray(grey).resize((pixels, pixels), Image.Resampling.BOX).convert("RGBA")
        label = row["label"] or UNDECIDED
        # Most images are good: thin frames leave more of them visible, and bad ones stand out.
        width = max(1, round(pixels / (22 if label == Label.GOOD else 10)))
        ImageDraw.Draw(small).rectangle(
            (0, 0, pixels - 1, pixels - 1), outline=colours.LABELS[label], width=width
        )
        self._put(row, small)

    def fill(self, row: sqlite3.Row) -> None:
        """Put the colour of its label in the place of an image."""
        pixels = self._pixels(row) + 1  # no gaps between neighbours
        colour = colours.LABELS[row["label"] or UNDECIDED]
        self._put(row, Image.new("RGBA", (pixels, pixels), colour))

    def _pixels(self, row: sqlite3.Row) -> int:
        side: float = row["size"] / NM
        return max(2, round(side * self._per_nm))

    def _put(self, row: sqlite3.Row, small: Image.Image) -> None:
        # Pillow rotates counterclockwise in an image whose rows go down, as angles do in x and y.
        if row["angle"]:
            small = small.rotate(math.degrees(row["angle"]), expand=True)
        x = (row["x"] / NM - self._left) * self._per_nm - small.width / 2
        y = (self._top - row["y"] / NM) * self._per_nm - small.height / 2
        self.image.paste(small, (round(x), round(y)), small)


def _paint(canvas: Canvas, run: Path, row: sqlite3.Row, log: PaintLog) -> None:
    if not canvas.has_detail(row):
        canvas.fill(row)
        return
    grey = grey_of(run, row, log)
    if grey is not None:
        canvas.paste(row, grey)
        log.painted += 1


def grey_of(run: Path, row: sqlite3.Row, log: PaintLog) -> NDArray[np.uint8] | None:
    """Read a scan as grey values; None, and an entry in the log, if that fails."""
    try:
        return grey_values(read_scan(run, row).z, log.preprocessing)
    except FileFormatError as error:
        log.unreadable[row["file"]] = str(error)
        return None


def outlines(places: list[Place]) -> list[Blocked]:
    """Draw the outlines of blocked places, by kind."""
    paths: dict[str, list[str]] = {}
    reasons: dict[str, Counter[str]] = {}
    for place in places:
        x, y, radius = (round(each, 1) for each in (place.x, place.y, place.radius))
        half = f"a{radius:g} {radius:g} 0 1 0"
        # Two half circles: SVG has no arc from a point to itself. y points down there.
        path = f"M{x - radius:.6g} {-y:g}{half} {2 * radius:g} 0{half} {-2 * radius:g} 0z"
        paths.setdefault(place.kind, []).append(path)
        reasons.setdefault(place.kind, Counter())[place.reason] += 1
    return [Blocked(kind, "".join(paths[kind]), dict(reasons[kind])) for kind in sorted(paths)]


def _uri(image: Image.Image) -> str:
    file = io.BytesIO()
    # Much smaller than PNG: the report holds all of its maps in one file.
    image.save(file, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
