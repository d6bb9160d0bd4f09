"""Whatever the sample's height, the classifier gets images of the scale it was trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_gym.assembly.environment import make_env, make_vector_env
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import Config, ConfigError, EnvConfig, load_config
from spm_gym.datasets.simulated import prepared_images
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.envs.vector import ProbeConditioningVectorEnv
from spm_gym.imaging import level, normalise
from spm_gym.imaging.conditions import with_height_scale
from spm_gym.imaging.normalisation import HALF_MOLECULE, HeightScale
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.instrument.sim.images import simulated_images
from tests.support.other_samples import PM, Scaled, rescaled_file

SCALES = [150 * PM, 40 * PM, "image"]
UNDAMAGED = {"damage": False}


def env_of(classifier: Any, **settings: Any) -> ProbeConditioningEnv:
    return ProbeConditioningEnv(build_microscope(Config()), classifier, EnvConfig(**settings))


def played(env: Any) -> list[Any]:
    """Observations of a reset and five actions."""
    observation, _ = env.reset(seed=3)
    return [observation, *(env.step(1)[0] for _ in range(5))]


@pytest.mark.parametrize("scale", SCALES)
def test_observations_have_the_scale_of_the_classifier(scale: HeightScale) -> None:
    classifier = Scaled(scale)
    env = env_of(classifier)
    observation, _ = env.reset(seed=3, options=UNDAMAGED)
    assert env.processed is not None
    z = env.processed.scan.z
    assert np.array_equal(observation[0], normalise(level(z), Preprocessing.of(env.config).scale))
    assert np.allclose(observation[0], normalise(level(z), scale), atol=1e-6)
    assert not np.allclose(observation[0], normalise(level(z)), atol=0.1)
    assert np.array_equal(classifier.images[-1], observation)


@pytest.mark.parametrize("scale", SCALES)
def test_vector_environments_give_the_same(scale: HeightScale) -> None:
    microscopes = [build_microscope(Config()) for _ in range(2)]
    envs = ProbeConditioningVectorEnv(microscopes, [Scaled(scale)] * 2)
    observations, _ = envs.reset(seed=3)
    for number, observation in enumerate(observations):
        single, _ = env_of(Scaled(scale)).reset(seed=3 + number)
        assert np.array_equal(observation, single)


@pytest.mark.parametrize("scale", SCALES)
def test_a_setting_serves_where_no_classifier_has_a_scale(scale: HeightScale) -> None:
    pm = scale if scale == "image" else scale / PM
    settings = ["env.ground_truth=true", f"env.height_scale_pm={pm}"]
    for env in (env_of(lambda images: np.zeros(len(images), np.float32), height_scale_pm=pm),
                make_env(None, settings)):  # fmt: skip
        observation, _ = env.reset(seed=3, options=UNDAMAGED)
        assert env.processed is not None
        expected = Preprocessing.of(env.config).image(env.processed.scan.z)
        assert np.array_equal(observation[0], expected)
    config = load_config(None, settings)
    raw = simulated_images(2, 5)
    prepared = prepared_images(config, 2, 5).observations[:, 0]
    assert np.array_equal(prepared, [Preprocessing.of(config.env).image(z) for z in raw.z])


def test_the_fixed_scale_is_bit_identical_with_and_without_a_setting() -> None:
    silent, named = env_of(lambda images: np.full(len(images), 0.5, np.float32)), env_of(Scaled())
    explicit = env_of(Scaled(), height_scale_pm=100)
    assert named.config == EnvConfig()
    for one, two, three in zip(played(silent), played(named), played(explicit), strict=True):
        assert np.array_equal(one, two)
        assert np.array_equal(one, three)


def test_a_file_with_another_scale_needs_no_setting(tmp_path: Path) -> None:
    settings = [f"env.classifier={rescaled_file(tmp_path)}"]
    env = make_env(None, settings)
    assert env.config.height_scale_pm == pytest.approx(150)
    observation, _ = env.reset(seed=3)
    observations, _ = make_vector_env(2, None, settings).reset(seed=3)
    assert np.array_equal(observations[0], observation)
    previews = make_env(None, [*settings, "env.preview_lines=16"])
    assert previews.config.height_scale_pm == pytest.approx(150)


@pytest.mark.parametrize("setting", ["100", "image", "170"])
def test_a_setting_that_contradicts_the_classifier_is_refused_in_a_line_or_accepted(
    setting: str, tmp_path: Path
) -> None:
    overrides = [f"env.classifier={rescaled_file(tmp_path)}", f"env.height_scale_pm={setting}"]
    words = rf"setting env.height_scale_pm = {setting}.*: the classifier .* 150 pm.*height_scale\]"
    for make in (make_env, lambda *given: make_vector_env(1, *given)):
        with pytest.raises(ConfigError, match=words) as refused:
            make(None, overrides)
        assert "\n" not in str(refused.value)
    env = make_env(None, [*overrides, "env.accept_mismatch=[height_scale]"])
    assert str(env.config.height_scale_pm) in (setting, f"{setting}.0")


def test_a_hundredth_is_no_contradiction() -> None:
    env = EnvConfig(height_scale_pm=143)
    assert with_height_scale(env, Scaled(143.4 * PM)) == env
    with pytest.raises(ConfigError, match="143 pm"):
        with_height_scale(env, Scaled(146 * PM))


@pytest.mark.parametrize("scales", [(HALF_MOLECULE, 150 * PM), (150 * PM, HALF_MOLECULE)])
def test_vector_environments_have_one_scale(scales: tuple[float, float]) -> None:
    microscopes = [build_microscope(Config()) for _ in scales]
    with pytest.raises(ConfigError, match="height_scale_pm"):
        ProbeConditioningVectorEnv(microscopes, [Scaled(scale) for scale in scales])
