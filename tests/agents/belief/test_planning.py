"""Plans are the exact optimum where the table is true and the class is known."""

from __future__ import annotations

import numpy as np
import pytest

from agents.belief.errors import BeliefError
from agents.belief.planning import LONGEST, MaskFrequencies, Plan
from spm_gym.config import ActionConfig, EnvConfig
from spm_gym.envs.hidden_process import HiddenProcess, hidden_process
from spm_gym.instrument.sim.dynamics import STATES, ProbeDynamics
from spm_gym.plain_state import StateError, from_bytes, to_bytes

ACTIONS: tuple[ActionConfig, ...] = EnvConfig().actions
COUNT = len(ACTIONS)


def masks() -> MaskFrequencies:
    """Everything is allowed three times out of four, else the first three actions."""
    found = MaskFrequencies(COUNT)
    for few in (False, True, False, False):
        found.add(np.arange(COUNT) < (3 if few else COUNT))
    return found


def process() -> HiddenProcess:
    frequencies, allowed = masks().table()
    levels = np.tile(frequencies, (STATES, 1))
    return hidden_process(ACTIONS, ProbeDynamics(), [0.002], levels, allowed, 5)


def test_a_plan_with_the_true_table_is_the_optimum() -> None:
    exact = process()
    plan = Plan.of(exact.steps, masks())
    assert np.array_equal(plan.to_go, -exact.oracle)
    for state in range(STATES):
        known = np.eye(STATES)[state]
        for mask in exact.allowed:
            best = np.where(mask, exact.oracle[state], -np.inf).argmax()
            assert plan.choose(known, mask) == best


def test_a_belief_weighs_the_classes() -> None:
    plan = Plan(np.array([[1.0, 4.0], [5.0, 2.0]]))
    both = np.ones(2, bool)
    assert plan.choose(np.array([0.9, 0.1]), both) == 0
    assert plan.choose(np.array([0.1, 0.9]), both) == 1
    assert plan.choose(np.array([0.1, 0.9]), np.array([True, False])) == 0
    assert plan.expected(np.array([0.5, 0.5])) == pytest.approx([3, 3])
    with pytest.raises(BeliefError, match="no action"):
        plan.choose(np.array([0.5, 0.5]), ~both)


def test_a_good_probe_out_of_reach_costs_a_whole_episode() -> None:
    still = np.tile(np.eye(3), (2, 1, 1))
    to_go = Plan.of(still, MaskFrequencies(2)).to_go
    assert to_go[1:] == pytest.approx(LONGEST + 1)
    assert to_go[0] == pytest.approx(1)


def test_masks_are_counted() -> None:
    frequencies, allowed = masks().table()
    assert frequencies.tolist() == [0.75, 0.25]
    assert allowed.sum(axis=1).tolist() == [COUNT, 3]
    unseen, everything = MaskFrequencies(COUNT).table()
    assert unseen.tolist() == [1.0]
    assert everything.all()
    with pytest.raises(BeliefError, match="allows one"):
        masks().add(np.zeros(COUNT, bool))
    with pytest.raises(BeliefError, match=f"{COUNT} actions"):
        masks().add(np.ones(COUNT + 1, bool))


def test_kept_masks_are_the_counted_ones() -> None:
    other = MaskFrequencies(COUNT)
    state = from_bytes(to_bytes(masks().get_state()))
    other.set_state(state)
    for ours, theirs in zip(masks().table(), other.table(), strict=True):
        assert np.array_equal(ours, theirs)
    for wrong in ({"counts": np.array([1])}, {"counts": np.array([1, 0])}, {"counts": None}):
        with pytest.raises(StateError):
            other.set_state(state | wrong)
    with pytest.raises(StateError):
        MaskFrequencies(3).set_state(state)
