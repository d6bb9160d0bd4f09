"""The environment as Gymnasium and Stable-Baselines3 see it."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import DQN
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import spm_gym  # noqa: F401  (registers the environment)
from spm_gym.assembly.environment import make_env
from spm_gym.config import PAPER_ACTIONS, Config, EnvConfig, load_config
from spm_gym.envs.observation import allowed_actions
from spm_gym.plain_state import from_bytes, to_bytes
from tests.support.scripted_envs import play, rollout

ID = "spm_gym/ProbeConditioning-v0"
TRUTH = ("env.ground_truth=true",)
NM = 1e-9


def test_checkers_have_nothing_to_say() -> None:
    env = gymnasium.make(ID, overrides=TRUTH, render_mode="rgb_array").unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    sb3_check_env(env, warn=False)


def test_spaces_are_the_published_ones() -> None:
    env = gymnasium.make(ID)
    assert env.observation_space == gymnasium.spaces.Box(-1.5, 1.5, (1, 64, 64), np.float32)
    assert env.action_space == gymnasium.spaces.Discrete(12)


def test_same_seed_same_trajectory() -> None:
    first, second = make_env(overrides=TRUTH), make_env(overrides=TRUTH)
    assert rollout(first, 30, seed=7) == rollout(second, 30, seed=7)
    assert rollout(first, 5, seed=7) != rollout(first, 5, seed=8)


def test_two_environments_do_not_disturb_each_other() -> None:
    alone = rollout(make_env(overrides=TRUTH), 12, seed=3)
    one, other = make_env(overrides=TRUTH), make_env(overrides=TRUTH)
    beside = []
    for played, _ in zip(play(one, 3), play(other, 9), strict=False):
        beside.append(played)
        if len(beside) == len(alone):
            break
    assert beside == alone


def test_make_vec_works_with_plain_vectorisation() -> None:
    envs = gymnasium.make_vec(ID, num_envs=2, vectorization_mode="sync", overrides=TRUTH)
    observations, infos = envs.reset(seed=0)
    assert observations.shape == (2, 1, 64, 64)
    assert infos["action_mask"].shape == (2, 12)
    envs.close()


@pytest.mark.parametrize(
    ("side_nm", "names"),
    [
        (0.0, ["stall"]),
        (0.2, ["stall", "pulse +2.5 V", "pulse +4.0 V", "pulse -2.5 V", "pulse -4.0 V",
               "pulse -8.0 V"]),
        (1.0, ["dip 0.8 nm", "dip 1.0 nm"]),
        (2.0, ["dip 1.2 nm", "dip 1.8 nm"]),
        (3.0, ["dip 2.5 nm"]),
        (4.0, ["dip 5.0 nm"]),
    ],
)  # fmt: skip
def test_each_clean_square_adds_its_actions(side_nm: float, names: list[str]) -> None:
    allowed = allowed_actions(EnvConfig(), side_nm * NM)
    below = allowed_actions(EnvConfig(), side_nm * NM * 0.999)
    added = [a.name for a, now, before in zip(PAPER_ACTIONS, allowed, below, strict=True)
             if now and (side_nm < 1 or not before)]  # fmt: skip
    assert added == names


@pytest.mark.parametrize("truth", ["false", "true"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_and_pickles_of_an_environment_go_on_alike_and_apart(
    truth: str, copied: Callable[[Any], Any]
) -> None:
    env = gymnasium.make(ID, overrides=(f"env.ground_truth={truth}",))
    env.reset(seed=4)
    env.step(1)
    twin = copied(env)
    assert twin.unwrapped.navigator.instrument is twin.unwrapped.instrument
    ahead = [twin.step(k) for k in (2, 0, 3)]
    for theirs, ours in zip(ahead, (env.step(k) for k in (2, 0, 3)), strict=True):
        assert theirs[0].tobytes() == ours[0].tobytes()
        assert str(theirs[1:]) == str(ours[1:])


def test_the_mask_is_found_and_sampled_from_as_the_docs_say() -> None:
    env = gymnasium.make(ID, overrides=TRUTH)
    _, info = env.reset(seed=0)
    only = np.arange(12) == 7
    for mask in (only, only.astype(np.int8)):
        assert env.action_space.sample(mask=mask) == 7
    drawn = {int(env.action_space.sample(info["action_mask"])) for _ in range(300)}
    assert drawn == set(np.flatnonzero(info["action_mask"]))
    assert env.action_space.sample() in env.action_space
    assert np.array_equal(env.action_masks(), info["action_mask"])
    wrapped = gymnasium.wrappers.RecordEpisodeStatistics(env)
    assert np.array_equal(wrapped.get_wrapper_attr("action_masks")(), info["action_mask"])


def test_stable_baselines_takes_the_images_unless_it_is_to_rescale_them() -> None:
    env = gymnasium.make(ID, overrides=TRUTH)
    model = DQN("CnnPolicy", env, policy_kwargs={"normalize_images": False}, buffer_size=10)
    observation, _ = env.reset(seed=0)
    assert model.predict(observation)[0] in env.action_space


@pytest.mark.parametrize(("overrides", "threads"), [((), 1), (("run.threads=null",), 3)])
def test_building_an_environment_sets_the_threads_of_torch(
    overrides: tuple[str, ...], threads: int
) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        gymnasium.make(ID, overrides=overrides)
        assert torch.get_num_threads() == threads
        torch.set_num_threads(3)
        gymnasium.make_vec(ID, 2, overrides=overrides)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("steps_before", [1, 7])
def test_a_restored_environment_goes_on_bit_for_bit(steps_before: int) -> None:
    env = make_env(overrides=TRUTH)
    rollout(env, steps_before, seed=11)
    state = to_bytes(env.get_state())
    other = make_env(overrides=TRUTH)
    other.set_state(from_bytes(state))
    for _ in range(8):
        mask = env.action_masks()
        assert np.array_equal(mask, other.action_masks())
        action = int(np.flatnonzero(mask)[-1])
        ours, theirs = env.step(action), other.step(action)
        assert ours[0].tobytes() == theirs[0].tobytes()
        assert str(ours[1:]) == str(theirs[1:])


def test_render_draws_scan_and_map() -> None:
    env = gymnasium.make(ID, overrides=TRUTH, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    assert before.dtype == np.uint8
    assert before.ndim == 3
    assert before.std() > 10
    env.step(0)
    assert np.any(env.render() != before)


def test_unknown_render_mode_is_an_error() -> None:
    with pytest.raises(ValueError, match="human"):
        make_env(overrides=TRUTH, render_mode="human")


def test_the_shipped_classifier_sees_good_and_bad() -> None:
    env = gymnasium.make(ID).unwrapped
    agreements = []
    _, info = env.reset(seed=0)
    for _ in range(60):
        agreements.append(info["good"] == env.instrument.truth.good)
        action = env.np_random.choice(np.flatnonzero(info["action_mask"]))
        _, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            _, info = env.reset()
    assert np.mean(agreements) > 0.95


def test_default_settings_are_what_the_file_lists() -> None:
    assert load_config() == Config()
