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
    good: BoolArray | None,
    names: tuple[str, ...],
    bins: list[tuple[float, float]],
    threshold: float,
) -> Figure:
    """Draw ROC curve, reliability, histogram, and the images that the labels contradict most.

    Args:
        images: Normalised, (N, H, H).
        probability: Of a good probe, (N,).
        unknown: Whether each image is unlike the training, (N,).
        good: Labels (N,); None without.
        names: Of the images.
        bins: Mean probability and share of good images.
        threshold: An image is called good above it.
    """
    figure = new_figure(13, 9, dpi=100)
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.1], squeeze=False)[:, 0]
    roc, reliability, histogram = above.subplots(1, 3)
    if good is not None and 0 < good.sum() < good.size:
        roc.plot(*roc_curve(good, probability)[:2])
    roc.plot([0, 1], [0, 1], color="grey", linestyle=":")
    roc.set(xlabel="false-positive rate", ylabel="true-positive rate")
    reliability.plot([0, 1], [0, 1], color="grey", linestyle=":")
    reliability.plot([mean for mean, _ in bins], [share for _, share in bins], "o-")
    reliability.set(xlabel="mean probability", ylabel="share of good images")
    kinds = {"known": ~unknown} if good is None else {"bad": ~good & ~unknown,
                                                      "good": good & ~unknown}  # fmt: skip
    for label, members in (*kinds.items(), ("unknown", unknown)):
        histogram.hist(probability[members], bins=40, range=(0, 1), alpha=0.6, label=label)
    histogram.axvline(threshold, color="black", linestyle=":", label="threshold")
    histogram.set(xlabel="probability of a good probe", ylabel="images", yscale="symlog")
    histogram.legend()
    order = np.argsort(probability)
    rows = {"all, from the lowest probability": order, "all, from the highest": order[::-1]}
    if good is not None:
        rows = {"good ones of the lowest probability": order[good[order]],
                "bad ones of the highest probability": order[~good[order]][::-1]}  # fmt: skip
    _draw_images(below, images, probability, unknown, names, rows)
    return figure


def _draw_images(
    figure: SubFigure,
    images: NDArray[np.float32],
    probability: NDArray[np.float64],
    unknown: BoolArray,
    names: tuple[str, ...],
    rows: dict[str, NDArray[np.intp]],
) -> None:
    """Draw the first images of each row with name and probability."""
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, (title, chosen) in zip(parts, rows.items(), strict=True):
        part.suptitle(title, x=0.01, horizontalalignment="left", weight="bold", fontsize=10)
        line = part.subplots(1, _A_ROW)
        for axes in line:
            axes.set_axis_off()
        for axes, number in zip(line, chosen, strict=False):
            show_normalised(axes, images[number])
            mark = ", unknown" if unknown[number] else ""
            axes.set_title(
                f"{plain(names[number], 20)}\n{probability[number]:.3f}{mark}", fontsize=7
            )
