"""The hidden process of given settings, with measured action masks: what is attainable."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import Config, EnvConfig
from spm_gym.envs.hidden_process import (
    HiddenProcess,
    hidden_process,
    imaging_table,
    step_tables,
)
from spm_gym.envs.observation import allowed_actions
from spm_gym.envs.simulated_images import read_session
from spm_gym.instrument.sim.dynamics import STATES, ProbeDynamics
from spm_gym.instrument.sim.images import sessions
from spm_gym.instrument.sim.running_scan import BIAS, SETPOINT, change_probability
from spm_gym.scale import NM
from spm_gym.types import BoolArray

IMAGES_PER_STATE = 100


def mask_levels(config: EnvConfig) -> BoolArray:
    """List all different action masks, (L, A), from no clean pixel to the largest square."""
    # A side of 1e-6 nm stands for a single clean pixel, which some actions need at least.
    needed = sorted({action.clean_nm for action in config.actions if not action.anywhere} | {0.0})
    sides = [0.0, *(max(side, 1e-6) * NM for side in needed)]
    return np.unique(np.stack([allowed_actions(config, side) for side in sides]), axis=0)


def level_of(mask: BoolArray, levels: BoolArray) -> int:
    """Find the row of ``levels`` (L, A) that equals the mask (A,)."""
    return int(np.flatnonzero((levels == mask).all(axis=1))[0])


def measure_masks(config: Config, images_per_state: int, seed: int) -> NDArray[np.float64]:
    """Estimate from simulated images how often each probe class allows which actions.

    Args:
        config: Settings of simulator and environment.
        images_per_state: Simulated images of each class.
        seed: Of the images.

    Returns:
        Probability of each mask level given the state, (16, L).
    """
    # All classes equally often: the share of a class does not matter for what follows from it.
    states = np.tile(np.arange(STATES), images_per_state)
    levels = mask_levels(config.env)
    counts = np.zeros((STATES, len(levels)))
    pixel = config.env.image_nm * NM / config.env.pixels
    # Actions are chosen on previews, if there are any: the image of a good probe ends the episode.
    step = config.env.pixels // (config.env.preview_lines or config.env.pixels)
    for session in sessions(len(states), seed, states, np.full(len(states), step)):
        readings = read_session(session, config)
        sides = np.array([square.side for square in readings.squares], float) * pixel
        masks = allowed_actions(config.env, sides)
        for mask, state in zip(masks, session.states, strict=True):
            counts[state, level_of(mask, levels)] += 1
    return counts / images_per_state


def reference_process(
    config: Config, images_per_state: int = IMAGES_PER_STATE, seed: int = 0
) -> HiddenProcess:
    """Build the decision process behind the environment whose episodes the truth ends.

    It leaves out that pulses may leave a tip ready to change (`tip_change_after_pulse`), and with
    previews the image of a good probe, which may change it, too.
    """
    return hidden_process(
        config.env.actions,
        ProbeDynamics(config.simulator.transitions),
        _tip_change_rates(config),
        measure_masks(config, images_per_state, seed),
        mask_levels(config.env),
        config.env.damage_actions,
    )


def included_table(config: Config) -> NDArray[np.float64]:
    """Compute the probabilities (A, 16, 16) of each action and the image after it.

    They follow from the table of transitions in the package, whatever table the settings name.
    """
    dynamics = ProbeDynamics(None)
    imaging = imaging_table(dynamics, _tip_change_rates(config))
    return step_tables(config.env.actions, dynamics, imaging)


def _tip_change_rates(config: Config) -> list[float]:
    """Probability of a tip change in the partial image and in the image, or in the preview."""
    # Every line is scanned forth and back.
    duration = config.env.pixels * 2 * config.env.image_nm / config.simulator.speed_nm_per_s
    rate = change_probability(config.simulator, duration, BIAS, SETPOINT)
    if config.env.preview_lines is not None:
        return [rate * config.env.preview_lines / config.env.pixels]
    return [rate * part for part in (config.env.settle_fraction, 1.0)]
