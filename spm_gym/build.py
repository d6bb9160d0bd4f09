"""Puts microscope, judge and environment together from the settings."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import Config, ConfigError, load_config
from spm_gym.env import ProbeConditioningEnv
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Classifier


def shipped_classifier() -> Path:
    """Path of the classifier that comes with the package."""
    return Path(str(resources.files("spm_gym") / "data" / "classifier.safetensors"))


def build_judge(config: Config, microscope: SimulatedMicroscope | None = None) -> Classifier:
    """The configured judge of images.

    Raises:
        ConfigError: The true judge was asked for where there is no simulated microscope.
        ClassifierError: The classifier cannot be read.
    """
    if config.env.judge == "truth":
        if microscope is None:
            raise ConfigError("setting env.judge = 'truth': only the simulator knows the truth")
        return _true_judge(microscope)
    from agents.classifier import ProbeClassifier  # torch is slow to import

    return ProbeClassifier.load(config.env.classifier or shipped_classifier())


def build_microscope(config: Config, seed: int = 0) -> SimulatedMicroscope:
    """The simulated microscope of these settings."""
    return SimulatedMicroscope(config.simulator, area_nm=config.env.regions.area_nm, seed=seed)


def make_env(
    config: Config | Path | str | None = None,
    overrides: Sequence[str] = (),
    render_mode: str | None = None,
) -> ProbeConditioningEnv:
    """Build the environment on the simulated microscope; this is what `gymnasium.make` calls.

    Args:
        config: Settings, or a YAML file of them.
        overrides: More settings as ``"key=value"``.
        render_mode: None or "rgb_array".

    Raises:
        ConfigError: A setting is unknown or impossible.
    """
    if not isinstance(config, Config):
        config = load_config(Path(config) if config else None, overrides)
    elif overrides:
        raise ConfigError("overrides go with a configuration file, not with finished settings")
    microscope = build_microscope(config)
    judge = build_judge(config, microscope)
    return ProbeConditioningEnv(microscope, judge, config.env, render_mode)


def _true_judge(microscope: SimulatedMicroscope) -> Classifier:
    def judge(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full(len(images), microscope.truth.good, dtype=np.float32)

    return judge
