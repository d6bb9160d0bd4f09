from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from spm_gym.intervals import FEWEST
from spm_gym.survival import Endings, logrank_p, restricted_means, survival_curve

EPISODES = st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=60)
LIMIT = 12


def endings(pairs: list[tuple[int, bool]]) -> Endings:
    return Endings([price for price, _ in pairs], [good for _, good in pairs])


def geometric(rng: np.random.Generator, share: float, number: int) -> Endings:
    """Episodes that each action ends with this probability, cut off after `LIMIT` actions."""
    lengths = rng.geometric(share, number)
    return Endings(np.minimum(lengths, LIMIT).tolist(), (lengths <= LIMIT).tolist())


def test_a_textbook_curve() -> None:
    """D. G. Kleinbaum and M. Klein, *Survival Analysis*, treated leukaemia patients."""
    good = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    cut = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    curve = survival_curve(Endings([*good, *cut], [True] * len(good) + [False] * len(cut)))
    found = dict(zip(curve.prices, curve.shares, strict=True))
    assert found[6] == pytest.approx(0.857, abs=1e-3)
    assert found[10] == pytest.approx(0.753, abs=1e-3)
    assert found[23] == found[35] == pytest.approx(0.448, abs=1e-3)
    other = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    p = logrank_p(
        Endings([*good, *cut], [True] * len(good) + [False] * len(cut)),
        Endings(other, [True] * len(other)),
    )
    assert p is not None
    assert stats.chi2.isf(p, 1) == pytest.approx(16.79, abs=0.01)


@given(EPISODES)
def test_without_censoring_it_is_the_share_that_took_longer(pairs: list[tuple[int, bool]]) -> None:
    prices = [price for price, _ in pairs]
    curve = survival_curve(Endings(prices, [True] * len(prices)))
    longer = [np.mean(np.array(prices) > price) for price in curve.prices]
    assert curve.shares == pytest.approx(longer)


@given(EPISODES)
def test_a_curve_falls_within_its_intervals(pairs: list[tuple[int, bool]]) -> None:
    curve = survival_curve(endings(pairs))
    assert (np.diff(curve.shares) <= 0).all()
    assert (curve.low >= 0).all()
    assert (curve.high <= 1).all()
    assert (curve.low <= curve.shares).all()
    assert (curve.shares <= curve.high).all()


def test_a_compact_curve_is_short_and_exact_where_it_is_given() -> None:
    prices = np.random.default_rng(0).exponential(50, 300).tolist()
    curve = survival_curve(Endings(prices, [True] * 300))
    compact = curve.compact()
    assert {len(each) for each in compact.values()} == {50}
    assert compact["prices"][0] == pytest.approx(min(prices), abs=1e-4)
    assert compact["prices"][-1] == pytest.approx(max(prices), abs=1e-4)
    for price, share in zip(compact["prices"], compact["shares"], strict=True):
        place = np.argmin(abs(curve.prices - price))
        assert share == pytest.approx(curve.shares[place], abs=1e-4)
    few = survival_curve(Endings([3, 1, 2], [True] * 3)).compact()
    assert few["prices"] == [1, 2, 3]


def test_nineteen_of_twenty_intervals_have_the_true_share() -> None:
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(1000):
        curve = survival_curve(geometric(rng, 0.15, 50))
        place = np.searchsorted(curve.prices, 5, side="right") - 1
        hits.append(curve.low[place] <= 0.85**5 <= curve.high[place])
    assert 0.93 < np.mean(hits) < 0.98


def test_the_log_rank_test_is_as_often_wrong_as_it_says_and_finds_what_differs() -> None:
    rng = np.random.default_rng(2)
    alike = [logrank_p(geometric(rng, 0.1, 40), geometric(rng, 0.1, 40)) for _ in range(500)]
    assert np.mean([p is not None and p < 0.05 for p in alike]) == pytest.approx(0.05, abs=0.03)
    p = logrank_p(geometric(rng, 0.3, 80), geometric(rng, 0.1, 80))
    assert p is not None
    assert p < 1e-4


def test_there_is_no_p_value_of_few_episodes_or_of_equal_ones() -> None:
    few, many = Endings([1] * (FEWEST - 1), [True] * (FEWEST - 1)), Endings([2] * 20, [True] * 20)
    assert logrank_p(few, many) is None
    assert logrank_p(many, many) is None
    never = Endings([5] * 20, [False] * 20)
    assert logrank_p(never, never) is None
    assert logrank_p(never, many) is not None


def test_restricted_means_do_not_depend_on_where_later_episodes_were_cut_off() -> None:
    long, short = Endings([3, 8, 40], [True, False, True]), Endings([1, 2, 20], [True, True, False])
    found = restricted_means({"random": long, "agent": short})
    assert found is not None
    assert found.until == 8
    assert found.means["random"] == (pytest.approx(19 / 3), None)
    assert found.means["agent"] == (pytest.approx(11 / 3), None)
    later = Endings([1, 2, 30], [True, True, False])
    assert restricted_means({"random": long, "agent": later}) == found
    assert restricted_means({"a": Endings([1, 2], [True, True])}) is None


@given(EPISODES)
def test_a_restricted_mean_is_the_area_below_the_curve(pairs: list[tuple[int, bool]]) -> None:
    one = endings(pairs)
    found = restricted_means({"a": one})
    if found is None:
        assert all(one.good)
        return
    curve = survival_curve(one)
    edges = np.r_[0, np.minimum(curve.prices, found.until)]
    area = np.sum(np.diff(edges) * np.r_[1, curve.shares[:-1]])
    assert found.means["a"][0] == pytest.approx(area)
