"""Confidence intervals against closed forms, and how often they have the true value."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from spm_gym.intervals import (
    FEWEST,
    blocks_interval,
    length_difference_interval,
    length_interval,
    mean_interval,
    normal_reach,
    poisson_interval,
    price_interval,
    ratio_interval,
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


@pytest.mark.parametrize("events", [0, 1, 7, 200])
def test_poisson_interval_leaves_one_in_forty_on_either_side(events: int) -> None:
    low, high = (bound * 5.0 for bound in poisson_interval(events, 5.0))
    assert stats.poisson.cdf(events, high) == pytest.approx(0.025)
    if events:
        assert stats.poisson.sf(events - 1, low) == pytest.approx(0.025)
    else:
        assert low == 0.0


def test_ratio_interval_of_symmetric_figures_is_fiellers() -> None:
    mean, base, error, base_error = 3.0, 2.0, 0.2, 0.3
    own, base_own = (mean - error, mean + error), (base - base_error, base + base_error)
    # Ratios r for which (mean - r base) is within its own error, which depends on r.
    expected = np.sort(np.roots([base**2 - base_error**2, -2 * mean * base, mean**2 - error**2]))
    assert ratio_interval(mean, own, base, base_own) == pytest.approx(tuple(expected))


def test_ratio_interval_the_other_way_round_is_its_inverse() -> None:
    one, other = (3.0, (2.5, 4.5)), (2.0, (1.0, 4.0))
    low, high = ratio_interval(*one, *other)
    assert ratio_interval(*other, *one) == pytest.approx((1 / high, 1 / low))


def test_ratio_interval_at_zero() -> None:
    low, high = ratio_interval(0.0, (0.0, 1.0), 2.0, (1.0, 3.0))
    assert low == 0.0
    assert 1 / 3 < high < 1
    assert ratio_interval(1.0, (0.5, 2.0), 0.5, (0.0, 2.0))[1] == math.inf


def test_ratio_interval_covers_the_ratio() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(600):
        one, other = rng.geometric(0.3, size=30), rng.geometric(0.2, size=20)
        own, base_own = price_interval(one.tolist()), price_interval(other.tolist())
        assert own is not None
        assert base_own is not None
        low, high = ratio_interval(float(one.mean()), own, float(other.mean()), base_own)
        covered += low <= 2 / 3 <= high
    assert 0.93 <= covered / 600 <= 0.975


def stretches(rng: np.random.Generator, duration: float, up: float, down: float) -> list[float]:
    """Times of events, one every 20 s, but for pauses after exponential times."""
    now, times = 0.0, []
    while now < duration:
        length = rng.exponential(up)
        times += (now + 20.0 * np.arange(1, length // 20 + 1)).tolist()
        now += length + rng.exponential(down)
    return [time for time in times if time <= duration]


def share_covered(up: float, down: float, duration: float) -> float:
    """Share of the intervals that have the rate of a very long time in them."""
    rng = np.random.default_rng(4)
    true = len(stretches(rng, 7e7, up, down)) / 7e7
    found = [blocks_interval(stretches(rng, duration, up, down), duration) for _ in range(500)]
    known = [interval for interval in found if interval is not None]
    assert len(known) > 450
    return float(np.mean([low <= true <= high for low, high in known]))


def test_blocks_interval_covers_the_rate_of_events_in_stretches() -> None:
    # Twelve hours with ten repairs of ten minutes.
    assert 0.92 <= share_covered(3600.0, 600.0, 12 * 3600.0) <= 0.98


def test_two_stretches_in_all_mislead_it() -> None:
    # Why `campaign.FEWEST_CONDITIONINGS` asks for more of them.
    assert share_covered(20_000.0, 600.0, 12 * 3600.0) < 0.9


def test_blocks_interval_needs_blocks_longer_than_any_pause() -> None:
    often = [*range(1, 50), *range(55, 101)]
    assert blocks_interval(often, 100.0) is not None
    assert blocks_interval([*range(1, 50), *range(61, 101)], 100.0) is None
    assert blocks_interval([], 100.0) is None
    assert blocks_interval([second + 0.5 for second in range(100)], 100.0) is None
