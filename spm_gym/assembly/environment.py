"""The environment of the settings; `gymnasium.make` builds it here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gymnasium.vector import AutoresetMode

from spm_gym.assembly.classifier import GroundTruth, build_classifier, fitted_settings
from spm_gym.assembly.drivers import allowed_acts, kept_window
from spm_gym.assembly.previews import build_preview_classifier, check_previews
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import Config, ConfigError, load_config
from spm_gym.envs.budget import Budget
from spm_gym.envs.ground_truth import ImageEnv, with_truth
from spm_gym.envs.instrument_time import with_instrument_time
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.envs.vector import ProbeConditioningVectorEnv
from spm_gym.instrument.contract import Instrument, Restartable
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.runner.clock import steady_clock
from spm_gym.types import Classifier


def make_env(
    config: Config | Path | str | None = None,
    overrides: Sequence[str] = (),
    render_mode: str | None = None,
    instrument: Instrument | None = None,
    guard: bool = True,
) -> ProbeConditioningEnv:
    """Build the environment; this is what `gymnasium.make` calls.

    Args:
        config: Settings, or a YAML file of them.
        overrides: More settings as ``"key=value"``.
        render_mode: None or "rgb_array".
        instrument: The microscope; None simulates one.
        guard: Whether a microscope that can be harmed is used within ``real.limits`` only.

    Raises:
        ConfigError: A setting is unknown or impossible.
    """
    config = _settings(config, overrides)
    microscope = build_microscope(config) if instrument is None else instrument
    classifier = build_classifier(config, microscope)
    config = fitted_settings(config, classifier)
    # Only software can be started again; everything else can be harmed, and gets limits and budget.
    simulated = isinstance(microscope, Restartable)
    if guard and not simulated and not (isinstance(microscope, Guard) and microscope.limits):
        microscope = Guard(microscope, config.real.limits, allowed=allowed_acts(config))
    if not simulated:
        check_previews(config)
    budget = None if simulated else Budget(config.budget)
    previews = build_preview_classifier(config, classifier)
    window = None if simulated else kept_window(config.real)
    return ProbeConditioningEnv(
        microscope, classifier, config.env, render_mode, budget, previews, window
    )


def measured(env: ProbeConditioningEnv) -> ImageEnv:
    """Wrap an environment so that its ``info`` has what training and evaluation report.

    That is what it costs of the instrument's time, and on the simulator whether the probe is good
    in truth.
    """
    microscope = env.instrument
    simulated = isinstance(microscope, SimulatedMicroscope)
    # A real one is not asked: it has no answer while its connection is lost.
    clock = (lambda: microscope.status().time) if simulated else steady_clock()
    return with_instrument_time(with_truth(env), clock)


def make_vector_env(
    num_envs: int = 1,
    config: Config | Path | str | None = None,
    overrides: Sequence[str] = (),
    render_mode: str | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
) -> ProbeConditioningVectorEnv:
    """Build the vector environment; this is what `gymnasium.make_vec` calls.

    Args:
        num_envs: How many microscopes are simulated.
        config: As for `make_env`.
        overrides: As for `make_env`.
        render_mode: As for `make_env`.
        autoreset_mode: When an environment whose episode has ended is reset.

    Raises:
        ConfigError: A setting is unknown or impossible.
        ValueError: ``num_envs`` is less than 1, or a mode is unknown.
    """
    config = _settings(config, overrides)
    microscopes = [build_microscope(config) for _ in range(num_envs)]
    if config.env.ground_truth:
        # The truth about one microscope says nothing of the others.
        classifiers: list[Classifier] = [GroundTruth(microscope) for microscope in microscopes]
    else:
        # One for all, so that images are classified together.
        classifiers = [
            build_classifier(config, microscope) for microscope in microscopes[:1]
        ] * num_envs
    config = fitted_settings(config, *classifiers)
    # One that is shared stays so.
    previews = {id(each): build_preview_classifier(config, each) for each in classifiers}
    return ProbeConditioningVectorEnv(
        microscopes,
        classifiers,
        config.env,
        render_mode,
        autoreset_mode,
        [previews[id(each)] for each in classifiers],
    )


def _settings(config: Config | Path | str | None, overrides: Sequence[str]) -> Config:
    if not isinstance(config, Config):
        return load_config(Path(config) if config else None, overrides)
    if overrides:
        raise ConfigError("overrides go with a configuration file, not with finished settings")
    return config
