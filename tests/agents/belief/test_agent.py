"""The agent learns to condition a probe whose class its images show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agents.baselines import ShuffledPolicy
from agents.belief.agent import BeliefAgent, BeliefState
from agents.belief.errors import BeliefError
from agents.belief.forward_backward import FIRST
from spm_gym.plain_state import StateError, from_bytes, to_bytes
from spm_gym.types import Transition
from tests.support.pointing import ACTIONS, CLASSES, PIXELS, pointed, pointing_agent

TABLE = np.stack([np.eye(3), np.eye(3)[[0, 0, 2]], np.eye(3)[[0, 2, 1]]])
"""Action 1 makes class 1 good, action 2 exchanges 1 and 2, action 0 does nothing."""


def image(state: int, rng: np.random.Generator) -> np.ndarray:
    named = state if rng.random() < 0.9 else int(rng.integers(CLASSES))
    return np.full((1, PIXELS, PIXELS), named, np.float32)


def play(player: BeliefAgent | ShuffledPolicy, steps: int, learn: bool, seed: int = 1) -> list[int]:
    """Lengths of the finished episodes; every action is allowed."""
    rng = np.random.default_rng(seed)
    mask, lengths = np.ones(ACTIONS, bool), []
    true, memory, length = 2, None, 0
    present = image(true, rng)
    for _ in range(steps):
        action, memory = player.predict(present, memory, deterministic=not learn, action_masks=mask)
        true = int(rng.choice(CLASSES, p=TABLE[action, true]))
        following = image(true, rng)
        length += 1
        if learn:
            assert isinstance(player, BeliefAgent)
            done = true == 0
            player.learn_from(Transition(present, action, -1.0, following, mask, done, False))
        present = following
        if true == 0:
            lengths.append(length)
            true, memory, length = int(rng.integers(1, 3)), None, 0
            present = image(true, rng)
    return lengths


def test_it_learns_without_knowledge() -> None:
    learner = pointing_agent()
    before = np.mean(play(pointing_agent(), 300, learn=True)[:10])
    play(learner, 600, learn=True)
    after = np.mean(play(learner, 300, learn=False))
    assert after < 2.1 < before
    assert learner.transitions.mean()[1, 1, 0] > 0.9
    _, state = learner.predict(pointed(2), None, None, True, np.ones(ACTIONS, bool))
    assert learner.forecast(state, True).actions_to_go[2] == pytest.approx(2, abs=0.3)


def test_with_a_true_table_it_needs_no_learning() -> None:
    assert np.mean(play(pointing_agent(table=TABLE), 300, learn=False)) < 2.1


def test_without_learning_it_gives_up_within_an_episode_what_does_not_help() -> None:
    """Action 1 is expected to repair the probe at once, action 0 in a third of the cases."""
    hopeful = np.tile(np.eye(CLASSES), (ACTIONS, 1, 1))
    hopeful[1, 1], hopeful[0, 1] = [1, 0, 0], [1 / 3, 2 / 3, 0]
    player, mask = pointing_agent(table=hopeful), np.ones(ACTIONS, bool)
    before = to_bytes(player.get_state())
    state, actions, expected = None, [], []
    for _ in range(12):
        action, state = player.predict(pointed(1), state, None, True, mask)
        actions.append(int(action))
        expected.append(player.forecast(state, True).good[1])
    assert actions[0] == 1
    assert 0 in actions
    assert expected[-1] < expected[0] / 2
    again, _ = player.predict(pointed(1), None, None, True, mask)
    assert again == 1
    assert to_bytes(player.get_state()) == before


def test_with_images_of_other_episodes_it_loses_its_skill() -> None:
    for player in (pointing_agent(table=TABLE), pointing_agent()):
        play(player, 600, learn=True)
        shuffled = ShuffledPolicy(player, np.random.default_rng(4))
        with_images, without = (play(each, 600, learn=False) for each in (player, shuffled))
        assert np.mean(without) > 1.2 * np.mean(with_images)


def test_a_control_with_other_images_remembers_what_was_done() -> None:
    control = ShuffledPolicy(pointing_agent(table=TABLE), np.random.default_rng(0))
    plain, mask = pointing_agent(table=TABLE), np.ones(ACTIONS, bool)
    same = np.full((1, PIXELS, PIXELS), 2, np.float32)  # always, so that no image is another
    for _ in range(3):
        state, inner = None, None
        for _ in range(4):
            action, state = control.predict(same, state, None, True, mask)
            expected, inner = plain.predict(same, inner, None, True, mask)
            assert action == expected
            assert isinstance(state.inner, BeliefState)
            beliefs = [each.forecast(memory, True).belief for each, memory in
                       ((plain, state.inner), (plain, inner))]  # fmt: skip
            assert beliefs[0] == pytest.approx(beliefs[1])


def test_the_same_seed_gives_the_same_run_and_kept_state_goes_on() -> None:
    for table in (None, TABLE):
        first, again = pointing_agent(3, table), pointing_agent(3, table)
        assert play(first, 130, learn=True) == play(again, 130, learn=True)
        other = pointing_agent(99)
        other.set_state(from_bytes(to_bytes(first.get_state())))
        assert play(first, 130, True, seed=5) == play(other, 130, True, seed=5)
        assert np.array_equal(first.transitions.mean(), other.transitions.mean())


def test_acts_of_unknown_outcome_and_what_follows_them_teach_nothing() -> None:
    learner, mask = pointing_agent(), np.ones(ACTIONS, bool)
    dark = np.zeros((1, PIXELS, PIXELS), np.float32)
    step = Transition(dark, 1, -1.0, dark, mask, False, False)
    for each in (step, replace(step, uncertain=True), step, replace(step, terminated=True)):
        learner.learn_from(each)
    assert (learner.transitions.actions, learner.steps) == (1, 4)
    learner.learn_from(step)
    assert learner.transitions.actions == 2
    with pytest.raises(ValueError, match="integer from 0 to 2"):
        learner.learn_from(replace(step, action=3))


def test_an_episode_that_was_broken_off_is_not_continued() -> None:
    learner, mask = pointing_agent(), np.ones(ACTIONS, bool)
    dark = np.zeros((1, PIXELS, PIXELS), np.float32)
    for _ in range(2):
        learner.learn_from(Transition(dark, 1, -1.0, dark, mask, False, False))
        learner.end_episode()
    assert learner.get_state()["transitions"]["actions"].tolist() == [FIRST, 1, FIRST, 1]


@pytest.mark.parametrize("deterministic", [True, False])
def test_only_allowed_actions_are_chosen(deterministic: bool) -> None:
    bright = np.ones((1, PIXELS, PIXELS), np.float32)
    for table in (None, TABLE):
        player = pointing_agent(table=table)
        mask = np.array([False, False, True])
        action, state = player.predict(bright, None, None, deterministic, mask)
        assert action == 2
        assert sum(player.forecast(state, deterministic).belief) == pytest.approx(1)
        with pytest.raises(BeliefError, match="no action"):
            player.predict(bright, None, None, deterministic, ~mask & mask)


def test_a_state_of_another_agent_is_refused() -> None:
    state = pointing_agent().get_state()
    for key in state:
        with pytest.raises(StateError):
            pointing_agent().set_state(
                {name: value for name, value in state.items() if name != key}
            )
    for wrong in ({"plan": np.zeros((2, 2))}, {"drawn": np.zeros((2, 2))}, {"steps": -1}):
        with pytest.raises(StateError):
            pointing_agent().set_state(state | wrong)
    with pytest.raises(BeliefError, match="3 actions"):
        pointing_agent(table=TABLE[:2])
