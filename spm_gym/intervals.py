"""Confidence intervals of 95 %, each method once; agents and the analysis of runs share them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv, stdtrit

FEWEST = 10
"""Episodes that an interval of lengths takes: with fewer, it would be a guess."""

Interval = tuple[float, float]

_QUANTILE = 0.975
_NORMAL_QUANTILE = 1.96
_MOST_BLOCKS = 20
_SYMMETRIC = 1e-6
"""Skewness below which the correction would divide by almost nothing."""


def mean_interval(values: Sequence[float]) -> tuple[float, Interval]:
    """Return a mean and its interval (Student's t), NaN of one value; not for skewed values.

    Raises:
        ValueError: There are no values.
    """
    if not len(values):
        raise ValueError("the mean of no values is not defined")
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, (math.nan, math.nan)
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, _QUANTILE)) * error
    return mean, (mean - half, mean + half)


def normal_reach(error: float) -> float:
    """Return half the interval of an estimate with this standard error, taken as normal."""
    return _NORMAL_QUANTILE * error


def wilson_interval(successes: int, trials: int) -> Interval:
    """Compute the interval of a share; NaN without trials.

    Source: E. B. Wilson, *J. Am. Stat. Assoc.* 22, 209 (1927). Unlike the normal interval it stays
    within 0 and 1 and has a width where no trial, or every trial, succeeds.
    """
    if not trials:
        return math.nan, math.nan
    square, share = _NORMAL_QUANTILE**2, successes / trials
    middle = share + square / (2 * trials)
    half = _NORMAL_QUANTILE * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return (middle - half) / (1 + square / trials), (middle + half) / (1 + square / trials)


def poisson_interval(events: int, exposure: float) -> Interval:
    """Compute the interval of a rate of events that do not cause one another (Poisson).

    Source: F. Garwood, *Biometrika* 28, 437 (1936). It has a width where nothing has happened.

    Args:
        events: How many there were.
        exposure: The time in which they happened, more than 0; the rate is in its unit.
    """
    # The probabilities of at least, and of at most, so many events are incomplete gamma functions.
    low = float(gammaincinv(events, 1 - _QUANTILE)) if events else 0.0
    return low / exposure, float(gammaincinv(events + 1, _QUANTILE)) / exposure


def blocks_interval(times: Sequence[float], duration: float) -> Interval | None:
    """Compute the interval of a rate of events that come in stretches, such as good images.

    The time is cut into equal blocks, whose rates are nearly independent if no stretch without an
    event is longer than a block (batch means).
    Source: A. M. Law, *Simulation Modeling and Analysis*, chapter on output of a single system.

    Args:
        times: Of the events, ascending, from 0 to ``duration``.
        duration: More than 0; the rate is in its unit.

    Returns:
        None if fewer than `FEWEST` such blocks fit in, or if all have the same number of events.
    """
    longest = float(np.max(np.diff(np.r_[0.0, times, duration])))
    # More blocks would hardly make the interval narrower, and be less independent.
    blocks = min(_MOST_BLOCKS, int(duration / longest))
    if blocks < FEWEST:
        return None
    width = duration / blocks
    # An event at the very end would lie in a block of its own.
    places = np.minimum((np.asarray(times) / width).astype(int), blocks - 1)
    return price_interval((np.bincount(places, minlength=blocks) / width).tolist())


def ratio_interval(value: float, own: Interval, base: float, base_own: Interval) -> Interval:
    """Compute the interval of a ratio of two independent figures from the interval of each.

    Neither has to be symmetric; of symmetric ones it is Fieller's. It is infinite above if the
    second figure may be zero.
    Source: A. Donner and G. Y. Zou, *Stat. Methods Med. Res.* 21, 347 (2012).

    Args:
        value: The first figure, 0 or more.
        own: Its interval, which is not below 0.
        base: The figure that it is divided by, more than 0.
        base_own: The interval of that, not below 0 either.
    """
    product = value * base
    low, high = (bound * (2 * value - bound) for bound in own)
    base_low, base_high = (bound * (2 * base - bound) for bound in base_own)
    # The textbook's lower end times its conjugate: that one is 0/0 where the base is half as large
    # as its upper end. A root of rounding errors is one of zero.
    lower = product + math.sqrt(max(product**2 - low * base_high, 0.0))
    upper = product + math.sqrt(max(product**2 - high * base_low, 0.0))
    return low / lower if lower else 0.0, upper / base_low if base_low > 0 else math.inf


def length_interval(lengths: Sequence[int]) -> Interval | None:
    """Compute the interval of the mean number of actions of an episode; never below one action.

    Returns:
        None for fewer than `FEWEST` episodes, or if all are equally long.
    """
    interval = price_interval(lengths)
    # An episode has one action at least, and so has the true mean.
    return None if interval is None else (max(interval[0], 1.0), interval[1])


def price_interval(prices: Sequence[float]) -> Interval | None:
    """Compute the interval of the mean price of an episode, in any unit; never below zero.

    Returns:
        None for fewer than `FEWEST` episodes, or if all cost the same.
    """
    if not _has_interval(prices):
        return None
    low, high = _skewed_interval(float(np.mean(prices)), _cumulants(prices))
    return max(low, 0.0), high


def length_difference_interval(lengths: Sequence[int], less: Sequence[int]) -> Interval | None:
    """Compute the interval of a difference of mean numbers of actions, ``less`` subtracted.

    Returns:
        None where one of them has no interval.
    """
    if not (_has_interval(lengths) and _has_interval(less)):
        return None
    difference = float(np.mean(lengths)) - float(np.mean(less))
    return _skewed_interval(difference, _cumulants(lengths), _cumulants(less, -1))


def _has_interval(lengths: Sequence[float]) -> bool:
    # Equal lengths have no variance: an interval without width would promise certainty.
    return len(lengths) >= FEWEST and len(set(lengths)) > 1


@dataclass(frozen=True, slots=True)
class _Cumulants:
    """Unbiased second and third cumulant of a mean, and the degrees of freedom of the second."""

    second: float
    third: float
    freedom: int


def _cumulants(lengths: Sequence[float], sign: int = 1) -> _Cumulants:
    number = len(lengths)
    away = np.asarray(lengths, np.float64) - np.mean(lengths)
    # Unbiased for any distribution (k-statistics); of a mean the second shrinks with the number of
    # values and the third with its square.
    second = float(np.sum(away**2)) / (number - 1) / number
    third = float(np.sum(away**3)) / ((number - 1) * (number - 2)) / number
    # Variances add up in a difference too; an odd cumulant changes its sign.
    return _Cumulants(second, sign * third, number - 1)


def _skewed_interval(estimate: float, *parts: _Cumulants) -> Interval:
    """Correct Student's or Welch's interval of a sum of means for skewness.

    Lengths of episodes are skewed: where all was short so far, long ones are still to come.
    Student's interval of fifteen geometric lengths has the true mean in 90 % of cases, not 95.
    Source: P. Hall, *J. R. Stat. Soc. B* 54, 221 (1992); for two samples X.-H. Zhou and P. Dinh,
    *Biostatistics* 6, 187 (2005).
    """
    variance = sum(part.second for part in parts)
    freedom = variance**2 / sum(part.second**2 / part.freedom for part in parts)
    skewness = sum(part.third for part in parts) / variance**1.5
    reach, error = float(stdtrit(freedom, _QUANTILE)), math.sqrt(variance)
    low, high = (estimate - error * _skewed(q, skewness) for q in (reach, -reach))
    return low, high


def _skewed(quantile: float, skewness: float) -> float:
    """Turn a quantile of Student's ratio into that of a mean with this skewness."""
    if abs(skewness) < _SYMMETRIC:
        return quantile
    # Hall's cubic is monotone, so every quantile has one inverse; Johnson's older one has not.
    return 3 * (float(np.cbrt(1 + skewness * (quantile - skewness / 6))) - 1) / skewness
