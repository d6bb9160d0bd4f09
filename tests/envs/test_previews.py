"""Previews in the rules of the task: what they decide, what they cost, what stays as without."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from spm_gym.assembly.environment import make_env, measured
from spm_gym.config import BudgetConfig, Config, ConfigError, EnvConfig, load_config
from spm_gym.envs.budget import Budget
from spm_gym.envs.observation import ProcessedScan, process_scan
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.envs.vector import ProbeConditioningVectorEnv
from spm_gym.errors import UnclassifiableImage
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.plain_state import StateError, from_bytes, to_bytes
from spm_gym.types import Frame, Scan
from tests.support.scripted_envs import Script, rollout

PREVIEWS = ("env.preview_lines=16",)
TRUTH = ("env.ground_truth=true", *PREVIEWS)
CALM = dict.fromkeys(("tip_change_rate", "contact_loss_rate", "crash_rate", "rough_fraction"), 0.0)
UNDAMAGED = {"damage": False}


class Recorded:
    """A calm microscope that writes down the lines of its scans, and whether all were asked for."""

    def __init__(self, **changes: Any) -> None:
        self.inner = SimulatedMicroscope(Config().simulator.model_copy(update={**CALM, **changes}))
        self.frames: list[Frame] = []
        self.acts: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def lines(self) -> list[int]:
        return [frame.lines for frame in self.frames]

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        assert fraction == 1, "with previews nothing is discarded"
        self.frames.append(frame)
        return self.inner.scan(frame)

    def approach(self) -> None:
        self.acts.append("approach")
        self.inner.approach()


def scripted(
    images: list[float], previews: list[float], microscope: Any = None, **settings: Any
) -> tuple[ProbeConditioningEnv, Recorded]:
    """An environment that begins, without damage, with the first of the verdicts."""
    here = microscope or Recorded()
    env = ProbeConditioningEnv(
        here,
        Script(*images),
        EnvConfig(preview_lines=16, **settings),
        preview_classifier=Script(*previews),
    )
    return env, here


def test_a_hopeless_preview_is_the_image_of_the_step() -> None:
    env, here = scripted([0.95], [0.001])
    observation, info = env.reset(seed=0, options=UNDAMAGED)
    assert here.lines == [16]
    assert (info["preview"], info["good"]) == (True, False)
    assert info["probability"] == pytest.approx(0.001)
    assert observation.shape == (1, 64, 64)
    assert observation in env.observation_space
    *_, terminated, truncated, info = env.step(0)
    assert here.lines == [16, 16]
    assert not terminated
    assert not truncated
    assert here.frames[0].full != here.frames[1].full


def test_a_promising_preview_is_followed_by_the_image_of_the_same_frame_which_decides() -> None:
    env, here = scripted([0.5, 0.95], [0.021, 0.99])
    _, info = env.reset(seed=0, options=UNDAMAGED)
    assert (info["preview"], info["good"]) == (False, False)
    assert info["probability"] == pytest.approx(0.5)
    *_, terminated, _, info = env.step(0)
    assert here.lines == [16, 64, 16, 64]
    assert here.frames[0].full == here.frames[1]
    assert here.frames[2].full == here.frames[3]
    assert terminated
    assert (info["preview"], info["good"]) == (False, True)


def test_a_preview_never_calls_a_probe_good_whatever_its_classifier_says() -> None:
    env, _ = scripted([0.95], [0.001])
    env.reset(seed=0, options=UNDAMAGED)
    assert env.processed is not None
    env.act(0)
    _, reward, terminated, _, info = env.observe(replace(env.processed, probability=1.0))
    assert (reward, terminated, info["good"]) == (-1.0, False, False)


@pytest.mark.parametrize("preview", [0.001, 0.5])
def test_the_place_of_an_image_is_used_up_once(preview: float) -> None:
    env, _ = scripted([0.05], [preview])
    env.reset(seed=0, options=UNDAMAGED)
    env.step(0)
    places = [(mark.x, mark.y) for mark in env.navigator.regions.marks if mark.reason == "image"]
    assert len(places) == len(set(places)) == 2


def test_the_damaging_reset_acts_on_previews_until_one_is_bad() -> None:
    env, here = scripted([0.95], [0.95, 0.5, 0.001])
    _, info = env.reset(seed=0)
    assert here.lines == [16, 64, 16, 64, 16]
    assert len(info["events"]) == 2
    assert info["preview"]


def test_an_unusable_preview_is_dealt_with_as_an_image_and_no_image_follows() -> None:
    env, here = scripted([0.05], [0.5], Recorded(rough_fraction=1.0), max_attempts=3)
    with pytest.raises(RuntimeError, match="no usable image in 3 attempts"):
        env.reset(seed=0, options=UNDAMAGED)
    assert here.lines == [16, 16, 16]
    assert len({(frame.x, frame.y) for frame in here.frames}) == 3
    env, here = scripted([0.05], [0.001])
    env.reset(seed=0, options=UNDAMAGED)
    here.inner.inject("lost contact")
    *_, info = env.step(0)
    assert info["events"][-1] == "lost contact"
    assert here.acts == ["approach"]
    assert here.lines == [16, 16, 16]
    assert here.frames[1] == here.frames[2], "taken again at the same place"


def test_a_good_preview_proves_nothing_to_the_budget() -> None:
    budget = Budget(BudgetConfig(unproven_actions=2))
    env = ProbeConditioningEnv(
        Recorded(),
        Script(0.05),
        EnvConfig(preview_lines=16),
        budget=budget,
        preview_classifier=Script(0.95),
    )
    env.reset(seed=0, options=UNDAMAGED)
    env.step(1)
    env.step(1)
    with pytest.raises(RuntimeError, match=r"budget\.unproven_actions"):
        env.step(1)


def test_previews_make_steps_shorter_than_half() -> None:
    seconds = []
    for overrides in (TRUTH, TRUTH[:1]):
        env = measured(make_env(overrides=(*overrides, "simulator.tip_change_rate=0")))
        env.reset(seed=0)
        spent, steps = 0.0, 0
        while steps < 60:
            *_, terminated, truncated, info = env.step(np.int64(1))
            steps += 1
            if terminated or truncated:
                spent += info["episode_seconds"]
                env.reset()
        seconds.append((spent + info["episode_seconds"]) / steps)
    assert seconds[0] < 0.5 * seconds[1]


def test_checkers_have_nothing_to_say() -> None:
    env = gymnasium.make(
        "spm_gym/ProbeConditioning-v0", overrides=TRUTH, render_mode="rgb_array"
    ).unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    sb3_check_env(env, warn=False)


def test_the_included_recogniser_classifies_previews() -> None:
    first, second = make_env(overrides=PREVIEWS), make_env(overrides=PREVIEWS)
    assert rollout(first, 12, seed=7) == rollout(second, 12, seed=7)


def test_an_episode_goes_on_from_a_preview_bit_for_bit() -> None:
    env = make_env(overrides=TRUTH)
    env.reset(seed=11)
    assert env.processed is not None
    assert env.processed.preview
    other = make_env(overrides=TRUTH)
    other.set_state(from_bytes(to_bytes(env.get_state())))
    for _ in range(12):
        action = int(np.flatnonzero(env.action_masks())[-1])
        ours, theirs = env.step(action), other.step(action)
        assert ours[0].tobytes() == theirs[0].tobytes()
        assert str(ours[1:]) == str(theirs[1:])
        if ours[2] or ours[3]:
            assert str(env.reset()[1]) == str(other.reset()[1])


def test_a_state_with_a_preview_does_not_fit_settings_without() -> None:
    env = make_env(overrides=TRUTH)
    env.reset(seed=11)
    for overrides in (TRUTH[:1], (*TRUTH[:1], "env.preview_lines=32")):
        with pytest.raises(StateError, match="other sizes"):
            make_env(overrides=overrides).set_state(env.get_state())


def test_a_picture_says_that_it_is_a_preview() -> None:
    env = make_env(overrides=TRUTH, render_mode="rgb_array")
    env.reset(seed=11)
    assert env.processed is not None
    drawn = env.render()
    assert drawn is not None
    # Drawn as an image with as many lines it has other pixels, and another title.
    scan = env.processed.scan
    whole = replace(scan, frame=scan.frame.full, z=np.zeros((64, 64), np.float32))
    env.processed = replace(env.processed, scan=whole)
    assert np.any(env.render() != drawn)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["env.preview_lines=24"], "24 must divide pixels = 64 and be fewer; allowed: 8, 16, 32"),
        (["env.preview_lines=64"], "64 must divide pixels = 64 and be fewer"),
        (["env.preview_lines=4"], "env.preview_lines = 4"),
        (["env.preview_lines=true"], "env.preview_lines = True"),
        (["env.preview_lines=8", "env.pixels=8"], "allowed: none"),
        (["env.preview_lines=16", "env.preview_until=0.9"], "0.9 must be below good_above = 0.9"),
        (["env.preview_until=.nan"], "env.preview_until"),
    ],
)
def test_settings_that_make_no_previews_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(None, settings)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_previews_that_nothing_classifies_are_refused() -> None:
    config, here = EnvConfig(preview_lines=16), SimulatedMicroscope(Config().simulator)
    message = "env.preview_lines = 16 needs a preview_classifier"
    with pytest.raises(ValueError, match=message):
        ProbeConditioningEnv(here, Script(0.5), config)
    with pytest.raises(ValueError, match=message):
        ProbeConditioningVectorEnv([here], [Script(0.5)], config)
    env = ProbeConditioningEnv(here, Script(0.5))
    with pytest.raises(UnclassifiableImage, match="16 lines"):
        env.classifier_of(here.scan(Frame(0.0, 0.0, 1e-8, 64, lines=16)))


def test_a_preview_of_its_own_scan_is_processed_alike() -> None:
    env, _ = scripted([0.5], [0.001])
    env.reset(seed=0, options=UNDAMAGED)
    processed = env.processed
    assert isinstance(processed, ProcessedScan)
    again = process_scan(processed.scan, env.classifier_of(processed.scan), env.config)
    assert again.observation.tobytes() == processed.observation.tobytes()
    assert (again.square, again.place) == (processed.square, processed.place)
