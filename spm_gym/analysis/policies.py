"""How long conditioning took under each policy: the agent, and random choice."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass

import numpy as np

from spm_gym.intervals import (
    FEWEST,
    Interval,
    length_difference_interval,
    length_interval,
    price_interval,
)
from spm_gym.journal.conditions import FINISHED
from spm_gym.survival import Endings, logrank_p

AGENT, RANDOM = "agent", "random"

# All steps of an episode have the same, which `find_inconsistencies` checks; MIN picks it.
EPISODE_POLICY = "(SELECT MIN(policy) FROM steps WHERE steps.episode = episodes.id)"
"""SQL: the policy of a row of ``episodes``; NULL where no action has been chosen yet."""


@dataclass(frozen=True, slots=True)
class PolicyEpisodes:
    """Finished episodes in which the same one chose the actions.

    Attributes:
        episodes: Their numbers, in order.
        lengths: Their numbers of actions, in the same order; those cut off count as they are.
        seconds: Their times on the instrument's clock, in the same order, pauses not counted.
        ended_good: Whether each ended with a good image; the others were cut off.
    """

    episodes: tuple[int, ...]
    lengths: tuple[int, ...]
    seconds: tuple[float, ...]
    ended_good: tuple[bool, ...]

    @property
    def good(self) -> int:
        """How many ended with a good image."""
        return sum(self.ended_good)

    @property
    def in_actions(self) -> Endings:
        """Numbers of actions for a survival curve."""
        return Endings(self.lengths, self.ended_good)

    @property
    def mean(self) -> float:
        """Mean number of actions; NaN without an episode."""
        return float(np.mean(self.lengths)) if self.lengths else math.nan

    @property
    def interval(self) -> Interval | None:
        """95 % interval of the mean; None below `FEWEST` episodes, or if all took equally long."""
        return length_interval(self.lengths)

    @property
    def mean_seconds(self) -> float:
        """Mean time; NaN without an episode."""
        return float(np.mean(self.seconds)) if self.seconds else math.nan

    @property
    def seconds_interval(self) -> Interval | None:
        """95 % interval of that; None as for `interval`."""
        return price_interval(self.seconds)

    @property
    def interval_in_words(self) -> str:
        """The interval of the number of actions, or why there is none."""
        return interval_in_words(self.interval, len(self.lengths))

    @property
    def seconds_in_words(self) -> str:
        """The interval of the time, or why there is none."""
        return interval_in_words(self.seconds_interval, len(self.seconds))


@dataclass(frozen=True, slots=True)
class Saving:
    """How many actions fewer the agent needs for an episode than the random policy.

    Attributes:
        actions: Difference of the means.
        interval: 95 % interval; None unless both have theirs.
        episodes: How many there are of the policy with fewer.
        logrank: p value of the log-rank test of their numbers of actions; None of few episodes.
    """

    actions: float
    interval: Interval | None
    episodes: int
    logrank: float | None

    @property
    def interval_in_words(self) -> str:
        """The interval, or why there is none."""
        return interval_in_words(self.interval, self.episodes)


def policy_episodes(db: sqlite3.Connection) -> dict[str, PolicyEpisodes]:
    """Read finished episodes with at least one action, by policy: `AGENT`, `RANDOM`, or both."""
    found: dict[str, list[sqlite3.Row]] = {}
    for row in db.execute(
        "SELECT id, actions, elapsed_end - elapsed AS seconds, outcome = 'good' AS good,"
        f" {EPISODE_POLICY} AS policy FROM episodes"
        f" WHERE {FINISHED} AND policy IS NOT NULL ORDER BY id"
    ):
        found.setdefault(row["policy"], []).append(row)
    return {
        name: PolicyEpisodes(
            tuple(row["id"] for row in found[name]),
            # Episodes that were cut off count with their full length: to leave them out would
            # favour the policy that fails more often.
            tuple(row["actions"] for row in found[name]),
            tuple(row["seconds"] for row in found[name]),
            tuple(bool(row["good"]) for row in found[name]),
        )
        for name in (AGENT, RANDOM)
        if name in found
    }


def saved_actions(agent: PolicyEpisodes, random: PolicyEpisodes) -> Saving:
    """Compare the agent with the random policy."""
    interval = length_difference_interval(random.lengths, agent.lengths)
    # The smaller number decides whether the comparison can be believed.
    fewer = min(len(agent.lengths), len(random.lengths))
    p = logrank_p(agent.in_actions, random.in_actions)
    return Saving(random.mean - agent.mean, interval, fewer, p)


def interval_in_words(interval: Interval | None, episodes: int) -> str:
    """Write a 95 % interval, or why there is none.

    Args:
        interval: Of a mean number of actions or time, or of a difference.
        episodes: How many it is from; of the policy with fewer.
    """
    if interval is not None:
        return f"{interval[0]:.1f} to {interval[1]:.1f}"
    if episodes < FEWEST:
        return f"too few to tell ({episodes} of {FEWEST} episodes)"
    return "too alike to tell (equal lengths)"
