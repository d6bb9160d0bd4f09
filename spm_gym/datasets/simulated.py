"""Simulated images as the networks see them, with their labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import joblib
import numpy as np
from numpy.typing import NDArray

from spm_gym.config import Config
from spm_gym.envs.simulated_images import read_session
from spm_gym.instrument.sim.images import sessions
from spm_gym.types import BoolArray


@dataclass(frozen=True, slots=True)
class PreparedImages:
    """N images with the hidden truth that only a simulator knows.

    Attributes:
        observations: Levelled and normalised, (N, 1, pixels, pixels) float32.
        clean_sides: Side of the largest clean square, pixels (N,).
        state: Index of the probe's class, (N,).
    """

    observations: NDArray[np.float32]
    clean_sides: NDArray[np.int64]
    state: NDArray[np.int64]

    @property
    def good(self) -> BoolArray:
        """Whether the probe was good, (N,)."""
        # Class 0 is sharp, clean and stable; every other one is bad by definition.
        return np.asarray(self.state == 0)


def prepared_images(
    config: Config,
    count: int,
    seed: int,
    states: NDArray[np.int64] | None = None,
    processes: int = 1,
    progress: Callable[[int], object] = lambda images: None,
    line_steps: NDArray[np.int64] | None = None,
) -> PreparedImages:
    """Simulate images and process them as the environment does.

    Args:
        config: Settings of simulator and environment.
        count: N.
        seed: The same seed gives the same images, whatever the number of processes.
        states: Classes of the probes (N,); by default those of `sessions`.
        processes: How many work at a time. They are processes because a third of the time is
            Python's, in which threads would wait for one another.
        progress: Called with the number of images finished since the last call.
        line_steps: Of the images (N,), more than 1 of previews; by default all are full ones.
    """
    work = sessions(count, seed, states, line_steps)
    observations = np.empty((count, 1, config.env.pixels, config.env.pixels), np.float32)
    sides, labels = np.empty((2, count), np.int64)
    done = 0
    # One by one, in their order: all results at once would double the memory.
    workers = joblib.Parallel(processes, return_as="generator")
    read = workers(joblib.delayed(read_session)(session, config) for session in work)
    for session, readings in zip(work, read, strict=True):
        part = slice(done, done + len(session.states))
        observations[part] = readings.observations
        sides[part] = [square.side for square in readings.squares]
        labels[part] = session.states
        done = part.stop
        progress(len(session.states))
    return PreparedImages(observations, sides, labels)
