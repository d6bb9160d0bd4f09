"""Picture of a classifier's score: curves, and its worst mistakes."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from spm_gym.envs.rendering import show_normalised
from spm_gym.figures.canvas import new_figure, plain
from spm_gym.types import BoolArray

_A_ROW = 8


def draw_score(
    images: NDArray[np.float32],
    probability: NDArray[np.float64],
    unknown: BoolArray,
    good: BoolArray,
    names: tuple[str, ...],
    bins: list[tuple[float, float]],
    threshold: float,
) -> Figure:
    """Draw ROC curve, reliability, histogram, and the worst mistakes of either kind.

    Args:
        images: Normalised, (N, H, H).
        probability: Of a good probe, (N,).
        unknown: Whether each image is unlike the training, (N,).
        good: Labels (N,).
        names: Of the images.
        bins: Mean probability and share of good images.
        threshold: An image is called good above it.
    """
    figure = new_figure(13, 9, dpi=100)
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.1], squeeze=False)[:, 0]
    roc, reliability, histogram = above.subplots(1, 3)
    if 0 < good.sum() < good.size:
        roc.plot(*roc_curve(good, probability)[:2])
    roc.plot([0, 1], [0, 1], color="grey", linestyle=":")
    roc.set(xlabel="false-positive rate", ylabel="true-positive rate")
    reliability.plot([0, 1], [0, 1], color="grey", linestyle=":")
    reliability.plot(*zip(*bins, strict=True), "o-")
    reliability.set(xlabel="mean probability", ylabel="share of good images")
    for label, members in (
        ("bad", ~good & ~unknown), ("good", good & ~unknown), ("unknown", unknown)
    ):  # fmt: skip
        histogram.hist(probability[members], bins=40, range=(0, 1), alpha=0.6, label=label)
    histogram.axvline(threshold, color="black", linestyle=":", label="threshold")
    histogram.set(xlabel="probability of a good probe", ylabel="images", yscale="symlog")
    histogram.legend()
    _draw_mistakes(below, images, probability, good, names)
    return figure


def _draw_mistakes(
    figure: SubFigure,
    images: NDArray[np.float32],
    probability: NDArray[np.float64],
    good: BoolArray,
    names: tuple[str, ...],
) -> None:
    order = np.argsort(probability)
    rows = {"good, but held for bad": order[good[order]][:_A_ROW],
            "bad, but held for good": order[~good[order]][::-1][:_A_ROW]}  # fmt: skip
    panels = figure.subplots(2, _A_ROW)
    for line, (title, chosen) in zip(panels, rows.items(), strict=True):
        for axes in line:
            axes.set_axis_off()
        line[0].set_title(title, loc="left", fontsize=9, y=1.22, weight="bold")
        for axes, number in zip(line, chosen, strict=False):
            show_normalised(axes, images[number])
            axes.set_xlabel(plain(names[number], 18), fontsize=7)
            axes.set_title(f"{probability[number]:.3f}", fontsize=8)
