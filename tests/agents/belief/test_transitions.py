"""The table of transitions is found again from episodes whose classes are hidden."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.belief.errors import BeliefError
from agents.belief.transitions import LearnedTransitions, table_prior, uninformed_prior
from spm_gym.plain_state import StateError, from_bytes, to_bytes
from tests.agents.belief.chains import ACTIONS, CLASSES, START, TABLE, observed


def test_without_episodes_the_mean_is_the_prior() -> None:
    learned = LearnedTransitions(uninformed_prior(12, 16))
    assert learned.learn(8) == []
    mean = learned.mean()
    assert mean.sum(axis=2) == pytest.approx(1)
    assert mean[3, 4, 4] == pytest.approx((0.3 + 0.5 / 16) / 0.8)
    assert learned.start() == pytest.approx(1 / 16)


@pytest.mark.parametrize(("right", "rounds", "error"), [(1.0, 1, 0.04), (0.75, 60, 0.08)])
def test_a_known_table_is_found_again(right: float, rounds: int, error: float) -> None:
    learned = observed(right, episodes=300)
    learned.learn(rounds)
    assert np.abs(learned.mean() - TABLE).max() < error
    assert np.abs(learned.start() - START).max() < 0.08
    assert learned.actions == 300 * 20


def test_a_sure_observer_gives_plain_counts() -> None:
    learned = observed(1.0, episodes=5)
    learned.learn(1)
    counts = learned.get_state()["counts"]
    assert counts == pytest.approx(np.round(counts))
    assert counts.sum() == pytest.approx(100)


@settings(max_examples=20, deadline=None)
@given(right=st.floats(0.34, 1.0), seed=st.integers(0, 1000), episodes=st.integers(1, 5))
def test_the_likelihood_never_falls(right: float, seed: int, episodes: int) -> None:
    learned = observed(right, episodes, seed)
    objective = learned.learn(15)
    assert np.isfinite(objective).all()
    assert (np.diff(objective) > -1e-8).all()
    assert learned.mean().sum(axis=2) == pytest.approx(1)
    assert learned.get_state()["counts"].sum() == pytest.approx(learned.actions)


def test_impossible_images_change_nothing() -> None:
    learned = LearnedTransitions(uninformed_prior(ACTIONS, CLASSES))
    learned.begin(np.zeros(CLASSES))
    learned.add(0, np.zeros(CLASSES))
    assert np.isfinite(learned.learn(3)).all()
    assert np.isfinite(learned.mean()).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), weight=st.sampled_from([1e-300, 1e-3, 1.0, 1e6]))
def test_a_draw_is_a_table(seed: int, weight: float) -> None:
    learned = LearnedTransitions(np.full((ACTIONS, CLASSES, CLASSES), weight))
    drawn = learned.draw(np.random.default_rng(seed))
    assert (drawn >= 0).all()
    assert drawn.sum(axis=2) == pytest.approx(1)
    assert np.array_equal(drawn, learned.draw(np.random.default_rng(seed)))


def test_a_good_table_needs_few_episodes() -> None:
    informed = observed(0.75, episodes=3, prior=table_prior(TABLE, ACTIONS, CLASSES, 3.0))
    ignorant = observed(0.75, episodes=3)
    errors = []
    for learned in (informed, ignorant):
        learned.learn(20)
        errors.append(np.abs(learned.mean() - TABLE).mean())
    assert errors[0] < errors[1]


def test_a_table_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BeliefError, match="3 actions"):
        table_prior(TABLE, 3, CLASSES, 3.0)
    for wrong in (TABLE * 1.1, TABLE - 0.1, np.full_like(TABLE, np.nan)):
        with pytest.raises(BeliefError, match="sum to 1"):
            table_prior(wrong, ACTIONS, CLASSES, 3.0)
    with pytest.raises(BeliefError, match="positive"):
        LearnedTransitions(TABLE)


def test_episodes_that_are_none_are_refused() -> None:
    learned = LearnedTransitions(uninformed_prior(ACTIONS, CLASSES))
    with pytest.raises(BeliefError, match="begins"):
        learned.add(0, np.ones(CLASSES))
    for wrong in (np.ones(2), np.array([1, np.nan, 1]), np.array([1, -1, 1.0])):
        with pytest.raises(BeliefError, match="not negative"):
            learned.begin(wrong)
    learned.begin(np.ones(CLASSES))
    for action in (-1, 2):
        with pytest.raises(BeliefError, match=f"not {action}"):
            learned.add(action, np.ones(CLASSES))


def test_kept_state_goes_on_bit_for_bit() -> None:
    learned = observed(0.75, episodes=10)
    learned.learn(2)
    other = LearnedTransitions(uninformed_prior(ACTIONS, CLASSES))
    other.set_state(from_bytes(to_bytes(learned.get_state())))
    for each in (learned, other):
        each.add(1, np.array([0.1, 0.2, 0.7]))
    assert learned.learn(2) == other.learn(2)
    assert np.array_equal(learned.mean(), other.mean())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prior", np.ones((1, CLASSES, CLASSES))),
        ("prior", np.zeros((ACTIONS, CLASSES, CLASSES))),
        ("counts", -np.ones((ACTIONS, CLASSES, CLASSES))),
        ("starts", np.ones(2)),
        ("actions", np.array([-1, 2])),
        ("actions", np.array([0, 1])),
        ("actions", np.array([-1])),
        ("likelihoods", np.full((2, CLASSES), np.nan)),
    ],
)
def test_a_damaged_state_is_refused(name: str, value: Any) -> None:
    learned = LearnedTransitions(uninformed_prior(ACTIONS, CLASSES))
    learned.begin(np.ones(CLASSES))
    learned.add(0, np.ones(CLASSES))
    state = learned.get_state()
    learned.set_state(state)
    with pytest.raises(StateError):
        learned.set_state(state | {name: value})
