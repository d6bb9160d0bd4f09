"""Confusion matrices of a recogniser of the sixteen classes of probes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spm_gym.figures.canvas import new_figure
from spm_gym.figures.networks import PROBES

_COLUMNS = 2
_WRITTEN = 0.1
"""Share from which on a cell has its number: all 256 would hide the pattern."""


def draw_confusion(matrices: Mapping[int, NDArray[np.int64]]) -> Figure:
    """Draw which classes of probes are taken for which.

    Args:
        matrices: By number of lines of the images: how many of each true class have each class as
            the most probable one, (16, 16).
    """
    columns = min(len(matrices), _COLUMNS)
    rows = -(-len(matrices) // columns)
    figure = new_figure(2.4 + 4.6 * columns, 1.6 + 4.8 * rows, dpi=110)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for unused in panels.flat[len(matrices) :]:
        unused.set_axis_off()
    for axes, (lines, counts) in zip(panels.flat, matrices.items(), strict=False):
        # By row: the classes are not equally frequent, and what matters is how each is recognised.
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        shades = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, col in np.argwhere(shares >= _WRITTEN).tolist():
            axes.text(
                col, row, f"{100 * shares[row, col]:.0f}", ha="center", va="center", fontsize=7,
                color="white" if shares[row, col] > 0.5 else "black",
            )  # fmt: skip
        axes.set_title(f"{lines} lines", fontsize=10)
        axes.set_xticks(range(len(PROBES)), PROBES, rotation=90, fontsize=8)
        axes.set_yticks(range(len(PROBES)), PROBES, fontsize=8)
        axes.tick_params(length=0)
    figure.supxlabel("most probable class", fontsize=10)
    figure.supylabel("class of the probe", fontsize=10)
    label = "share of the images of a class (numbers: %)"
    figure.colorbar(shades, ax=panels, pad=0.01, aspect=40, label=label)
    return figure
