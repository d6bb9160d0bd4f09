"""How long conditioning took under each policy: the agent, and random choice."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

AGENT, RANDOM = "agent", "random"

EPISODE_POLICY = "(SELECT MIN(policy) FROM steps WHERE steps.episode = episodes.id)"
"""SQL: the policy of a row of ``episodes``; NULL where no action has been chosen yet."""

FEWEST = 10
"""Episodes that an interval takes: with fewer, it would be a guess."""

Interval = tuple[float, float] | None
"""95 % interval; None where nothing can be told."""

_QUANTILE = 0.975
_SYMMETRIC = 1e-6


@dataclass(frozen=True, slots=True)
class PolicyEpisodes:
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
    def interval(self) -> Interval:
        """95 % interval of the mean; None below `FEWEST` episodes, or if all took equally long."""
        if not _tells(self):
            return None
        low, high = _interval(self.mean, _cumulants(self.lengths))
        return max(low, 1.0), high

    @property
    def interval_in_words(self) -> str:
        """That interval, or why there is none."""
        return interval_in_words(self.interval, len(self.lengths))


@dataclass(frozen=True, slots=True)
class Saving:
    """How many actions fewer the agent needs for an episode than the random policy.

    Attributes:
        actions: Difference of the means.
        interval: 95 % interval; None unless both have theirs.
        episodes: How many there are of whoever has fewer.
    """

    actions: float
    interval: Interval
    episodes: int

    @property
    def interval_in_words(self) -> str:
        """The interval, or why there is none."""
        return interval_in_words(self.interval, self.episodes)


def policy_episodes(db: sqlite3.Connection) -> dict[str, PolicyEpisodes]:
    """Finished episodes with at least one action, by who chose: `AGENT`, `RANDOM`, or both."""
    found: dict[str, list[sqlite3.Row]] = {}
    for row in db.execute(
        f"SELECT id, actions, outcome = 'good' AS good, {EPISODE_POLICY} AS policy FROM episodes"
        " WHERE outcome IS NOT NULL AND policy IS NOT NULL ORDER BY id"
    ):
        found.setdefault(row["policy"], []).append(row)
    return {
        name: PolicyEpisodes(
            tuple(row["id"] for row in found[name]),
            tuple(row["actions"] for row in found[name]),
            sum(row["good"] for row in found[name]),
        )
        for name in (AGENT, RANDOM)
        if name in found
    }


def saved_actions(agent: PolicyEpisodes, random: PolicyEpisodes) -> Saving:
    """Compare the two."""
    saved = random.mean - agent.mean
    interval = None
    if _tells(agent) and _tells(random):
        interval = _interval(saved, _cumulants(random.lengths), _cumulants(agent.lengths, -1))
    return Saving(saved, interval, min(len(agent.lengths), len(random.lengths)))


def interval_in_words(interval: Interval, episodes: int) -> str:
    """A 95 % interval, or why there is none.

    Args:
        interval: Of a mean number of actions, or of a difference.
        episodes: How many it is from; of whoever has fewer.
    """
    if interval is not None:
        return f"{interval[0]:.1f} to {interval[1]:.1f}"
    if episodes < FEWEST:
        return f"too few to tell ({episodes} of {FEWEST} episodes)"
    return "too alike to tell (equal lengths)"


def _tells(policy: PolicyEpisodes) -> bool:
    return len(policy.lengths) >= FEWEST and len(set(policy.lengths)) > 1


@dataclass(frozen=True, slots=True)
class _Cumulants:
    """Unbiased second and third cumulant of a mean, and the degrees of freedom of the second."""

    second: float
    third: float
    freedom: int


def _cumulants(lengths: Sequence[int], sign: int = 1) -> _Cumulants:
    number = len(lengths)
    away = np.asarray(lengths, np.float64) - np.mean(lengths)
    second = float(np.sum(away**2)) / (number - 1) / number
    third = float(np.sum(away**3)) / ((number - 1) * (number - 2)) / number
    return _Cumulants(second, sign * third, number - 1)


def _interval(estimate: float, *parts: _Cumulants) -> tuple[float, float]:
    """95 % interval of a sum of means: Student's or Welch's, with Hall's correction for skewness.

    Lengths of episodes are skewed: where all was short so far, long ones are still to come. See
    P. Hall, *J. R. Stat. Soc. B* 54, 221 (1992); for two samples X.-H. Zhou and P. Dinh,
    *Biostatistics* 6, 187 (2005).
    """
    variance = sum(part.second for part in parts)
    freedom = variance**2 / sum(part.second**2 / part.freedom for part in parts)
    skewness = sum(part.third for part in parts) / variance**1.5
    reach, error = float(stdtrit(freedom, _QUANTILE)), math.sqrt(variance)
    low, high = (estimate - error * _skewed(q, skewness) for q in (reach, -reach))
    return low, high


def _skewed(quantile: float, skewness: float) -> float:
    """Quantile of Student's ratio if the mean has that skewness."""
    if abs(skewness) < _SYMMETRIC:
        return quantile
    return 3 * (float(np.cbrt(1 + skewness * (quantile - skewness / 6))) - 1) / skewness
