"""Survival curves of policies, for evaluations and for reports of runs."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from spm_gym.survival import Endings, survival_curve


def draw_survival(axes: Axes, endings: Endings, colour: str, line: Any, label: str) -> None:
    """Draw a curve with its 95 % intervals, and a tick wherever an episode was cut off."""
    curve = survival_curve(endings)
    prices, shares = [0, *curve.prices], [1, *curve.shares]
    axes.fill_between(
        prices, [1, *curve.low], [1, *curve.high], step="post", color=colour, alpha=0.15, lw=0
    )
    axes.step(prices, shares, where="post", color=colour, ls=line, label=label)
    cut_off = set(endings.cut_off)
    ticks = [(p, s) for p, s in zip(prices, shares, strict=True) if p in cut_off]
    if ticks:
        axes.plot(*zip(*ticks, strict=True), "|", color=colour, ms=7)
