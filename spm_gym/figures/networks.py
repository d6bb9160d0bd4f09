"""Classifiers and agents on images of the sixteen classes of probes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from spm_gym.colours import GOOD, INK, OBSERVATION
from spm_gym.envs.rendering import show_normalised
from spm_gym.figures.canvas import new_figure, plain
from spm_gym.imaging.normalisation import LIMIT
from spm_gym.scale import probability_text

PROBES = tuple(
    f"{shape}, {flags}"
    for shape in ("sharp", "weak", "double", "multiple")
    for flags in ("clean", "unstable", "contaminated", "both")
)
"""The classes of probes in the order of their numbers; only the first is good."""

_MOST_FILTERS = 64
_FILTERS_A_ROW = 16


def draw_verdicts(
    images: NDArray[np.float32],
    probability: NDArray[np.float32],
    good_above: float,
    title: str = "",
    figures: Sequence[tuple[str, str]] = (),
    losses: Sequence[tuple[float, float | None]] = (),
) -> Figure:
    """Draw one image of each class of probes with a classifier's probability.

    Args:
        images: As the networks see them, (16, pixels, pixels).
        probability: That the probe is good, (16,).
        good_above: A probe is good above this probability.
        title: What the classifier is.
        figures: Names and values to be listed beside.
        losses: Of every epoch of its training, and on the validation images.
    """
    beside = 2.9 if figures or losses else 0
    figure = new_figure(7 + beside, 7.7 + 0.3 * bool(title), dpi=110)
    if title:
        figure.suptitle(plain(title), x=0.02, ha="left", weight="bold")
    parts = figure.subfigures(1, 2 if beside else 1, squeeze=False,
                              width_ratios=[7, beside] if beside else [1])[0]  # fmt: skip
    for place, axes in enumerate(parts[0].subplots(4, 4).flat):
        show_normalised(axes, images[place])
        called_good = probability[place] > good_above
        axes.set_title(
            f"{PROBES[place]}\np = {probability_text(probability[place])}"
            f"{' (good)' if called_good else ''}",
            fontsize=8.5, color=GOOD if called_good else INK,
        )  # fmt: skip
    for right in parts[1:]:
        _write_figures(right, figures, losses)
    return figure


def _write_figures(
    figure: SubFigure,
    figures: Sequence[tuple[str, str]],
    losses: Sequence[tuple[float, float | None]],
) -> None:
    above, below = figure.subplots(2, 1, height_ratios=[max(len(figures), 1) * 0.25, 2.4])
    above.set_axis_off()
    for number, (name, value) in enumerate(figures):
        y = 1 - (number + 0.5) / len(figures)
        above.text(0, y, plain(name, 30), fontsize=8.5, va="center", transform=above.transAxes)
        above.text(1, y, plain(value, 24), fontsize=8.5, va="center", ha="right", weight="bold",
                   transform=above.transAxes)  # fmt: skip
    if not losses:
        below.set_axis_off()
        return
    epochs = np.arange(1, len(losses) + 1)
    curves = np.array(losses, float)
    below.plot(epochs, curves[:, 0], "o-", ms=3, color=INK, label="training")
    below.plot(epochs, curves[:, 1], "s--", ms=3, color=GOOD, label="validation")
    # Losses span orders of magnitude: a linear axis would show the first epochs only.
    below.set_yscale("log")
    below.set_xlabel("epoch", fontsize=8)
    below.set_ylabel("loss", fontsize=8)
    below.tick_params(labelsize=8, which="both")
    below.spines[["top", "right"]].set_visible(False)
    below.legend(frameon=False, fontsize=8)


def draw_values(
    images: NDArray[np.float32],
    values: NDArray[np.float32],
    actions: Sequence[str],
    filters: NDArray[np.float32],
    title: str,
    about: str,
) -> Figure:
    """Draw an agent's values of all actions for one image of each class of probes.

    Args:
        images: As the networks see them, (16, pixels, pixels).
        values: Of the actions, (16, A).
        actions: Their names, (A,).
        filters: Of the first layer, (N, 3, 3).
        title: What the agent is.
        about: A line about it.
    """
    drawn = filters[:_MOST_FILTERS]
    rows = -(-len(drawn) // _FILTERS_A_ROW)
    heights = [7.6, 0.55 * rows + 0.45]
    figure = new_figure(0.55 * len(actions) + 3.6, sum(heights) + 0.7, dpi=110)
    figure.suptitle(f"{plain(title)}\n", x=0.02, ha="left", weight="bold")
    figure.text(0.02, 1 - 0.42 / figure.get_figheight(), plain(about, 120), fontsize=9, va="top")
    above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    column, heat = above.subplots(1, 2, sharey=True, width_ratios=[1, len(actions) * 1.15])
    _draw_column(column, images)
    # One scale for all probes: a value is an expected return, and rows can be compared.
    shades = heat.imshow(values, cmap="viridis", aspect="auto")
    above.colorbar(shades, ax=heat, pad=0.015, aspect=40, label="value (expected return)")
    heat.set_xticks(range(len(actions)), [plain(name, 20) for name in actions], rotation=40,
                    ha="right", rotation_mode="anchor", fontsize=9)  # fmt: skip
    heat.tick_params(length=0)
    heat.spines[:].set_visible(False)
    _write_values(heat, values)
    _draw_filters(below, drawn, rows, len(filters))
    return figure


def _draw_column(axes: Axes, images: NDArray[np.float32]) -> None:
    """Draw the images in a column, as high as the rows of the values."""
    for row, image in enumerate(images):
        axes.imshow(
            image, cmap=OBSERVATION, vmin=-LIMIT, vmax=LIMIT, aspect="auto",
            extent=(0, 1, row + 0.47, row - 0.47),
        )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(len(images) - 0.5, -0.5), xticks=[])
    axes.set_yticks(range(len(images)), PROBES, fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _write_values(axes: Axes, values: NDArray[np.float32]) -> None:
    # Black on the light half of the colours, white on the dark one.
    middle = (values.min() + values.max()) / 2
    for row, of_image in enumerate(values):
        best = int(of_image.argmax())
        for col, value in enumerate(of_image):
            axes.text(
                col, row, f"{value:.1f}", ha="center", va="center", fontsize=8,
                color="black" if value > middle else "white",
                weight="bold" if col == best else "normal",
            )  # fmt: skip
        axes.add_patch(_frame(best, row, "black" if of_image[best] > middle else "white"))


def _frame(col: int, row: int, colour: str) -> Rectangle:
    """Frame the best action of an image."""
    return Rectangle((col - 0.44, row - 0.42), 0.88, 0.84, fill=False, edgecolor=colour, lw=1.8)


def _draw_filters(figure: SubFigure, filters: NDArray[np.float32], rows: int, number: int) -> None:
    more = f", {len(filters)} of {number}" if number > len(filters) else ""
    figure.suptitle(
        f"filters of the first layer{more} (purple: negative, orange: positive)", fontsize=9,
        x=0.02, ha="left",
    )  # fmt: skip
    # Symmetric, so that the white of the colour map is 0.
    largest = float(np.abs(filters).max()) or 1.0
    for place, axes in enumerate(figure.subplots(rows, _FILTERS_A_ROW, squeeze=False).flat):
        axes.set_axis_off()
        if place < len(filters):
            axes.imshow(filters[place], cmap="PuOr_r", vmin=-largest, vmax=largest)
