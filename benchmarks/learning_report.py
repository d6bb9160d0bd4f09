"""Tables and picture of `benchmarks/learning.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from spm_gym.colours import POLICIES
from spm_gym.figures.canvas import new_figure
from spm_gym.intervals import mean_interval

Results = Iterable[Mapping[str, Any]]
Evaluations = Sequence[Mapping[str, Any]]
"""Of one agent at one stage, one of each seed."""

Stages = Mapping[str, Mapping[int, Evaluations]]
"""By agent and number of actions; 0 for policies that do not learn."""

_HOUR = 3600.0
_LOWEST, _HIGHEST = -0.5, 1.1
"""Scores that are drawn; below are agents that have hardly learned yet, far below."""

_MARKERS = "osD^v<>PX"


def curves(results: Results, order: Sequence[str]) -> str:
    """Format the score in actions at every stage as a table in Markdown.

    Args:
        results: Of `benchmarks/learning.py`.
        order: Of the agents.
    """
    found = _by_stage(results, order)
    stages = sorted({stage for at in found.values() for stage in at})
    rows = [
        [agent, *(_score(at.get(stage, []), "normalised_score") for stage in stages)]
        for agent, at in found.items()
    ]
    return markdown_table(["score after actions", *(f"{stage:,}" for stage in stages)], rows)


def prices(results: Results, order: Sequence[str]) -> str:
    """Format what an episode costs after the last stage, and what learning has cost by then."""
    rows = []
    for agent, at in _by_stage(results, order).items():
        last = at[max(at)]
        spent = {key: np.mean([each["spent"][key] for each in last]) for key in last[0]["spent"]}
        rows.append(
            [
                agent,
                _price(last, "mean_length", "ci95", 2),
                _price(last, "mean_seconds", "seconds_ci95", 0),
                _price(last, "mean_cpu_seconds", "cpu_seconds_ci95", 4),
                _score(last, "normalised_score_seconds"),
                f"{spent['actions']:,.0f}",
                f"{spent['instrument_seconds'] / _HOUR:.1f}",
                f"{spent['reset_seconds'] / _HOUR:.1f}",
                f"{spent['reset_actions']:,.0f}",
                f"{spent['cpu_seconds']:.0f}",
            ]
        )
    head = [
        "per episode", "actions", "instrument s", "CPU s", "score in s", "learning: actions",
        "instrument h", "resets, h", "reset actions", "CPU s",
    ]  # fmt: skip
    return markdown_table(head, rows)


def plot(results: Results, order: Sequence[str], path: Path) -> None:
    """Draw the score over actions, and over hours of the instrument with those of the resets.

    Args:
        results: Of `benchmarks/learning.py`.
        order: Of the agents.
        path: File to write; its ending chooses the format.
    """
    found = _by_stage(results, order)
    figure = new_figure(13, 5.2, dpi=100)
    panels = figure.subplots(1, 2, sharey=True)
    _draw(panels[0], found, lambda spent: spent["actions"])
    _draw(panels[1], found, lambda spent: spent["instrument_seconds"] / _HOUR)
    panels[0].set(xlabel="actions of learning", ylabel="normalised score in actions")
    panels[1].set_xlabel("instrument hours of learning, resets included")
    panels[0].set_title("mean over seeds; band: lowest to highest seed", fontsize=10)
    panels[1].set_title("dashed: without learning", fontsize=10)
    # Outside: lines end too close to one another for labels beside them.
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(path)


def _draw(axes: Axes, found: Stages, price: Callable[[Mapping[str, float]], float]) -> None:
    """Draw the scores of all agents over one price of learning."""
    all_paid: list[float] = []
    learners = 0
    for agent, at in found.items():
        stages = [stage for stage in at.values() if _scores(stage)]
        scores = [_scores(stage) for stage in stages]
        means = [float(np.mean(values)) for values in scores]
        if max(at) == 0:
            line = {"ls": "--", "lw": 1, "color": POLICIES[agent], "label": agent}
            for mean in means:
                axes.axhline(mean, **line)
            continue
        paid = [float(np.mean([price(each["spent"]) for each in stage])) for stage in stages]
        colour, marker = f"C{learners}", _MARKERS[learners % len(_MARKERS)]
        learners += 1
        all_paid += [each for each in paid if each > 0]
        axes.plot(paid, means, color=colour, marker=marker, ms=5, label=agent)
        low, high = ([end(values) for values in scores] for end in (min, max))
        axes.fill_between(paid, low, high, color=colour, alpha=0.12, lw=0)
    if all_paid:
        # Not quite a logarithm: nothing is paid yet where a prior is evaluated.
        axes.set_xscale("symlog", linthresh=min(all_paid))
    axes.set_ylim(_LOWEST, _HIGHEST)
    axes.grid(alpha=0.3)


def _by_stage(results: Results, order: Sequence[str]) -> Stages:
    """Sort the evaluations by agent, in this order, and by stage; those of all seeds together."""
    found: dict[str, dict[int, list[Mapping[str, Any]]]] = {agent: {} for agent in order}
    for result in results:
        for evaluation in result["evaluations"]:
            found[result["agent"]].setdefault(evaluation["stage"], []).append(evaluation)
    return {agent: at for agent, at in found.items() if at}


def _scores(evaluations: Evaluations, key: str = "normalised_score") -> list[float]:
    # Undefined where the oracle was not better than random choice, as in very few episodes.
    found = [each[key]["value"] for each in evaluations]
    return [value for value in found if value is not None]


def _score(evaluations: Evaluations, key: str) -> str:
    values = _scores(evaluations, key)
    if not values:
        return ""
    return _over_seeds(values, evaluations[0][key]["ci95"], 2)


def _price(evaluations: Evaluations, mean: str, interval: str, digits: int) -> str:
    agents = [each["policies"]["agent"] for each in evaluations]
    return _over_seeds([agent[mean] for agent in agents], agents[0][interval], digits)


def _over_seeds(values: Sequence[float], own: Sequence[float] | None, digits: int) -> str:
    """Format a mean with its interval: over seeds or, of a single one, that of its episodes."""
    mean, interval = mean_interval(values)
    bounds = own if len(values) == 1 else interval
    if bounds is None:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ({bounds[0]:.{digits}f} to {bounds[1]:.{digits}f})"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table in Markdown, its columns aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )
