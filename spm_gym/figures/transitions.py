"""Picture of a learned table of transitions, beside what was known of it before."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from spm_gym.figures.canvas import new_figure

Table = NDArray[np.float64]

_PAIRS = 3
_SIDE, _TITLE = 1.75, 0.34


def draw_transitions(
    prior: Table, learned: Table, observed: Table, actions: Sequence[str], classes: Sequence[str]
) -> Figure:
    """Draw the probabilities of every action: left before learning, right after it.

    Args:
        prior: Mean table before, (A, S, S).
        learned: Mean table after, (A, S, S).
        observed: Expected number of observations of each row, (A, S); rows with hardly any are
            drawn pale.
        actions: Names of the actions.
        classes: Names of the classes.
    """
    rows = math.ceil(len(actions) / _PAIRS)
    width, height = 2 * _PAIRS * _SIDE + 1.6, rows * (_SIDE + _TITLE) + 1.5
    figure = new_figure(width, height, 150)
    grid = figure.subplots(rows, 2 * _PAIRS, squeeze=False)
    image = None
    for number, name in enumerate(actions):
        row, pair = divmod(number, _PAIRS)
        left, right = grid[row, 2 * pair], grid[row, 2 * pair + 1]
        image = _draw_table(left, prior[number])
        # Half of the colour at one observation: below it the row is the prior's, not the tip's.
        _draw_table(right, learned[number], observed[number] / (observed[number] + 1))
        left.set_title(f"{name}: before", fontsize=7)
        right.set_title(f"learned, {observed[number].sum():.0f} times", fontsize=7)
        if not pair:
            left.set_yticks(range(len(classes)), classes, fontsize=4.5)
        if row == rows - 1:
            for axes in (left, right):
                axes.set_xticks(range(len(classes)), classes, fontsize=4.5, rotation=90)
    for empty in grid.flat[2 * len(actions) :]:
        empty.set_axis_off()
    assert image is not None, "there is at least one action"
    bar = figure.colorbar(image, ax=grid, shrink=0.5, pad=0.01)
    bar.set_label("probability of the class after (columns), given that before (rows)", fontsize=7)
    bar.ax.tick_params(labelsize=6)
    return figure


def _draw_table(axes: Axes, table: Table, weight: Table | None = None) -> AxesImage:
    alpha = None if weight is None else np.repeat(0.15 + 0.85 * weight[:, None], len(table), axis=1)

    image = axes.imshow(table, cmap="viridis", vmin=0, vmax=1, alpha=alpha)
    axes.set_xticks([])
    axes.set_yticks([])
    return image
