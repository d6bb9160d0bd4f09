"""Confidence intervals against closed forms, and how often they have the true value."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from spm_gym.intervals import (
    FEWEST,
    length_difference_interval,
    length_interval,
    mean_interval,
    normal_reach,
    price_interval,
    wilson_interval,
)


def test_mean_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        _, (low, high) = mean_interval(rng.normal(3.0, 2.0, size=12))
        covered += low <= 3.0 <= high
    assert 925 <= covered <= 975


def test_mean_interval_is_students() -> None:
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    mean, interval = mean_interval(values)
    assert (mean, *interval) == pytest.approx((2.8, expected.low, expected.high))
    assert np.isnan(mean_interval([2.0])[1]).all()
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (3, 7), (7, 7), (40, 100)])
def test_wilson_interval_is_scipys(successes: int, trials: int) -> None:
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, "wilson")
    found = wilson_interval(successes, trials)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-4)
    assert np.isnan(wilson_interval(0, 0)).all()


def test_normal_reach_leaves_one_in_twenty_outside() -> None:
    assert stats.norm.cdf(normal_reach(1.0)) == pytest.approx(0.975, abs=1e-4)


def test_intervals_of_lengths_need_enough_episodes_that_differ() -> None:
    enough, few = [1, 2] * (FEWEST // 2), [1, 2] * (FEWEST // 2 - 1)
    assert length_interval(enough) is not None
    for lengths in (few, [3] * 50, []):
        assert length_interval(lengths) is None
        assert length_difference_interval(lengths, enough) is None
        assert length_difference_interval(enough, lengths) is None


def test_an_interval_of_prices_scales_with_their_unit_and_is_never_negative() -> None:
    lengths = [1] * 18 + [2, 30]
    hours = price_interval([length / 3600 for length in lengths])
    seconds = price_interval(lengths)
    assert hours is not None
    assert seconds is not None
    assert np.multiply(hours, 3600) == pytest.approx(seconds)
    assert price_interval([0.0] * 40 + [1.0]) == pytest.approx((0, 0.2), abs=0.2)
    assert price_interval([2.5] * 50) is price_interval([1.0, 2.0]) is None


def test_a_difference_of_lengths_changes_its_sign_with_the_order() -> None:
    rng = np.random.default_rng(1)
    short, long = rng.geometric(0.5, 30).tolist(), rng.geometric(0.1, 30).tolist()
    forwards = length_difference_interval(long, short)
    backwards = length_difference_interval(short, long)
    assert forwards is not None
    assert backwards is not None
    assert forwards == pytest.approx((-backwards[1], -backwards[0]))
    assert forwards[0] < np.mean(long) - np.mean(short) < forwards[1]


def test_an_interval_of_skewed_lengths_reaches_further_up_than_down() -> None:
    lengths = [1] * 18 + [2, 30]
    interval = length_interval(lengths)
    assert interval is not None
    mean, (_, students) = mean_interval(lengths)
    assert interval[1] > students
    assert interval[1] - mean > mean - interval[0]
    assert math.isfinite(interval[1])
