"""Puts microscope, classifier and environment together from the settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from spm_gym.assembly.drivers import capabilities, find_driver
from spm_gym.config import Config, ConfigError, load_config
from spm_gym.envs.budget import Budget
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.envs.vector import ProbeConditioningVectorEnv
from spm_gym.errors import LimitExceeded
from spm_gym.imaging import read_scans
from spm_gym.imaging.conditions import TrainingConditions, classifier_findings
from spm_gym.instrument.contract import Instrument, Restartable
from spm_gym.instrument.driver import DriverContext
from spm_gym.instrument.guard import Guard, Record
from spm_gym.instrument.limits import check_action, check_frame
from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.scale import NM, PA
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.types import UNKNOWN_RANGE, Classifier, Frame, Pulse


def shipped_classifier() -> Path:
    """Path of the classifier that comes with the package."""
    return Path(str(resources.files("spm_gym") / "data" / "classifier.safetensors"))


def shipped_agent() -> Path:
    """Path of the weights of the agent that comes with the package."""
    return Path(str(resources.files("spm_gym") / "data" / "agent.safetensors"))


def build_classifier(config: Config, microscope: Instrument | None = None) -> Classifier:
    """The configured classifier of images.

    Args:
        config: All settings.
        microscope: Whose images it will classify; None for a real one that is not connected yet.

    Raises:
        ConfigError: The ground truth was asked for where there is no simulated microscope, or the
            settings show that images will differ from those that the classifier was trained for.
            What a real microscope has to say of that is left to `classifier_findings`.
        ClassifierError: The classifier cannot be read.
    """
    if config.env.ground_truth:
        if not isinstance(microscope, SimulatedMicroscope):
            raise ConfigError("setting env.ground_truth = True: only the simulator knows the truth")
        return GroundTruth(microscope)
    import torch  # slow to import

    from agents.classifier import ProbeClassifier

    if config.run.threads is not None:
        # With torch's own choice, all cores, classifying is eight times slower on a busy host.
        torch.set_num_threads(config.run.threads)
    classifier = ProbeClassifier.load(config.env.classifier or shipped_classifier())
    side, taken = config.env.pixels, classifier.network.pixels
    if side != taken:
        raise ConfigError(
            f"setting env.pixels = {side}: the classifier takes images of {taken} x {taken} px; "
            "name another one (env.classifier)"
        )
    found = _settings_findings(classifier.conditions, config, microscope)
    if found:
        raise ConfigError(f"the classifier is not for these images: {'; '.join(found)}")
    return classifier


def _settings_findings(
    conditions: TrainingConditions, config: Config, microscope: Instrument | None
) -> list[str]:
    """Reasons against a classifier as far as the settings alone say."""
    if isinstance(microscope, SimulatedMicroscope):
        found = classifier_findings(
            conditions, config, microscope.bias, microscope.setpoint, "simulated"
        )
        return list(found.values())
    bias, setpoint = configured_imaging(config)
    found = classifier_findings(conditions, config, bias, setpoint, "real")
    # The instrument may be a virtual one, and can say what the settings leave to the operator.
    unsettled = {"origin"}
    if capabilities(config.real).status:
        unsettled |= {"bias"} if math.isnan(bias) and conditions.bias else set()
        unsettled |= {"setpoint"} if math.isnan(setpoint) and conditions.setpoint else set()
    return [text for name, text in found.items() if name not in unsettled]


def configured_imaging(config: Config) -> tuple[float, float]:
    """Bias (V) and setpoint (A) of a real microscope's images; NaN for the operator's."""
    bias, setpoint = config.real.imaging.bias_V, config.real.imaging.setpoint_pA
    return (
        math.nan if bias is None else bias,
        math.nan if setpoint is None else setpoint * PA,
    )


def check_classifier(config: Config) -> None:
    """See that the classifier of a real microscope takes the images of these settings.

    Raises:
        ConfigError: It needs the simulator, or takes other images.
        ClassifierError: It cannot be read.
    """
    pixels = config.env.pixels
    # Reading, too, so that nothing is compiled for half a minute with the tip in contact.
    blank = np.zeros((1, pixels, pixels), np.float32)
    read_scans(blank, np.array([UNKNOWN_RANGE]), config.env.plane)
    build_classifier(config)(blank[None])


def build_microscope(config: Config, seed: int = 0) -> SimulatedMicroscope:
    """The simulated microscope of these settings."""
    return SimulatedMicroscope(config.simulator, area_nm=config.env.regions.area_nm, seed=seed)


def compile_simulator(config: Config) -> None:
    """Have everything compiled that images take, before a client waits for its first.

    Args:
        config: The settings; a microscope of theirs is thrown away.
    """
    microscope = build_microscope(config)
    microscope.set_probe(HiddenState(contaminated=True, unstable=True))
    microscope.condition(Pulse(-8.0), 0.0, 0.0)
    frame = Frame(0.0, 0.0, config.env.image_nm * NM, 8)
    microscope.scan(frame)
    microscope.inject("lost contact")
    microscope.scan(frame)


def connect_microscope(
    config: Config,
    context: DriverContext | None = None,
    record: Record = lambda entry: None,
    history: Iterable[dict[str, Any]] = (),
) -> Guard:
    """Connect to the real microscope of these settings, within their limits.

    Args:
        config: All settings.
        context: The run on whose behalf; None prints.
        record: Takes an entry before and after every act.
        history: What was recorded before.

    Raises:
        LimitExceeded: An action or the image of the settings lies outside the limits.
        ConfigError: There is no such driver.
        InstrumentError: The microscope cannot be reached or used.
    """
    check_limits(config)
    instrument = find_driver(config.real).connect(config.real, context or DriverContext())
    return Guard(instrument, config.real.limits, record, history)


def rehearse_microscope(config: Config, show: Callable[[str], None]) -> Guard:
    """Show every command instead of sending it; the replies come from a simulated microscope.

    Raises:
        ConfigError: The driver cannot do that.
    """
    able = capabilities(config.real)
    if not able.rehearse:
        raise ConfigError(
            f"setting real.driver = {config.real.driver}: this driver {able.why_not('rehearse')}"
        )
    check_limits(config)
    simulated = build_microscope(config, world_seed(config.seed))
    instrument = find_driver(config.real).rehearse(config.real, simulated, show)
    return Guard(instrument, config.real.limits)


def virtual_controller(config: Config, seed: int, **options: Any) -> VirtualController:
    """A virtual Nanonis over the world that a reset of the simulated environment begins.

    Args:
        config: Settings of simulator and approach area.
        seed: Of that reset.
        options: Of `VirtualController`.
    """
    return VirtualController(build_microscope(config, world_seed(seed)), **options)


def world_seed(seed: int) -> int:
    """The seed of the world that a simulated environment begins when it is reset with ``seed``."""
    # Gymnasium seeds its environments so.
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    return int(rng.integers(2**63))


def check_limits(config: Config) -> None:
    """See that actions and images of the settings lie within the limits of the real microscope.

    Raises:
        LimitExceeded: One does not.
    """
    env = config.env
    furthest = (env.regions.area_nm - env.image_nm) / 2 * NM
    frame = Frame(furthest, furthest, env.image_nm * NM, env.pixels)
    check_frame(frame, config.real.limits)
    for action in config.env.actions:
        try:
            check_action(action.conditioning, config.real.limits)
        except LimitExceeded as error:
            raise LimitExceeded(f"action {action.name!r}: {error}") from error


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
    simulated = isinstance(microscope, Restartable)
    if guard and not simulated and not isinstance(microscope, Guard):
        microscope = Guard(microscope, config.real.limits)
    budget = None if simulated else Budget(config.budget)
    return ProbeConditioningEnv(microscope, classifier, config.env, render_mode, budget)


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
        classifiers: list[Classifier] = [GroundTruth(microscope) for microscope in microscopes]
    else:
        # One for all, so that images are classified together.
        classifiers = [
            build_classifier(config, microscope) for microscope in microscopes[:1]
        ] * num_envs
    return ProbeConditioningVectorEnv(
        microscopes, classifiers, config.env, render_mode, autoreset_mode
    )


def _settings(config: Config | Path | str | None, overrides: Sequence[str]) -> Config:
    if not isinstance(config, Config):
        return load_config(Path(config) if config else None, overrides)
    if overrides:
        raise ConfigError("overrides go with a configuration file, not with finished settings")
    return config


@dataclass(frozen=True)
class GroundTruth:
    """The hidden state in place of a classifier; a class, so that environments can be pickled."""

    microscope: SimulatedMicroscope

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give 1 for every image if the probe is good in truth, otherwise 0."""
        return np.full(len(images), self.microscope.truth.good, dtype=np.float32)
