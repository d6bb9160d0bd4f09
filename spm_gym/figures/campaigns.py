"""Picture of several runs beside one another: good images over time, figures with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import MaxNLocator

from spm_gym.analysis.campaign import ACTIONS, GOOD, SECONDS, TROUBLES, Campaign, Figure
from spm_gym.analysis.report import HOUR
from spm_gym.colours import RUNS
from spm_gym.figures.canvas import new_figure, plain

_TITLES = {
    GOOD: "good images per hour",
    ACTIONS: "actions a conditioning",
    SECONDS: "seconds a conditioning",
    TROUBLES: "troubles a day",
}
_ROW = 0.32
"""Height of a run, inches."""

_MOST_LETTERS = 24


def draw_campaigns(campaigns: Sequence[Campaign], names: Sequence[str]) -> Picture:
    """Draw good images over the time of operation, and every figure with its 95 % interval.

    Args:
        campaigns: In the order of their rows.
        names: For the legend and the rows.
    """
    rows = 0.7 + _ROW * len(campaigns)
    figure = new_figure(11, 4.2 + rows)
    grid = figure.add_gridspec(2, len(_TITLES), height_ratios=[3.4, rows])
    labels = [plain(name, _MOST_LETTERS) for name in names]
    _draw_yields(figure.add_subplot(grid[0, :]), campaigns, labels)
    for column, (name, title) in enumerate(_TITLES.items()):
        axes = figure.add_subplot(grid[1, column])
        _draw_figures(axes, [campaign.figures[name] for campaign in campaigns])
        axes.set_xlabel(title)
        axes.set_yticks(range(len(labels)), labels if column == 0 else [""] * len(labels))
        # The first run is the uppermost, as in the table.
        axes.set_ylim(len(labels) - 0.5, -0.5)
        if name != GOOD:  # prices and troubles: the less the better, and none is the best
            axes.set_xlim(0, None)
    figure.supxlabel("bars: 95 % intervals; empty circles: no interval", fontsize=9)
    return figure


def _draw_yields(axes: Axes, campaigns: Sequence[Campaign], labels: Sequence[str]) -> None:
    for place, (campaign, label) in enumerate(zip(campaigns, labels, strict=True)):
        if campaign.good is None:
            continue
        hours = [0.0, *(campaign.good.edges / HOUR)]
        # Colours come again after the last one, with another line.
        line = ("-", "--", ":")[place // len(RUNS) % 3]
        colour = RUNS[place % len(RUNS)]
        axes.step(hours, [0, *campaign.good.good], line, where="post", color=colour, label=label)
    axes.set(xlabel="time of operation (h)", ylabel="good images", xlim=(0, None), ylim=(0, None))
    if axes.lines:
        axes.legend(frameon=False, loc="upper left", ncols=1 + (len(axes.lines) - 1) // 8)


def _draw_figures(axes: Axes, figures: Sequence[Figure]) -> None:
    for place, (figure, colour) in enumerate(zip(figures, cycle(RUNS), strict=False)):
        if math.isnan(figure.value):
            continue
        # Without an interval no bar, and an empty dot: no bar at all would be the surest figure.
        face = "white"
        if isinstance(figure.interval, tuple):
            face = colour
            axes.plot(figure.interval, [place, place], color=colour, lw=2, solid_capstyle="butt")
        axes.plot(figure.value, place, "o", color=colour, mfc=face, clip_on=False, zorder=3)
    axes.grid(axis="x", alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(4))
