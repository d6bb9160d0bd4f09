"""Maps of approach areas: images in their places, and where no more may be taken."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch

from spm_gym.analysis.areas import Place, area_numbers, area_title, blocked_places
from spm_gym.colours import BLOCKED, GROUND, LABELS
from spm_gym.figures.canvas import new_figure, plain
from spm_gym.figures.mosaic import AreaRaster, PaintLog, paint_area
from spm_gym.paths import display_name

MOST_AREAS = 6
"""Of more areas, a picture of all shows the last ones."""

_SMALLEST_IMAGE = 12
"""Pixels that show more of an image than a colour does."""

_HATCHES = {"bad sample": "xx", "conditioning": "", "other": ".."}
_LARGE = 1500
_SMALL = 700


def draw_area(db: sqlite3.Connection, run: Path, area: int, log: PaintLog) -> Figure:
    """Draw one approach area, large.

    Args:
        db: The journal.
        run: The run directory.
        area: Its number.
        log: Takes note of what was painted and what could not be.
    """
    figure = new_figure(10.5, 11.4)
    legend = _draw(figure.subplots(), db, run, area, log, _LARGE)
    title = f"{display_name(run)}: approach {area_title(db, area)}"
    figure.suptitle(plain(title), x=0.02, ha="left", weight="bold")
    figure.legend(handles=legend, loc="outside lower left", ncols=3, frameon=False, fontsize=10)
    return figure


def draw_areas(db: sqlite3.Connection, run: Path, log: PaintLog) -> Figure:
    """Draw the last approach areas of a run; arguments as for `draw_area`."""
    number = min(len(area_numbers(db)), MOST_AREAS)
    cols = min(number, 3)
    rows = -(-number // cols)
    figure = new_figure(4.6 * max(cols, 2), 4.5 * rows + 1.2)
    add_areas(figure, db, run, log)
    return figure


def add_areas(figure: Figure, db: sqlite3.Connection, run: Path, log: PaintLog) -> None:
    """Draw the last approach areas into a figure, or a part of one, with a legend below."""
    numbers = area_numbers(db)
    last = numbers[-MOST_AREAS:]
    cols = min(len(last), 3)
    rows = -(-len(last) // cols)
    grid = figure.subplots(rows, cols, squeeze=False)
    legend: dict[str, Artist] = {}
    for axes, area in zip(grid.flat, last, strict=False):
        for handle in _draw(axes, db, run, area, log, _SMALL, counted=False):
            legend.setdefault(str(handle.get_label()), handle)
        axes.set_title(area_title(db, area).replace("position ", ""), fontsize=8.5)
    for axes in grid.flat[len(last) :]:
        axes.set_axis_off()
    if len(last) < len(numbers):
        figure.suptitle(f"The last {len(last)} of {len(numbers)} approach areas", fontsize=10)
    figure.legend(
        handles=[legend[label] for label in sorted(legend, key=_order)],
        loc="outside lower left", ncols=min(len(legend), 4), frameon=False, fontsize=9,
    )  # fmt: skip


def _draw(
    axes: Axes,
    db: sqlite3.Connection,
    run: Path,
    area: int,
    log: PaintLog,
    widest: int,
    counted: bool = True,
) -> Sequence[Artist]:
    """Draw an area; gives what its legend needs, with numbers if they are counted."""
    raster = paint_area(db, run, area, log, widest, _SMALLEST_IMAGE)
    places = blocked_places(db, area)
    right, bottom = raster.left + raster.side, raster.top - raster.side
    axes.set_facecolor(GROUND)
    axes.imshow(
        raster.image, extent=(raster.left, right, bottom, raster.top), interpolation="antialiased"
    )
    _add_blocked(axes, places)
    axes.set(xlim=(raster.left, right), ylim=(bottom, raster.top))
    axes.set(aspect="equal", xlabel="x (nm)", ylabel="y (nm)")
    axes.tick_params(labelsize=8)
    return _legend(raster, places, counted)


def _add_blocked(axes: Axes, places: list[Place]) -> None:
    for kind, colour in BLOCKED.items():
        discs = [Circle((p.x, p.y), p.radius) for p in places if p.kind == kind]
        filled = PatchCollection(discs, facecolors=f"{colour}2a", edgecolors=colour, linewidths=0.9)
        filled.set_hatch(_HATCHES[kind])
        axes.add_collection(filled)


def _legend(raster: AreaRaster, places: list[Place], counted: bool) -> list[Artist]:
    handles: list[Artist] = []
    for label, number in raster.labels.items():
        text = f"{label} ({number})" if counted else f"{label}"
        colour = LABELS[label]
        handles.append(Patch(facecolor=f"{colour}80", edgecolor=colour, lw=2.5, label=text))
    for kind in BLOCKED:
        reasons = Counter(place.reason for place in places if place.kind == kind)
        if reasons:
            colour = BLOCKED[kind]
            text = f"blocked: {_reasons(kind, reasons, counted)}"
            handles.append(
                Patch(facecolor=f"{colour}2a", edgecolor=colour, hatch=_HATCHES[kind], label=text)
            )
    return handles


def _reasons(kind: str, reasons: Counter[str], counted: bool) -> str:
    if not counted:
        return "after troubles" if kind == "other" else kind
    named = ", ".join(
        plain(f"{reason} ({number})", 40) for reason, number in reasons.most_common(4)
    )
    return named if len(reasons) <= 4 else f"{named} …"


def _order(label: str) -> tuple[bool, int]:
    """Sort labels as in `LABELS`, then blocked places."""
    known = [str(each) for each in LABELS]
    return label not in known, known.index(label) if label in known else 0
