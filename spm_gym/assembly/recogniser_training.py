"""Simulated images for the recogniser, from many settings of the simulator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from agents.belief.recogniser import Recogniser
from agents.belief.recogniser_training import (
    ClassedImages,
    RecogniserTraining,
    fit_recogniser,
)
from spm_gym.config import Config, SimulatorConfig
from spm_gym.datasets.simulated import prepared_images
from spm_gym.instrument.sim.dynamics import STATES

PER_SETTINGS = 500
"""Images of each draw of the settings; as many as those of one surface."""

_LINEAR_EVERY = 4

# No microscope is like the simulator: a recogniser of its default settings alone would take
# another noise for another probe.
_FACTORS = {
    "white_noise_pm": (0.6, 2.2),
    "line_noise_pm": (0.6, 2.2),
    "molecules_per_nm2": (0.5, 1.6),
    "tilt_pm_per_nm": (0.5, 1.5),
    "drift_pm_per_s": (0.3, 3.0),
}
"""Lowest and highest factor on each randomised setting."""


def randomised(
    simulator: SimulatorConfig, linear: bool, rng: np.random.Generator
) -> SimulatorConfig:
    """Draw settings about the given ones, each log-uniformly.

    Args:
        simulator: The settings.
        linear: Whether to take the mode "linear" instead of the given one.
        rng: Of the draws.
    """
    update: dict[str, object] = {
        name: getattr(simulator, name) * float(np.exp(rng.uniform(*np.log(bounds))))
        for name, bounds in _FACTORS.items()
    }
    if linear:
        update["mode"] = "linear"
    return simulator.model_copy(update=update)


def randomised_images(
    config: Config,
    count: int,
    seed: int,
    progress: Callable[[int], object] = lambda images: None,
) -> ClassedImages:
    """Simulate images of randomised settings, and process them as the environment does.

    Args:
        config: Settings to randomise, and those of the environment.
        count: N.
        seed: The same seed gives the same images.
        progress: Called with the number of images finished since the last call.
    """
    rng = np.random.default_rng(seed)
    pixels = config.env.pixels
    images, states = np.empty((count, 1, pixels, pixels), np.float16), np.empty(count, np.int64)
    for number, begin in enumerate(range(0, count, PER_SETTINGS)):
        linear = number % _LINEAR_EVERY == _LINEAR_EVERY - 1
        drawn = randomised(config.simulator, linear, rng)
        part = slice(begin, min(begin + PER_SETTINGS, count))
        prepared = prepared_images(
            config.model_copy(update={"simulator": drawn}),
            part.stop - begin,
            int(rng.integers(2**63)),
            progress=progress,
        )
        images[part], states[part] = prepared.observations, prepared.state
    return ClassedImages(images, states)


def settings_hash(config: Config) -> str:
    """Hash the settings that decide what the images of a recogniser's training are like."""
    env = config.env
    text = f"{config.simulator.model_dump_json()} {env.image_nm} {env.pixels} {env.plane}"
    return hashlib.sha256(text.encode()).hexdigest()


def train_recogniser(
    config: Config,
    count: int,
    seed: int,
    training: RecogniserTraining,
    simulated: Callable[[int], object] = lambda images: None,
    trained: Callable[[int, float], object] = lambda epoch, loss: None,
) -> Recogniser:
    """Simulate images and train on them.

    Args:
        config: Settings of simulator and environment.
        count: Number of images.
        seed: Of images and training.
        training: How to train.
        simulated: Called with the number of images finished since the last call.
        trained: Called after every epoch with its number and its loss.
    """
    images = randomised_images(config, count, seed, simulated)
    return fit_recogniser(images, STATES, settings_hash(config), seed, training, trained)
