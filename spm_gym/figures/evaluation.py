"""Picture of an evaluation: what the episodes of every policy cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spm_gym.colours import POLICIES

_LINES = {
    "agent": "-",
    "random": "--",
    "single": (0, (3, 3)),
    "blind": "-.",
    "mask": (0, (5, 1, 1, 1, 1, 1)),
    "counting": (0, (8, 2)),
    "counting-mask": (0, (5, 1)),
    "oracle": ":",
    "shuffled": (0, (1, 1)),
}
"""Line of every policy; its colour is among `spm_gym.colours.POLICIES`."""


_HORIZON = 40
"""Actions that the share of unfinished episodes is drawn over, and as many mean steps in time."""


def plot_lengths(summary: dict[str, Any], path: Path) -> None:
    """Draw means with their intervals, and the share of episodes still running at a price.

    The first row is in actions, the second in seconds of the instrument, where these are known.

    Args:
        summary: From `agents.evaluation.summarise`.
        path: File to write; its ending chooses the format.
    """
    policies = summary["policies"]
    timed = all(policy["seconds"] is not None for policy in policies.values())
    rows = 2 if timed else 1
    figure = Figure(figsize=(10, 3.8 * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, 2, width_ratios=[1, 1.4], squeeze=False)
    _draw_price(panels[0], policies, ("mean_length", "ci95", "lengths"), "actions", _HORIZON)
    _score(panels[0][1], summary["normalised_score"], "actions")
    if timed:
        keys = ("mean_seconds", "seconds_ci95", "seconds")
        actions = sum(sum(policy["lengths"]) for policy in policies.values())
        seconds = sum(sum(policy["seconds"]) for policy in policies.values())
        _draw_price(panels[1], policies, keys, "instrument seconds", _HORIZON * seconds / actions)
        _score(panels[1][1], summary["normalised_score_seconds"], "instrument seconds")
    figure.savefig(path)


def _draw_price(
    panels: Sequence[Axes],
    policies: dict[str, Any],
    keys: tuple[str, str, str],
    unit: str,
    horizon: float,
) -> None:
    """Draw one price of all policies; its mean, interval and values are under these keys."""
    means, survival = panels
    for position, (name, policy) in enumerate(policies.items()):
        colour, line = POLICIES.get(name, "tab:gray"), _LINES.get(name, "-")
        mean, interval, values = (policy[key] for key in keys)
        # Without an interval no error bar, rather than a wrong one.
        low, high = interval or (mean, mean)
        errors = [[mean - low], [high - mean]]
        means.bar(position, mean, color=colour, yerr=errors, capsize=4)
        text = f"{mean:.3g}"
        means.text(position, mean / 2, text, ha="center", color="white", weight="bold")
        # Prices are skewed: a mean alone hides how many probes take very long.
        running = 1 - np.arange(1, len(values) + 1) / len(values)
        survival.step(
            np.r_[0, np.sort(values)],
            np.r_[1, running],
            where="post",
            color=colour,
            ls=line,
            label=name,
        )
    # Long names in two lines, or neighbours would run into one another.
    means.set_xticks(range(len(policies)), [name.replace("-", "-\n") for name in policies])
    means.set_ylabel(f"{unit} per episode (mean, 95 %)")
    survival.set(xlabel=unit, ylabel="share of probes not yet good", xlim=(0, horizon), ylim=(0, 1))
    survival.legend(frameon=False, handlelength=3)


def _score(axes: Axes, score: dict[str, Any] | None, unit: str) -> None:
    if score is not None and score["value"] is not None:
        axes.set_title(f"normalised score in {unit} {score['value']:.3f}", fontsize=10)
