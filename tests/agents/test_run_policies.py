"""Policies of a run: turns, what is learned, and what is kept of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.belief.checkpoint import load_belief_checkpoint
from agents.belief.forward_backward import FIRST
from agents.checkpoint import latest_checkpoint
from agents.run_policies import (
    BeliefPolicy,
    DoubleDQNPolicy,
    InterleavedPolicy,
    RandomRunPolicy,
)
from spm_gym.config import BeliefConfig
from spm_gym.plain_state import StateError
from spm_gym.types import Transition
from tests.support.pointing import ACTIONS, networked, pointed, pointing_agent
from tests.support.ring_env import ring_agent, ring_image

MASK = np.ones(ACTIONS, bool)


def step(before: int, action: int, after: int, **changes: bool) -> Transition:
    """From an image of one class to an image of another."""
    certain = Transition(pointed(before), action, -1.0, pointed(after), MASK, False, False)
    return replace(certain, **changes)


def belief_policy(folder: Path, seed: int = 0, learns: bool = True) -> BeliefPolicy:
    # It explores by drawn tables after three actions, and learns at once.
    config = BeliefConfig(random_actions=2, greedy_until=3, learn_every=1, rounds=2)
    agent = pointing_agent(seed, config=config, recogniser=networked())
    return BeliefPolicy(agent, folder, learns)


def policies_of(policy: InterleavedPolicy, episodes: int) -> list[str]:
    return [policy.choose(pointed(2), MASK, each + 1).policy for each in range(episodes)]


def test_of_every_two_episodes_each_policy_has_one_in_a_drawn_order(tmp_path: Path) -> None:
    def interleaved(seed: int) -> InterleavedPolicy:
        random = RandomRunPolicy(np.random.default_rng(3))
        return InterleavedPolicy(belief_policy(tmp_path), random, seed)

    names = policies_of(interleaved(0), 80)
    blocks = list(zip(names[::2], names[1::2], strict=True))
    assert set(blocks) == {("agent", "random"), ("random", "agent")}
    assert policies_of(interleaved(0), 80) == names
    assert policies_of(interleaved(1), 80) != names


def test_the_double_dqn_does_not_learn_from_uncertain_steps(tmp_path: Path) -> None:
    model = ring_agent()
    policy = DoubleDQNPolicy(model, tmp_path, learns=True)
    image = ring_image(1)
    taught = Transition(image, 1, -1.0, image, np.ones(4, bool), False, False, uncertain=True)
    policy.learn(taught, 1)
    assert model.replay_buffer.size() == 0
    policy.learn(replace(taught, uncertain=False), 1)
    assert model.replay_buffer.size() == 1


def test_after_an_uncertain_step_the_rest_of_its_episode_teaches_nothing(tmp_path: Path) -> None:
    policy = belief_policy(tmp_path)
    policy.learn(step(2, 1, 1), 1)
    policy.learn(step(1, 1, 2, uncertain=True), 1)
    policy.learn(step(2, 1, 1), 1)
    assert policy.agent.transitions.actions == 1
    policy.learn(step(2, 1, 1), 2)
    assert policy.agent.transitions.actions == 2


def test_an_episode_that_ended_without_a_last_step_does_not_run_into_the_next(
    tmp_path: Path,
) -> None:
    for second, episodes in ((1, 1), (2, 2)):
        policy = belief_policy(tmp_path)
        policy.learn(step(2, 1, 1), 1)
        policy.learn(step(2, 1, 1), second)
        stored = policy.agent.transitions.get_state()["actions"]
        assert (stored == FIRST).sum() == episodes


COURSE = [2, 1, 2, 2, 1, 2, 1]


def play(policy: BeliefPolicy, steps: range) -> list[int]:
    """Choose and learn on images of these classes, four steps an episode."""
    chosen = []
    for number in steps:
        episode = 1 + number // 4
        before, after = COURSE[number], COURSE[number + 1]
        action = policy.choose(pointed(before), MASK, episode).action
        policy.learn(step(before, action, after), episode)
        chosen.append(action)
    return chosen


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_belief_policy_goes_on_bit_for_bit_from_checkpoint_and_state(
    tmp_path: Path, cut: int
) -> None:
    """As a run does: an old checkpoint, what came after it, and the state of the last moment."""
    never_killed = belief_policy(tmp_path / "other")
    straight = play(never_killed, range(6))
    killed = belief_policy(tmp_path)
    actions = play(killed, range(1))
    killed.save(1)
    actions += play(killed, range(1, cut))
    state = json.loads(json.dumps(killed.get_state()))

    newest = latest_checkpoint(tmp_path)
    assert newest is not None
    kept = load_belief_checkpoint(newest)
    assert kept.extra["learned"] == 1
    resumed = BeliefPolicy(kept.agent, tmp_path, True, kept.extra["episode"])
    for number in range(1, cut):
        before, after = COURSE[number], COURSE[number + 1]
        resumed.learn(step(before, actions[number], after), 1 + number // 4)
    resumed.set_state(state)
    assert actions + play(resumed, range(cut, 6)) == straight
    np.testing.assert_equal(resumed.agent.get_state(), never_killed.agent.get_state())


ROW = [1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    ("likelihoods", "actions"),
    [([ROW[:2]], [0]), ([ROW], [0, 1]), ([[1.5, -0.5, 0.0]], [0]), ([ROW], [ACTIONS]),
     ([ROW], [-1]), ([ROW, ROW[:2]], [0, 1]), ([[1.0, float("nan"), 0.0]], [0])],
)  # fmt: skip
def test_a_kept_episode_that_is_none_is_refused_and_changes_nothing(
    tmp_path: Path, likelihoods: list[list[float]], actions: list[int]
) -> None:
    policy = belief_policy(tmp_path)
    policy.choose(pointed(2), MASK, 1)
    before = policy.get_state()
    with pytest.raises(StateError, match="likelihoods"):
        policy.set_state(before | {"likelihoods": likelihoods, "actions": actions, "episode": 7})
    assert policy.get_state() == before
