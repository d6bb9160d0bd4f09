"""Survival curves of episodes: those that were cut off count until they were, and no further."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # loads scipy.stats when it is needed: it takes a second, and pages do without
from numpy.typing import NDArray

from spm_gym.intervals import FEWEST, Interval, price_interval

_MOST_STEPS = 50
"""Steps of a curve that are written to a file: one of hundreds of episodes has hundreds."""


@dataclass(frozen=True, slots=True)
class Endings:
    """Where episodes of one policy ended, at least one.

    Attributes:
        prices: Of the episodes, in actions or s.
        good: Whether each ended with a good probe; the others were cut off (right-censored).
    """

    prices: Sequence[float]
    good: Sequence[bool]

    @property
    def cut_off(self) -> list[float]:
        """Prices at which episodes were cut off."""
        return [price for price, good in zip(self.prices, self.good, strict=True) if not good]

    def censored(self) -> Any:
        """As scipy takes them."""
        prices, good = np.asarray(self.prices, float), np.asarray(self.good, bool)
        return scipy.stats.CensoredData(uncensored=prices[good], right=prices[~good])


@dataclass(frozen=True, slots=True)
class SurvivalCurve:
    """Share of episodes that have not ended with a good probe yet, over the price.

    It is 1 before the first price, and each share holds until the next one.

    Attributes:
        prices: Where episodes ended or were cut off, ascending, (N,), in actions or s.
        shares: Share not yet ended after each, (N,).
        low: Lower ends of the 95 % intervals, each for its own price, (N,).
        high: Upper ends, (N,).
    """

    prices: NDArray[np.float64]
    shares: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def compact(self) -> dict[str, list[float]]:
        """Give its attributes for a file, rounded, at `_MOST_STEPS` of its prices at most."""
        last = len(self.prices) - 1
        kept = np.linspace(0, last, min(last + 1, _MOST_STEPS)).round().astype(int)
        return {
            name: getattr(self, name)[kept].round(4).tolist()
            for name in ("prices", "shares", "low", "high")
        }


def survival_curve(endings: Endings) -> SurvivalCurve:
    """Estimate a survival curve (Kaplan-Meier)."""
    found = scipy.stats.ecdf(endings.censored()).sf
    with warnings.catch_warnings():
        # The formula has no value at shares of 0 and 1, which is filled in below.
        warnings.simplefilter("ignore", RuntimeWarning)
        # Of log(-log(share)): it stays within 0 and 1, and few episodes do not mislead it.
        interval = found.confidence_interval(method="log-log")
    low, high = interval.low.probabilities, interval.high.probabilities
    # A share is not below 0, and not above the one at the price before, which is 1 at first.
    low = np.where(np.isnan(low), 0.0, low)
    high = np.where(np.isnan(high), np.r_[1.0, high[:-1]], high)
    high = np.where(np.isnan(high), 1.0, high)
    return SurvivalCurve(found.quantiles, found.probabilities, low, high)


def logrank_p(one: Endings, other: Endings) -> float | None:
    """Compute the p value of the log-rank test that two survival curves are the same, two-sided.

    Unlike a comparison of means it needs no price of episodes that were cut off.

    Returns:
        None for fewer than `FEWEST` episodes of either, or if nothing can be compared, as when all
        ended at the same price.
    """
    if min(len(one.prices), len(other.prices)) < FEWEST:
        return None
    with np.errstate(invalid="ignore"):
        p = float(scipy.stats.logrank(one.censored(), other.censored()).pvalue)
    return p if math.isfinite(p) else None


@dataclass(frozen=True, slots=True)
class RestrictedMeans:
    """Mean prices up to a limit: the areas below the survival curves until there.

    Attributes:
        until: The limit.
        means: Mean and its 95 % interval (None as for `price_interval`) by policy.
    """

    until: float
    means: dict[str, tuple[float, Interval | None]]


def restricted_means(policies: Mapping[str, Endings]) -> RestrictedMeans | None:
    """Compute the mean prices of policies up to the lowest price at which an episode was cut off.

    Beyond it nobody knows what that episode would have cost: the mean would depend on where it was
    cut off. Up to it nothing is censored, so that these are ordinary means.

    Returns:
        None if no episode was cut off.
    """
    cut_off = [price for endings in policies.values() for price in endings.cut_off]
    if not cut_off:
        return None
    until = min(cut_off)
    restricted = {
        name: np.minimum(endings.prices, until).tolist() for name, endings in policies.items()
    }
    return RestrictedMeans(
        until,
        {name: (float(np.mean(p)), price_interval(p)) for name, p in restricted.items()},
    )
