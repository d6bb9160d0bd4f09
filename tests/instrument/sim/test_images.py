"""Labelled images are reproducible, labelled rightly and show what they should."""

from __future__ import annotations

import numpy as np

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.dynamics import STATES
from spm_gym.instrument.sim.images import simulated_images


def test_same_seed_same_images_and_other_seed_others() -> None:
    first, again, other = (simulated_images(6, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.z, again.z)
    assert np.array_equal(first.state, again.state)
    assert not np.array_equal(first.z, other.z)


def test_labels_are_those_of_the_states_asked_for() -> None:
    asked = np.arange(STATES)
    images = simulated_images(STATES, 0, states=asked)
    assert np.array_equal(images.state, asked)
    assert np.array_equal(images.good, asked == 0)


def test_about_three_in_ten_are_good_and_every_class_comes() -> None:
    images = simulated_images(600, 0, pixels=8)
    assert 0.24 < images.good.mean() < 0.36
    assert set(images.state) == set(range(STATES))


def test_images_are_whole_raw_and_not_rough() -> None:
    images = simulated_images(20, 3, SimulatorConfig(tilt_pm_per_nm=0.0), image_nm=5, pixels=32)
    assert images.z.shape == (20, 32, 32)
    assert images.z.dtype == np.float32
    assert np.isfinite(images.z).all()
    assert np.ptp(images.z, axis=(1, 2)).max() < 1.2e-9


def test_progress_counts_every_image() -> None:
    done: list[int] = []
    simulated_images(5, 0, pixels=8, progress=done.append)
    assert sum(done) == 5
