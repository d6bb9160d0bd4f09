"""Simulated images for the recogniser: many settings to learn from, the given ones to score on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from agents.belief.recogniser_training import ClassedImages
from spm_gym.config import Config, SimulatorConfig
from spm_gym.config.simulator import MOST_POWER
from spm_gym.datasets.simulated import prepared_images

PER_SETTINGS = 500
"""Images of each draw of the settings; as many as those of one surface."""

_VALIDATION = 0x76616C
"""Sets the seeds of validation and training apart."""

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

# Where only a part of a probe meets a molecule, how high it appears depends on how the probe
# averages. Whatever it does lies between the mean of the heights and the highest of them, as of a
# rigid tip; powers are drawn over all of that, from 1 to as good as infinity.
_POWERS = (1.0, MOST_POWER)


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
        config: Settings to randomise, those of environment and recogniser.
        count: N.
        seed: The same seed gives the same images.
        progress: Called with the number of images finished since the last call.
    """
    rng = np.random.default_rng(seed)
    # Powers of their own stream: whatever their share, all else that is drawn is the same.
    (powers,) = rng.spawn(1)
    pixels = config.env.pixels
    line_steps = rng.choice(config.recogniser.line_steps, count)
    images, states = np.empty((count, 1, pixels, pixels), np.float16), np.empty(count, np.int64)
    for number, begin in enumerate(range(0, count, PER_SETTINGS)):
        linear = number % _LINEAR_EVERY == _LINEAR_EVERY - 1
        drawn = randomised(config.simulator, linear, rng)
        if drawn.mode == "linear" and powers.random() < config.recogniser.bent_share:
            power = float(np.exp(powers.uniform(*np.log(_POWERS))))
            drawn = drawn.model_copy(update={"mode": power})
        part = slice(begin, min(begin + PER_SETTINGS, count))
        prepared = prepared_images(
            config.model_copy(update={"simulator": drawn}),
            part.stop - begin,
            int(rng.integers(2**63)),
            progress=progress,
            line_steps=line_steps[part],
        )
        images[part], states[part] = prepared.observations, prepared.state
    return ClassedImages(images, states)


def validation_images(
    config: Config,
    seed: int,
    progress: Callable[[int], object] = lambda images: None,
) -> dict[int, ClassedImages]:
    """Simulate images of the settings as they are, by number of lines.

    Args:
        config: Settings of simulator, environment and recogniser.
        seed: Of the training; the images are others than there.
        progress: Called with the number of images finished since the last call.
    """
    count = config.recogniser.validation_images
    # Of each number of lines the same probes in the same places: only the lines differ.
    images = int(np.random.SeedSequence([_VALIDATION, seed]).generate_state(1)[0])
    found = {}
    for step in sorted({*config.recogniser.line_steps}, reverse=True):
        prepared = prepared_images(
            config, count, images, progress=progress, line_steps=np.full(count, step)
        )
        found[config.env.pixels // step] = ClassedImages(
            prepared.observations.astype(np.float16), prepared.state
        )
    return found


def settings_hash(config: Config) -> str:
    """Hash the settings that decide what the images of a recogniser's training are like."""
    env, recogniser = config.env, config.recogniser
    own = (env.image_nm, env.pixels, env.plane, recogniser.line_steps, recogniser.bent_share)
    text = f"{config.simulator.model_dump_json()} {own}"
    if env.height_scale_pm is not None:  # so that the hashes of before stay
        text += f" {env.height_scale_pm}"
    return hashlib.sha256(text.encode()).hexdigest()
