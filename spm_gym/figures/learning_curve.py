"""Picture of a training run, drawn from its TensorBoard files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SMOOTHED = 10
"""Logged points that the running mean covers."""


def plot_learning_curve(tensorboard: Path, path: Path) -> None:
    """Draw episode length, loss and epsilon of a run over its actions.

    Where the run knows what time of the instrument it took, the length is drawn over that as well.

    Args:
        tensorboard: Directory of the run's event files; those of a resumed run join up.
        path: File to write; its ending chooses the format.
    """
    # 0 stands for all points; otherwise ten thousand are drawn at random.
    events = EventAccumulator(str(tensorboard), size_guidance={"scalars": 0})
    events.Reload()
    timed = _scalars(events, "progress/hours")[0].size > 0
    figure = Figure(figsize=(13.5 if timed else 9, 3.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    lengths, *by_time, losses = figure.subplots(1, 3 if timed else 2)
    steps, values = _scalars(events, "episode/length")
    _draw(lengths, steps, values, "actions", "actions per episode", "tab:blue")
    for axes in by_time:
        # Values that were logged together have the same step.
        hours = np.interp(steps, *_scalars(events, "progress/hours"))
        _draw(axes, hours, values, "instrument hours", "actions per episode", "tab:blue")
        axes.set_ylim(bottom=0)
    _draw(losses, *_scalars(events, "learn/loss"), "actions", "loss", "tab:purple")
    # Losses span orders of magnitude.
    losses.set_yscale("log")
    exploring = lengths.twinx()
    exploring.plot(*_scalars(events, "explore/epsilon"), color="tab:gray", lw=1, ls=":")
    exploring.set(ylim=(0, 1.05), ylabel="epsilon (dotted)")
    lengths.set_ylim(bottom=0)
    figure.savefig(path)


def _scalars(events: EventAccumulator, tag: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    found = events.Scalars(tag) if tag in events.Tags()["scalars"] else []
    return np.array([e.step for e in found], int), np.array([e.value for e in found], float)


def _draw(
    axes: Axes,
    price: NDArray[np.int64] | NDArray[np.float64],
    values: NDArray[np.float64],
    unit: str,
    label: str,
    colour: str,
) -> None:
    axes.plot(price, values, ".", color=colour, alpha=0.25, ms=4)
    if values.size >= SMOOTHED:
        # Only where the mean is of all its points: towards the ends it would bend.
        smooth = np.convolve(values, np.full(SMOOTHED, 1 / SMOOTHED), "valid")
        axes.plot(price[SMOOTHED - 1 :], smooth, color=colour)
    axes.set(xlabel=unit, ylabel=label)
