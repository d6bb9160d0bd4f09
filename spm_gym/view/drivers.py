"""How long conditioning took when the agent chose the actions, and how long when chance did."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

AGENT, RANDOM = "agent", "random"

DRIVER = f"""(SELECT CASE MIN(q = 'null') WHEN 1 THEN '{RANDOM}' WHEN 0 THEN '{AGENT}' END
FROM steps WHERE steps.episode = episodes.id)"""
"""SQL: who has chosen the actions of a row of ``episodes``; NULL where there are none.

Chance has no values, so its steps have none.
"""

_QUANTILE = 0.975


@dataclass(frozen=True, slots=True)
class Driver:
    """Finished episodes in which the same one chose the actions.

    Attributes:
        episodes: Their numbers, in order.
        lengths: Their numbers of actions, in the same order; those cut off count as they are.
        good: How many ended with a good image.
    """

    episodes: tuple[int, ...]
    lengths: tuple[int, ...]
    good: int

    @property
    def mean(self) -> float:
        """Mean number of actions; NaN without an episode."""
        return float(np.mean(self.lengths)) if self.lengths else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean (Student's t); NaN with less than two episodes."""
        half = _half(math.sqrt(_variance(self.lengths)), len(self.lengths) - 1)
        return self.mean - half, self.mean + half


def driver_lengths(db: sqlite3.Connection) -> dict[str, Driver]:
    """Finished episodes with at least one action, by who chose: `AGENT`, `RANDOM`, or both."""
    found: dict[str, list[sqlite3.Row]] = {}
    for row in db.execute(
        f"SELECT id, actions, outcome = 'good' AS good, {DRIVER} AS driver FROM episodes"
        " WHERE outcome IS NOT NULL AND driver IS NOT NULL ORDER BY id"
    ):
        found.setdefault(row["driver"], []).append(row)
    return {
        name: Driver(
            tuple(row["id"] for row in found[name]),
            tuple(row["actions"] for row in found[name]),
            sum(row["good"] for row in found[name]),
        )
        for name in (AGENT, RANDOM)
        if name in found
    }


def saved_actions(agent: Driver, random: Driver) -> tuple[float, tuple[float, float]]:
    """How many actions fewer the agent needs for an episode, with the 95 % interval (Welch).

    Returns:
        Difference of the means, and its interval; NaN with less than two episodes of either.
    """
    parts = [(_variance(each.lengths), len(each.lengths) - 1) for each in (agent, random)]
    spread = sum(variance for variance, _ in parts)
    half = spread
    if spread > 0:
        freedom = spread**2 / sum(variance**2 / least for variance, least in parts)
        half = _half(math.sqrt(spread), freedom)
    saved = random.mean - agent.mean
    return saved, (saved - half, saved + half)


def _variance(lengths: Sequence[int]) -> float:
    """Of the mean."""
    return float(np.var(lengths, ddof=1)) / len(lengths) if len(lengths) > 1 else math.nan


def _half(error: float, freedom: float) -> float:
    return float(stdtrit(freedom, _QUANTILE)) * error
