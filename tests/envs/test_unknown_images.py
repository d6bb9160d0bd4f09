"""Images unlike all that the classifier was trained with: neither good nor bad, and so treated."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import PassiveEnvChecker
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from spm_gym.assembly.environment import make_env, make_vector_env
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import BudgetConfig, Config, EnvConfig
from spm_gym.envs.budget import Budget, BudgetSpent
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.plain_state import StateError, from_bytes, to_bytes
from spm_gym.types import Stall
from tests.support.scripted_envs import Script, scripted

UNKNOWN, GOOD, BAD = math.nan, 0.95, 0.02
UNDAMAGED = {"damage": False}


class Forgetful:
    """A classifier by the pixels of an image alone, that knows only some of them."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        sums = np.abs(images).sum(axis=(1, 2, 3))
        answers = np.modf(sums)[0].astype(np.float32)
        return np.where(answers < 0.4, np.nan, answers).astype(np.float32)


def previewing(*images: float, previews: list[float], **more: Any) -> ProbeConditioningEnv:
    return ProbeConditioningEnv(
        build_microscope(Config()),
        Script(*images),
        EnvConfig(preview_lines=16, **more),
        preview_classifier=Script(*previews),
    )


def acts(env: ProbeConditioningEnv) -> list[Any]:
    """Everything that is done to the probe from now on."""
    done: list[Any] = []
    condition = env.instrument.condition

    def noted(act: Any, *where: float) -> None:
        done.append(act)
        condition(act, *where)

    env.instrument.condition = noted  # type: ignore[method-assign]
    return done


def test_an_unknown_image_is_neither_good_nor_the_end_and_info_says_so() -> None:
    env = scripted(BAD, UNKNOWN, GOOD)
    _, info = env.reset(seed=0, options=UNDAMAGED)
    assert (info["unknown"], info["good"]) == (False, False)
    observation, reward, terminated, truncated, info = env.step(0)
    assert (reward, terminated, truncated) == (-1.0, False, False)
    assert info["unknown"] is True
    assert info["good"] is False
    assert math.isnan(info["probability"])
    assert observation in env.observation_space
    assert env.processed is not None
    assert not env.is_good(env.processed)
    *_, terminated, _, info = env.step(0)
    assert terminated
    assert (info["unknown"], info["good"]) == (False, True)


def test_on_an_unknown_image_nothing_is_done_to_the_probe() -> None:
    env = scripted(UNKNOWN)
    done = acts(env)
    _, info = env.reset(seed=0, options=UNDAMAGED)
    assert info["clean_side"] > 0
    allowed = [action.anywhere for action in env.config.actions]
    assert info["action_mask"].tolist() == env.action_masks().tolist() == allowed
    for action in range(1, len(allowed)):
        assert env.step(action)[4]["refused"]
    assert not done
    assert not env.step(0)[4]["refused"]
    assert done == [Stall()]


def test_the_last_step_of_an_episode_is_no_success_on_an_unknown_image() -> None:
    env = scripted(BAD, UNKNOWN, max_steps=1)
    env.reset(seed=0, options=UNDAMAGED)
    _, reward, terminated, truncated, _ = env.step(0)
    assert (reward, terminated, truncated) == (-1.0, False, True)


answers = st.lists(st.one_of(st.just(math.nan), st.floats(0, 1, width=32)), min_size=4, max_size=10)


@settings(max_examples=25, deadline=None)
@given(answers, st.booleans())
def test_no_episode_ends_as_good_on_an_unknown_image(verdicts: list[float], damage: bool) -> None:
    env = scripted(*verdicts, damage_actions=3, max_steps=4)
    _, info = env.reset(seed=0, options={"damage": damage})
    ended = False
    while not ended:
        assert info["unknown"] == math.isnan(info["probability"])
        _, reward, terminated, truncated, info = env.step(0)
        assert terminated == info["good"] == (info["probability"] > 0.9)
        assert not (terminated and info["unknown"])
        assert reward == (10.0 if terminated else -1.0)
        ended = terminated or truncated


def test_the_damaging_reset_takes_an_unknown_probe_for_neither_good_nor_bad() -> None:
    env = scripted(UNKNOWN, UNKNOWN, GOOD, UNKNOWN, UNKNOWN, BAD)
    done = acts(env)
    _, info = env.reset(seed=0)
    assert info["probability"] == pytest.approx(BAD)
    assert len(done) == 1  # on the good image


def test_a_start_that_stays_unknown_is_said_and_nothing_was_done_to_the_probe() -> None:
    env = scripted(UNKNOWN, damage_actions=3)
    done = acts(env)
    _, info = env.reset(seed=0)
    assert info["unknown"] is True
    assert info["events"] == ("not damaged: p = unknown after 3 tries (env.damage_actions)",)
    assert not done


def test_a_microscope_that_can_be_harmed_is_not_reset_for_ever_on_unknown_images() -> None:
    budget = Budget(BudgetConfig(failed_damage=2))
    env = ProbeConditioningEnv(
        build_microscope(Config()), Script(UNKNOWN), EnvConfig(damage_actions=3), budget=budget
    )
    env.reset(seed=0)
    with pytest.raises(BudgetSpent, match=r"failed_damage = 2.*does not know such images"):
        env.reset()


def test_an_unknown_preview_is_followed_by_the_image_which_decides() -> None:
    env = previewing(BAD, GOOD, previews=[UNKNOWN])
    _, info = env.reset(seed=0, options=UNDAMAGED)
    assert (info["preview"], info["unknown"]) == (False, False)
    *_, terminated, _, info = env.step(0)
    assert terminated
    assert (info["preview"], info["good"]) == (False, True)


def test_the_damaging_reset_does_not_act_on_an_unknown_preview() -> None:
    env = previewing(UNKNOWN, BAD, previews=[UNKNOWN])
    done = acts(env)
    _, info = env.reset(seed=0)
    assert (info["preview"], info["unknown"]) == (False, False)
    assert not done


def test_an_episode_goes_on_from_the_state_with_an_unknown_image() -> None:
    env, other = scripted(UNKNOWN), scripted(GOOD)
    env.reset(seed=3, options=UNDAMAGED)
    state = from_bytes(to_bytes(env.get_state()))
    other.set_state(state)
    assert other.processed is not None
    assert other.processed.unknown
    for wrong in (math.inf, -math.inf, 1.5, -0.1):
        state["processed"]["probability"] = wrong
        with pytest.raises(StateError, match="no probability"):
            other.set_state(state)


def test_an_unknown_image_is_drawn_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr(Axes, "set_title", lambda axes, text, **more: titles.append(text))
    env = scripted(UNKNOWN)
    env.render_mode = "rgb_array"
    env.reset(seed=0, options=UNDAMAGED)
    assert env.render() is not None
    assert "unlike all that the classifier knows" in titles
    assert not any("nan" in title for title in titles)


def test_the_checkers_of_gymnasium_and_stable_baselines3_take_it() -> None:
    env = scripted(BAD, BAD, BAD, BAD, BAD, BAD, UNKNOWN)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sb3_check_env(scripted(BAD, UNKNOWN), warn=False)
        checked = PassiveEnvChecker(env)
        checked.reset(seed=0, options=UNDAMAGED)
        for _ in range(8):
            *_, info = checked.step(0)
        assert info["unknown"] is True
    # Its comparison of two runs takes NaN for another value, so no unknown image is compared.
    check_env(scripted(BAD), skip_render_check=True)


def test_environments_in_step_do_the_same() -> None:
    classifier, overrides = Forgetful(), ["env.damage_actions=4", "env.max_steps=6"]
    ours = make_vector_env(3, overrides=overrides)
    ours._classifiers = ((classifier, None),) * 3
    singles = [make_env(overrides=overrides) for _ in range(3)]
    for single in singles:
        single.unwrapped.classifier = classifier  # type: ignore[attr-defined]
    observations, infos = ours.reset(seed=4)
    came: list[Any] = [single.reset(seed=4 + n) for n, single in enumerate(singles)]
    ended = np.zeros(3, bool)
    unknown = 0
    for step in itertools.count():
        for n, (observation, info) in enumerate(came):
            assert np.array_equal(observations[n], observation)
            for key in ("unknown", "good", "action", "events"):
                assert infos[key][n] == info[key]
            assert np.array_equal(infos["action_mask"][n], info["action_mask"])
            assert np.array_equal(infos["probability"][n], info["probability"], equal_nan=True)
        assert infos["unknown"].dtype == np.bool_
        assert infos["probability"].dtype == np.float64
        unknown += infos["unknown"].sum()
        if step == 12:
            break
        observations, _, terminated, truncated, infos = ours.step([0, 0, 0])
        came = []
        for n, single in enumerate(singles):
            if ended[n]:
                came.append(single.reset())
                ended[n] = False
                continue
            observation, _, over, cut, info = single.step(0)
            assert (over, cut) == (terminated[n], truncated[n])
            ended[n] = over or cut
            came.append((observation, info))
    assert unknown > 3
    ours.close()


def test_the_registered_environment_has_the_key() -> None:
    env = gymnasium.make("spm_gym/ProbeConditioning-v0")
    _, info = env.reset(seed=0)
    assert info["unknown"] is False
    env.close()
