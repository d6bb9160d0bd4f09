"""Images for training are those of the environment, however many processes take them."""

from __future__ import annotations

import numpy as np

from spm_gym.config import load_config
from spm_gym.datasets.simulated import prepared_images
from spm_gym.imaging import largest_clean_square, level, normalise
from spm_gym.instrument.sim.dynamics import STATES
from spm_gym.instrument.sim.images import PER_AREA, sessions, take

SMALL = load_config(None, ["env.pixels=16"])
COUNT = 2 * PER_AREA + 30


def test_processes_change_nothing() -> None:
    done: list[int] = []
    one, two = (
        prepared_images(SMALL, COUNT, 7, processes=processes, progress=done.append)
        for processes in (1, 2)
    )
    assert np.array_equal(one.observations, two.observations)
    assert np.array_equal(one.clean_sides, two.clean_sides)
    assert np.array_equal(one.state, two.state)
    assert sum(done) == 2 * COUNT
    assert not np.array_equal(
        one.observations[:PER_AREA], one.observations[PER_AREA : 2 * PER_AREA]
    )


def test_images_are_prepared_one_by_one_as_in_the_environment() -> None:
    states = np.resize(np.arange(STATES), PER_AREA + 20)
    images = prepared_images(SMALL, len(states), 3, states)
    assert np.array_equal(images.state, states)
    assert np.array_equal(images.good, states == 0)
    second = take(sessions(len(states), 3, states)[1], SMALL.simulator, pixels=16)
    for k, z in enumerate(second.z):
        levelled = level(z)
        assert np.array_equal(images.observations[PER_AREA + k, 0], normalise(levelled))
        assert images.clean_sides[PER_AREA + k] == largest_clean_square(levelled).side
