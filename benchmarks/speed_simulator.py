"""Fully processed images: rendered, convolved, noisy, levelled, normalised, clean square found."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
from measure import Outcome, Skipped, of_values

from spm_gym.config import Config
from spm_gym.datasets.simulated import prepared_images
from spm_gym.imaging import fit_plane, normalise
from spm_gym.imaging.clean_square import largest_clean_square
from spm_gym.instrument.sim.dynamics import STATES
from spm_gym.instrument.sim.images import PER_AREA, sessions, take

NAME = "fully processed images, 16 probe classes mixed, two cores"

LIMIT = 70e-6
"""Estimated cost of an image of a simple probe on one core, s."""

CORES = 2
BY_RANSAC = 2 * STATES
"""Images that scikit-learn is timed with."""


def figures(quick: bool) -> Iterator[Outcome]:
    """Yield the rate of processed images and how it grows with the cores."""
    if cores() < CORES:
        yield Skipped(NAME, f"needs {CORES} cores, and there is one")
        return
    config = Config()
    count = PER_AREA * CORES * 6
    rates, single, slow = [], [], []
    warm_up(config)
    for turn in range(3 if quick else 9):
        rates.append(rate(config, count, turn, CORES))
        slow.append(reference_rate(config, turn))
        single.append(rate(config, count // CORES, turn, 1))
    ours = float(np.median(rates))
    yield of_values(
        NAME,
        rates,
        slow,
        400,
        "images/s",
        f"{ours:.0f} images/s in two processes, {np.median(single):.0f} in one; reference: such "
        "images one at a time in one process, with scikit-learn's RANSAC and the paper's settings; "
        f"a simple probe could give {1 / LIMIT:.0f} images/s and core (an estimate, not measured "
        f"here), of which these are {ours * LIMIT / CORES:.0%}",
        more_is_better=True,
    )


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def warm_up(config: Config) -> None:
    """Do everything once, so that nothing is compiled, imported or looked up while it is timed."""
    rate(config, PER_AREA * CORES, 0, CORES)
    rate(config, PER_AREA, 0, 1)
    reference_rate(config, 0)


def rate(config: Config, count: int, seed: int, processes: int) -> float:
    """Images per second."""
    states = np.resize(np.arange(STATES), count)
    started = time.perf_counter()
    prepared_images(config, count, seed, states, processes)
    return count / (time.perf_counter() - started)


def reference_rate(config: Config, seed: int) -> float:
    """Images per second, one at a time, through scikit-learn's RANSAC.

    A whole surface is imaged, as in ours; then some of the images are processed.
    """
    states = np.resize(np.arange(STATES), PER_AREA)
    (session,) = sessions(PER_AREA, seed, states)
    started = time.perf_counter()
    images = take(session, config.simulator).z
    taken = time.perf_counter()
    for z in images[:BY_RANSAC]:
        levelled = z - fit_plane(z, "ransac").heights(z.shape)
        normalise(levelled)
        largest_clean_square(levelled)
    processed = time.perf_counter()
    return 1 / ((taken - started) / PER_AREA + (processed - taken) / BY_RANSAC)
