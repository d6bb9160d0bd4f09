"""The filter is Bayes' rule, and stays a distribution whatever it is given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agents.belief.belief import VerdictRates, correct, likelihood, update
from agents.belief.errors import BeliefError

CLASSES = 4
ANY = arrays(np.float64, CLASSES, elements=st.floats(0, 1e300))
BELIEFS = arrays(np.float64, CLASSES, elements=st.floats(1e-12, 1)).map(lambda b: b / b.sum())


@given(belief=BELIEFS, likelihoods=ANY)
def test_a_belief_stays_one(belief: np.ndarray, likelihoods: np.ndarray) -> None:
    corrected = correct(belief, likelihoods)
    assert (corrected >= 0).all()
    assert corrected.sum() == pytest.approx(1)


@given(belief=BELIEFS, factor=st.floats(1e-200, 1e200))
def test_only_ratios_of_likelihoods_count(belief: np.ndarray, factor: float) -> None:
    likelihoods = np.array([0.1, 0.5, 1.0, 0.2])
    assert correct(belief, factor * likelihoods) == pytest.approx(correct(belief, likelihoods))
    assert correct(belief, np.ones(CLASSES)) == pytest.approx(belief)


def test_an_update_is_bayes_rule() -> None:
    step = np.array([[0.9, 0.1], [0.3, 0.7]])
    found, transitions = update(np.array([0.5, 0.5]), step, np.array([0.2, 0.8]))
    total = 0.6 * 0.2 + 0.4 * 0.8
    assert found == pytest.approx(np.array([0.6 * 0.2, 0.4 * 0.8]) / total)
    joint = np.array([[0.45 * 0.2, 0.05 * 0.8], [0.15 * 0.2, 0.35 * 0.8]])
    assert transitions == pytest.approx(joint / total)


def test_an_update_by_an_image_that_nothing_explains_expects_what_was_predicted() -> None:
    step = np.array([[0.0, 1.0], [0.0, 1.0]])
    found, transitions = update(np.array([0.5, 0.5]), step, np.array([1.0, 0.0]))
    assert found.tolist() == [0, 1]
    assert transitions.tolist() == [[0, 0.5], [0, 0.5]]


@pytest.mark.parametrize("impossible", [np.nan, np.inf, -1.0])
def test_an_answer_that_is_no_number_is_an_error(impossible: float) -> None:
    with pytest.raises(BeliefError, match="finite and not negative"):
        correct(np.array([0.25, 0.75]), np.array([0.5, impossible]))
    if impossible != -1.0:
        with pytest.raises(BeliefError, match="no probabilities"):
            likelihood(np.array([0.0, impossible]), np.full(2, 0.5), np.ones(2))


def test_an_image_that_nothing_explains_changes_nothing() -> None:
    belief = np.array([0.25, 0.75])
    assert np.array_equal(correct(belief, np.zeros(2)), belief)
    assert np.array_equal(correct(np.array([1.0, 0.0]), np.array([0.0, 1.0])), [1.0, 0.0])
    assert np.array_equal(correct(np.array([1.0, 0.0]), np.array([1e-320, 1.0])), [1.0, 0.0])


def test_a_likelihood_divides_by_the_shares_in_training() -> None:
    posterior, shares = np.array([0.6, 0.3, 0.1]), np.array([0.5, 0.25, 0.25])
    verdict = VerdictRates(0.9, 0.02).probabilities(called_good=False, classes=3)
    assert verdict == pytest.approx([0.1, 0.98, 0.98])
    found = likelihood(np.log(posterior) + 5, shares, verdict)
    expected = posterior / shares * verdict
    assert found == pytest.approx(expected / expected.max())


def test_a_likelihood_of_nothing_decides_nothing() -> None:
    shares = np.full(3, 1 / 3)
    nowhere = likelihood(np.full(3, -np.inf), shares, np.ones(3))
    assert np.array_equal(nowhere, np.ones(3))
    assert likelihood(np.array([-2000.0, 0, 0]), shares, np.ones(3)).tolist() == [0, 1, 1]


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, np.nan])
def test_verdicts_without_exception_are_refused(rate: float) -> None:
    for rates in ((rate, 0.1), (0.9, rate)):
        with pytest.raises(BeliefError, match="between 0 and 1"):
            VerdictRates(*rates)
