from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from agents.baselines import (
    CountingPolicy,
    MixturePolicy,
    OraclePolicy,
    RandomPolicy,
    ShuffledPolicy,
)
from spm_gym.types import Policy
from tests.support.ring_env import RINGS, RingEnv, mean_length

IMAGE = np.zeros((1, 8, 8), np.float32)
MASKS = hnp.arrays(np.bool_, (3, RINGS)).filter(lambda masks: masks.any(axis=1).all())


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def shares(policy: Policy, mask: list[bool], draws: int = 4000) -> NDArray[np.float64]:
    images = np.broadcast_to(IMAGE, (draws, 1, 8, 8))
    actions, _ = policy.predict(images, action_masks=np.tile(mask, (draws, 1)))
    return np.bincount(actions, minlength=len(mask)) / draws


@given(MASKS, st.lists(st.floats(0, 5), min_size=RINGS, max_size=RINGS))
def test_only_allowed_actions_are_drawn(masks: NDArray[np.bool_], weights: list[float]) -> None:
    for policy in (RandomPolicy(rng()), MixturePolicy(np.array(weights), rng())):
        actions, _ = policy.predict(np.stack([IMAGE] * 3), action_masks=masks)
        assert masks[np.arange(3), actions].all()
        one, _ = policy.predict(IMAGE, action_masks=masks[0])
        assert np.shape(one) == ()
        assert masks[0, one]


def test_random_is_uniform_over_the_allowed() -> None:
    found = shares(RandomPolicy(rng()), [True, False, True, True])
    assert found == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.04)


def test_mixture_is_renormalised_over_the_allowed() -> None:
    policy = MixturePolicy(np.array([1.0, 5.0, 3.0, 0.0]), rng())
    assert shares(policy, [True, False, True, True]) == pytest.approx([0.25, 0, 0.75, 0], abs=0.04)


def test_mixture_without_weight_on_the_allowed_is_uniform_there() -> None:
    policy = MixturePolicy(np.array([0.0, 1.0, 0.0, 0.0]), rng())
    assert shares(policy, [True, False, True, False]) == pytest.approx([0.5, 0, 0.5, 0], abs=0.04)


def test_mixture_takes_the_row_of_the_level() -> None:
    policy = MixturePolicy(np.eye(4)[:2], rng(), level=lambda mask: int(mask.all()))
    assert shares(policy, [True] * 4)[1] == 1
    assert shares(policy, [True, True, True, False])[0] == 1


def test_mixture_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="level function"):
        MixturePolicy(np.ones((2, 3)), rng())
    with pytest.raises(ValueError, match="not negative"):
        MixturePolicy(np.array([1.0, -1.0]), rng())


def test_counting_follows_its_plan_from_the_start_of_every_episode() -> None:
    plan = np.stack([np.eye(4)[[first, 3]] for first in (0, 2, 1)])  # two levels of masks each
    policy = CountingPolicy(plan, rng(), level=lambda mask: int(mask[3]))
    three, four = np.array([True, True, True, False]), np.ones(4, bool)
    for _ in range(2):
        state, done = None, []
        for mask in (three, three, four, three, three):
            action, state = policy.predict(IMAGE, state, action_masks=mask)
            done.append(int(action))
        assert done == [0, 2, 3, 1, 1]


def test_oracle_takes_the_best_allowed_action_of_the_state() -> None:
    values = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    hidden = [0]
    policy = OraclePolicy(values, lambda: hidden[0])
    mask = np.ones(3, bool)
    assert policy.predict(IMAGE, action_masks=mask)[0] == 2
    assert policy.predict(IMAGE, action_masks=np.array([True, True, False]))[0] == 1
    hidden[0] = 1
    assert policy.predict(IMAGE, action_masks=mask)[0] == 0


def test_oracle_is_optimal_and_random_is_not() -> None:
    env = RingEnv()
    oracle = OraclePolicy(np.eye(RINGS), lambda: env.ring)
    assert mean_length(oracle, env, episodes=400) == pytest.approx(2.5, abs=0.25)
    assert mean_length(RandomPolicy(rng()), env, episodes=100) > 5


class Recorder:
    """Remembers the images that it was given."""

    def __init__(self) -> None:
        self.images: list[NDArray[np.float32]] = []
        self.masks: list[Any] = []

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: NDArray[np.bool_] | None = None,
    ) -> tuple[Any, Any]:
        self.images.append(observation)
        self.masks.append(action_masks)
        return np.int64(0), state


def test_shuffled_shows_earlier_images_with_the_present_mask() -> None:
    recorder = Recorder()
    policy = ShuffledPolicy(recorder, rng(), pool=10)
    for number in range(50):
        policy.predict(IMAGE + number, action_masks=np.arange(50) == number)
    for number, (image, mask) in enumerate(zip(recorder.images, recorder.masks, strict=True)):
        assert mask[number]
        assert number == 0 or number - 10 <= image.max() < number
    assert recorder.images[0].shape == IMAGE.shape
    assert len({float(image.max()) for image in recorder.images}) > 15


class Remembers(Recorder):
    """Counts the images of an episode, whatever they are."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    def predict(self, observation, state=None, *arguments, **others):  # type: ignore[no-untyped-def]
        self.counts.append(0 if state is None else state)
        super().predict(observation, state, *arguments, **others)
        return np.int64(0), self.counts[-1] + 1


@pytest.mark.parametrize("inner", [Recorder(), Remembers()])  # the former has no memory
def test_shuffled_shows_no_image_of_the_present_episode(inner: Recorder) -> None:
    policy = ShuffledPolicy(inner, rng())
    for episode in range(20):
        state = None
        for _ in range(5):
            _, state = policy.predict(IMAGE + episode, state, action_masks=np.ones(1, bool))
    origins = [float(image.max()) for image in inner.images]
    assert all(origin < number // 5 for number, origin in enumerate(origins) if number >= 5)
    assert len(set(origins[50:])) > 5


def test_shuffled_hands_the_memory_on_and_clears_it_at_the_end_of_an_episode() -> None:
    inner = Remembers()
    policy = ShuffledPolicy(inner, rng())
    for length in (3, 1, 4):
        state = None
        for _ in range(length):
            _, state = policy.predict(IMAGE, state, action_masks=np.ones(1, bool))
    assert inner.counts == [0, 1, 2, 0, 0, 1, 2, 3]


@pytest.mark.parametrize("mask", [None, np.zeros(RINGS, bool)])
def test_a_mask_is_needed(mask: NDArray[np.bool_] | None) -> None:
    weights = np.ones((1, RINGS))
    policies = (RandomPolicy(rng()), MixturePolicy(weights, rng()), OraclePolicy(weights, int),
                CountingPolicy(weights[None], rng(), lambda mask: 0))  # fmt: skip
    for policy in policies:
        with pytest.raises(ValueError, match=r"needs action_masks|allows no action"):
            policy.predict(IMAGE, action_masks=mask)
