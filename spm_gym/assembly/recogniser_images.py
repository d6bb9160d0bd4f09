"""Simulated images for the recogniser: many settings to learn from, the given ones to score on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from agents.belief.recogniser_training import ClassedImages
from spm_gym.config import Config, SimulatorConfig
from spm_gym.datasets.simulated import prepared_images
from spm_gym.imaging.normalisation import LIMIT
from spm_gym.instrument.sim.dynamics import HiddenState

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


# Heights are normalised ones, of which 2 is a molecule; decay constants are per unit of them.
_MOLECULE, _CONTRAST = 2.0, (0.55, 0.8)
_DECAY = (0.7, 1.3)
_BLUR, _SUBSTRATE = 0.8, 0.05


def bend_heights(
    images: NDArray[np.float32],
    states: NDArray[np.int64],
    share: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Bend the heights of some images by a concave curve.

    How high something appears that only a part of a probe sees depends on how the probe averages.
    An average over heights (the paper's simulation) shows h; one over currents, which grow as
    exp(2 k z) and of which constant current shows the logarithm, shows the same share of a molecule
    of the height H as ln(1 + (exp(2 k H) - 1) h / H) / 2 k. That is exact for a flat molecule only.

    Args:
        images: Normalised, (N, 1, H, W).
        states: Classes of the probes (N,): one that is contaminated shows lower molecules.
        share: Of the images that are bent.
        rng: Of the curves.

    Returns:
        As many images.
    """
    chosen = np.flatnonzero(rng.random(len(images)) < share)
    lowered = [HiddenState.of(state).contaminated for state in states[chosen].tolist()]
    contrast = np.where(lowered, rng.uniform(*_CONTRAST, len(chosen)), 1.0)
    top = _MOLECULE * contrast[:, None, None, None]
    steepness = np.expm1(2 * rng.uniform(*_DECAY, top.shape) * _MOLECULE)
    # What is added goes by smoothed heights above a threshold: a curve so steep at the substrate
    # would turn the noise there into hills.
    above = gaussian_filter(images[chosen] + 1, _BLUR, axes=(2, 3)) - _SUBSTRATE
    part = np.clip(above / top, 0, 1)
    bent = images.copy()
    bent[chosen] += top * (np.log1p(steepness * part) / np.log1p(steepness) - part)
    return np.clip(bent, -LIMIT, LIMIT)


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
    # Curves of their own stream: whatever their share, the same images are simulated.
    (curves,) = rng.spawn(1)
    pixels = config.env.pixels
    line_steps = rng.choice(config.recogniser.line_steps, count)
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
            line_steps=line_steps[part],
        )
        images[part] = bend_heights(
            prepared.observations, prepared.state, config.recogniser.bent_share, curves
        )
        states[part] = prepared.state
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
