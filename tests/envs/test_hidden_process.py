"""Exact values against small chains by hand and against playing the hidden process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_gym.config import PAPER_ACTIONS
from spm_gym.envs.counting import HORIZON, counting_length, counting_plan
from spm_gym.envs.hidden_process import HiddenProcess, hidden_process
from spm_gym.instrument.sim.dynamics import STATES, ProbeDynamics


def open_process() -> HiddenProcess:
    """Every action is always allowed."""
    count = len(PAPER_ACTIONS)
    return hidden_process(
        PAPER_ACTIONS,
        ProbeDynamics(),
        tip_change_rates=(0.0005, 0.002),
        levels=np.ones((STATES, 1)),
        allowed=np.ones((1, count), dtype=bool),
        damage_actions=5,
    )


def two_levels() -> HiddenProcess:
    """Half of the images forbid the dips."""
    dips = np.array([action.kind == "dip" for action in PAPER_ACTIONS])
    return replace(
        open_process(), levels=np.full((STATES, 2), 0.5), allowed=np.stack([~dips, dips | ~dips])
    )


def coin(share: float) -> NDArray[np.float64]:
    """From every state to the good one with a probability, otherwise to the last."""
    step = np.zeros((STATES, STATES))
    step[:, 0], step[:, -1] = share, 1 - share
    return step


def by_hand(*shares: float) -> HiddenProcess:
    damage = np.zeros((STATES, STATES))
    damage[:, -1] = 1
    return HiddenProcess(
        steps=np.stack([damage, *(coin(share) for share in shares)]),
        imaging=np.eye(STATES),
        levels=np.ones((STATES, 1)),
        allowed=np.ones((1, 1 + len(shares)), dtype=bool),
        damaging=np.array([True] + [False] * len(shares)),
        damage_actions=5,
    )


def played(
    process: HiddenProcess, weights: NDArray[np.float64], episodes: int
) -> NDArray[np.float64]:
    """Lengths of episodes that are drawn step by step."""
    rng = np.random.default_rng(1)

    def choose(level: int, mixture: NDArray[np.float64]) -> int:
        allowed = mixture * process.allowed[level]
        return int(rng.choice(len(allowed), p=allowed / allowed.sum()))

    def step(state: int, mixture: NDArray[np.float64]) -> int:
        level = int(rng.choice(len(process.allowed), p=process.levels[state]))
        if not (mixture * process.allowed[level]).any():
            return int(rng.choice(STATES, p=process.imaging[state]))
        return int(rng.choice(STATES, p=process.steps[choose(level, mixture)][state]))

    lengths = []
    for _ in range(episodes):
        state = 0
        for _ in range(process.damage_actions):
            state = step(state, process.damaging.astype(float))
            if state:
                break
        count = 0
        while count == 0 or state:
            state, count = step(state, weights), count + 1
        lengths.append(count)
    return np.array(lengths, dtype=float)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_a_coin_takes_the_inverse_of_its_share(share: float) -> None:
    assert by_hand(share).length(np.array([0.0, 1.0])) == pytest.approx(1 / share)


def test_the_optimum_takes_the_better_coin_and_the_blind_one_too() -> None:
    process = by_hand(0.2, 0.8)
    assert process.oracle_length == pytest.approx(1 / 0.8)
    assert process.oracle[-1].argmax() == 2
    assert process.length(process.blind) == pytest.approx(1 / 0.8, rel=1e-2)


def test_the_best_single_action_is_one_that_repairs() -> None:
    # Action 0 never does: alone it has no mean length, and is not taken for a good one.
    assert by_hand(0.2, 0.8).single.tolist() == [0, 0, 1]
    assert by_hand(0.8, 0.2).single.tolist() == [0, 1, 0]


def test_uniform_choice_is_a_mean_of_coins() -> None:
    assert by_hand(0.2, 0.7).random_length == pytest.approx(3 / 0.9)


def test_a_mask_that_forbids_the_better_coin_half_the_time() -> None:
    process = replace(
        by_hand(0.2, 0.8),
        levels=np.full((STATES, 2), 0.5),
        allowed=np.array([[True, True, False], [True, True, True]]),
    )
    assert process.oracle_length == pytest.approx(2.0)


def test_start_is_a_distribution_and_mostly_bad() -> None:
    for process in (open_process(), two_levels()):
        assert process.start.sum() == pytest.approx(1)
        assert process.start[0] < 0.01


def test_a_good_probe_that_survives_all_damage_starts_the_episode() -> None:
    process = open_process()
    alone = replace(process, steps=np.stack([np.eye(STATES)] * len(PAPER_ACTIONS)))
    assert alone.start[0] == pytest.approx(1)


@pytest.mark.parametrize("make", [open_process, two_levels])
def test_no_policy_beats_the_oracle_and_looking_at_the_mask_helps(make) -> None:  # type: ignore[no-untyped-def]
    process = make()
    blind, mask_only = process.length(process.blind), process.length(process.mask_only)
    assert process.oracle_length < mask_only <= blind + 1e-3 < process.random_length


def test_lengths_of_the_papers_actions_are_neither_trivial_nor_hopeless() -> None:
    process = open_process()
    assert 8 < process.random_length < 15
    assert 2.5 < process.oracle_length < 4
    blind, single = process.length(process.blind), process.length(process.single)
    assert blind < single <= min(process.length(alone) for alone in np.eye(len(PAPER_ACTIONS)))
    assert process.oracle_length + 2 < process.length(process.blind) < process.random_length - 2


@pytest.mark.parametrize("make", [open_process, two_levels])
def test_random_length_agrees_with_playing(make) -> None:  # type: ignore[no-untyped-def]
    process = make()
    lengths = played(process, np.ones(len(PAPER_ACTIONS)), 1500)
    error = lengths.std() / np.sqrt(len(lengths))
    assert abs(lengths.mean() - process.random_length) < 4 * error
    assert abs(lengths.mean() - process.oracle_length) > 4 * error, "negative control"


def test_oracle_length_is_that_of_its_own_policy() -> None:
    """Linear algebra along the greedy choice gives what value iteration found."""
    process = open_process()
    best = process.oracle.argmax(axis=1)
    step = process.steps[best, np.arange(STATES)]
    onward = np.where(np.arange(STATES) == 0, 0, step)
    value = np.linalg.solve(np.eye(STATES) - onward, np.ones(STATES))
    assert process.start @ value == pytest.approx(process.oracle_length, rel=1e-8)


def two_stages() -> HiddenProcess:
    """A probe that is good after action 1 and then action 2, and lost for ever never.

    State 4 is where one begins; 1 leads from it to 5, 2 from 5 to the good one; else nothing.
    """
    damage, first, second = (np.eye(STATES) for _ in range(3))
    damage[:] = np.eye(STATES)[4]
    first[4], second[5] = np.eye(STATES)[5], np.eye(STATES)[0]
    return HiddenProcess(
        steps=np.stack([damage, first, second]),
        imaging=np.eye(STATES),
        levels=np.ones((STATES, 1)),
        allowed=np.ones((1, 3), dtype=bool),
        damaging=np.array([True, False, False]),
        damage_actions=5,
    )


def test_who_counts_his_steps_knows_when_it_is_time_for_the_second_one() -> None:
    process = two_stages()
    plan = counting_plan(process, sees_mask=False)
    assert counting_length(process, plan) == pytest.approx(2)
    assert plan[:2, 0].argmax(axis=1).tolist() == [1, 2]
    # Each half of the time: two coins, one after the other.
    assert process.length(process.blind) == pytest.approx(4, rel=1e-3)


def test_a_ranking_takes_what_it_can_get_and_the_mask_helps_to_choose() -> None:
    """At the low level only action 1; at the high one 2 is better in either view."""
    process = replace(
        by_hand(0.2, 0.8),
        levels=np.full((STATES, 2), 0.5),
        allowed=np.array([[True, True, True], [True, True, False]]),
    )
    for sees_mask in (False, True):
        plan = counting_plan(process, sees_mask)
        assert counting_length(process, plan) == pytest.approx(2.0, rel=1e-6)
        assert plan.shape == (HORIZON + 1, 2, 3)
        assert plan[0].argmax(axis=1).tolist() == [2, 1]


@pytest.mark.parametrize("make", [open_process, two_levels])
def test_counting_helps_and_seeing_the_mask_besides_too(make) -> None:  # type: ignore[no-untyped-def]
    process = make()
    counting, both = (
        counting_length(process, counting_plan(process, sees_mask)) for sees_mask in (False, True)
    )
    assert counting < process.length(process.blind) - 0.1
    assert process.oracle_length < both < process.length(process.mask_only) - 0.1
    assert both < counting + 0.03, "searches end within a hundredth or two of the best"


def test_the_length_of_a_plan_that_never_changes_is_that_of_its_mixture() -> None:
    process = two_levels()
    rows = process.policy(np.random.default_rng(0).random(process.allowed.shape))
    plan = np.broadcast_to(rows, (7, *rows.shape))
    assert counting_length(process, plan) == pytest.approx(process.length(rows))
