"""Fully processed images: rendered, convolved, noisy, levelled, normalised, clean square found."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from measure import Figure, of_values

from spm_gym.config import Config
from spm_gym.imaging import fit_plane, normalise
from spm_gym.imaging.clean_square import largest_clean_square
from spm_gym.instrument.sim.dynamics import STATES
from spm_gym.instrument.sim.images import PER_AREA, sessions, take
from spm_gym.prepared import prepared_images

LIMIT = 70e-6
"""Estimated cost of an image of a simple probe on one core, s: 60 to 80 us."""

CORES = 2


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the rate of processed images and how it grows with the cores."""
    config = Config()
    count = PER_AREA * CORES * (2 if quick else 6)
    rates, single, slow = [], [], []
    prepared_images(config, CORES, 0, threads=CORES)
    for turn in range(3 if quick else 9):
        rates.append(rate(config, count, turn, CORES))
        slow.append(reference_rate(config, 16 if quick else 32, turn))
        single.append(rate(config, count // CORES, turn, 1))
    ours = float(np.median(rates))
    yield of_values(
        "fully processed images, 16 probe classes mixed, two cores",
        rates,
        slow,
        400,
        "images/s",
        f"{ours:.0f} images/s, {ours * LIMIT / CORES:.0%} of the limit of {1 / LIMIT:.0f} images/s "
        f"and core for a simple probe; one core {np.median(single):.0f} images/s",
        more_is_better=True,
    )


def rate(config: Config, count: int, seed: int, threads: int) -> float:
    """Images per second."""
    states = np.resize(np.arange(STATES), count)
    begun = time.perf_counter()
    prepared_images(config, count, seed, states, threads)
    return count / (time.perf_counter() - begun)


def reference_rate(config: Config, count: int, seed: int) -> float:
    """Images per second, one at a time, through scikit-learn's RANSAC."""
    states = np.resize(np.arange(STATES), count)
    (session,) = sessions(count, seed, states)
    begun = time.perf_counter()
    for z in take(session, config.simulator).z:
        levelled = z - fit_plane(z, "ransac").heights(z.shape)
        normalise(levelled)
        largest_clean_square(levelled)
    return count / (time.perf_counter() - begun)
