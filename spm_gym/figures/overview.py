"""A run at a glance: its areas, the probability over time, what it has come to."""

from __future__ import annotations

import sqlite3
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.transforms import Bbox

from spm_gym.analysis import report as facts
from spm_gym.analysis.areas import area_numbers
from spm_gym.analysis.report import trouble_kinds
from spm_gym.analysis.scans import probabilities, unknown_times
from spm_gym.analysis.status import run_status
from spm_gym.colours import ALARM, INK, LABELS, LIGHT, NEUTRAL
from spm_gym.figures.areas import add_areas
from spm_gym.figures.canvas import new_figure, plain
from spm_gym.figures.mosaic import PaintLog
from spm_gym.figures.report_charts import (
    add_legend,
    draw_recoveries,
    label_time,
    mark_moments,
    style_axes,
)
from spm_gym.journal.conditions import UNDECIDED
from spm_gym.journal.reader import Label
from spm_gym.paths import display_name
from spm_gym.scale import duration_text

# Markers as well as colours, for prints in grey.
_MARKERS = {
    Label.GOOD: ("o", "good"),
    Label.BAD_PROBE: ("v", "bad probe"),
    Label.CONDITIONING: ("s", "during conditioning"),
    UNDECIDED: ("x", UNDECIDED),
}
"""Labels of images that have a probability: marker in the time line, and what it stands for."""


def draw_overview(db: sqlite3.Connection, run: Path, good_above: float, log: PaintLog) -> Figure:
    """Draw maps, time line and counts of a run.

    Args:
        db: The journal.
        run: The run directory.
        good_above: A probe is good above this probability.
        log: Takes note of what was painted and what could not be.
    """
    areas = len(area_numbers(db))
    heights = [5.6 if areas == 1 else 4.2 * (1 + (areas > 3)), 2.9 + 0.2 * trouble_kinds(db)]
    figure = new_figure(13, sum(heights) + 0.3, dpi=110)
    above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    ratios = [1.7 if areas == 1 else 3.1, 1]
    left, right = above.subfigures(1, 2, width_ratios=ratios, squeeze=False)[0]
    if areas:
        add_areas(left, db, run, log)
    _write_counts(right, db, run)
    _add_timeline(below, db, good_above)
    return figure


def draw_timeline(db: sqlite3.Connection, run: Path, good_above: float) -> Figure:
    """Draw the probability over the time of operation; arguments as for `draw_overview`."""
    figure = new_figure(11, 3.6 + 0.2 * trouble_kinds(db))
    figure.suptitle(plain(display_name(run)), x=0.02, ha="left", weight="bold")
    _add_timeline(figure, db, good_above)
    return figure


def _add_timeline(figure: Figure | SubFigure, db: sqlite3.Connection, good_above: float) -> None:
    elapsed = facts.overview(db).elapsed
    moments = facts.moments(db, elapsed)
    lanes = len(moments.recoveries)
    heights = [2.6] + [0.2 + 0.2 * lanes] * bool(lanes)
    grid = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)
    main, *rest = grid[:, 0]
    _scatter(main, db, good_above)
    main.set(ylabel="probability of\na good probe", ylim=(-0.04, 1.04))
    # An axis without extent, at the very start of a run, cannot be drawn.
    main.set_xlim(0, max(elapsed, 1.0))
    for axes in rest:
        draw_recoveries(axes, moments.recoveries, LIGHT)
    for axes in (main, *rest):
        mark_moments(axes, moments, LIGHT)
        style_axes(axes, LIGHT)
    label_time((rest or [main])[-1], elapsed)
    add_legend(main, LIGHT)


def _scatter(axes: Axes, db: sqlite3.Connection, good_above: float) -> None:
    rows = probabilities(db)
    for label, (marker, text) in _MARKERS.items():
        found = np.array([row[1:] for row in rows if row[0] == label], float).reshape(-1, 2)
        if len(found):
            # Thousands of points would cover one another.
            size = float(np.clip(4000 / len(found), 4, 20))
            axes.scatter(
                found[:, 0], found[:, 1], size, LABELS[label], marker=marker,
                linewidths=0.6 if marker == "x" else 0, alpha=0.8, label=text, zorder=3,
            )  # fmt: skip
    unknown = unknown_times(db)
    if unknown:
        # They have no probability: on the upper edge, where no point lies.
        axes.scatter(
            unknown, np.ones(len(unknown)), 40, LABELS[Label.UNKNOWN], marker="|",
            transform=axes.get_xaxis_transform(), label="unknown", clip_on=False, zorder=3,
        )  # fmt: skip
    axes.axhline(good_above, color=INK, lw=0.8, ls=":", zorder=2)


def _write_counts(figure: SubFigure, db: sqlite3.Connection, run: Path) -> None:
    axes = figure.subplots()
    axes.set_axis_off()
    counted = facts.overview(db)
    status = run_status(db, run)
    axes.set_title(plain(display_name(run), 34), loc="left", weight="bold", fontsize=13)
    colour = ALARM if status.unsafe else LIGHT.trouble if status.failed else INK
    axes.text(0, 0.98, _folded(status.sentence), transform=axes.transAxes, va="top", fontsize=9,
              color=colour, weight="bold" if status.unsafe else "normal")  # fmt: skip
    table = axes.table(
        [[number, what] for what, number in _counts(counted)], cellLoc="left", edges="open",
        colWidths=[0.32, 0.68], bbox=Bbox.from_bounds(0, 0, 1, 0.84),
    )  # fmt: skip
    table.auto_set_font_size(False)
    table.set_fontsize(10)
    for (_, col), cell in table.get_celld().items():
        if col == 0:
            cell.set_text_props(weight="bold", color=NEUTRAL, ha="right")


def _counts(run: facts.Overview) -> list[tuple[str, str]]:
    duration, unit = duration_text(run.elapsed).split()
    share = f"{run.good / run.classified:.1%}" if run.classified else "–"
    rate = f"{run.good * facts.HOUR / run.elapsed:.0f}" if run.elapsed else "–"
    return [
        (f"{unit} of operation", duration),
        ("images", f"{run.images:,}"),
        ("good images", f"{run.good:,}"),
        ("of the classified ones good", share),
        *([("unknown images", f"{run.unknown:,}")] if run.unknown else []),
        ("good images per hour", rate),
        ("conditionings", f"{sum(run.episodes.values())}"),
        ("actions in them", f"{run.actions}"),
        ("troubles", f"{sum(run.recoveries.values())}"),
        ("approach areas", f"{run.areas}"),
        ("starts of the program", f"{run.sessions}"),
    ]


def _folded(text: str) -> str:
    # The font has no typographic quotation marks.
    straight = text.translate({ord("“"): '"', ord("”"): '"'})
    return "\n".join(textwrap.wrap(plain(straight, 160), 40))
