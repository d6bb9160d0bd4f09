"""Picture of an evaluation: how long the episodes of every policy were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spm_gym.colours import POLICIES

_LINES = {
    "agent": "-",
    "random": "--",
    "blind": "-.",
    "mask": (0, (5, 1, 1, 1, 1, 1)),
    "counting": (0, (8, 2)),
    "counting-mask": (0, (5, 1)),
    "oracle": ":",
    "shuffled": (0, (1, 1)),
}
"""Line of every policy; its colour is among `spm_gym.colours.POLICIES`."""


def plot_lengths(summary: dict[str, Any], path: Path) -> None:
    """Draw means with their intervals, and the share of episodes still running after n actions.

    Args:
        summary: From `agents.evaluation.summarise`.
        path: File to write; its ending chooses the format.
    """
    policies = summary["policies"]
    figure = Figure(figsize=(10, 3.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    means, survival = figure.subplots(1, 2, width_ratios=[1, 1.4])
    for position, (name, policy) in enumerate(policies.items()):
        colour, line = POLICIES.get(name, "tab:gray"), _LINES.get(name, "-")
        mean = policy["mean_length"]
        low, high = policy["ci95"] or (mean, mean)
        errors = [[mean - low], [high - mean]]
        means.bar(position, mean, color=colour, yerr=errors, capsize=4)
        means.text(position, mean / 2, f"{mean:.2f}", ha="center", color="white", weight="bold")
        lengths = np.sort(policy["lengths"])
        running = 1 - np.arange(1, lengths.size + 1) / lengths.size
        survival.step(
            np.r_[0, lengths], np.r_[1, running], where="post", color=colour, ls=line, label=name
        )
    means.set_xticks(range(len(policies)), list(policies))
    means.set_ylabel("actions per episode (mean, 95 %)")
    survival.set(xlabel="actions", ylabel="share of probes not yet good", xlim=(0, 40), ylim=(0, 1))
    survival.legend(frameon=False, handlelength=3)
    score = summary["normalised_score"]
    if score is not None and score["value"] is not None:
        survival.set_title(f"normalised score {score['value']:.3f}", fontsize=10)
    figure.savefig(path)
