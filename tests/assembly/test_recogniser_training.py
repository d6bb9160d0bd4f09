"""Images for the recogniser come from settings about the given ones, and the seed decides."""

from __future__ import annotations

import numpy as np

from agents.belief.recogniser_training import RecogniserTraining
from spm_gym.assembly.recogniser_training import (
    randomised,
    randomised_images,
    settings_hash,
    train_recogniser,
)
from spm_gym.config import Config, SimulatorConfig, load_config
from spm_gym.instrument.sim.dynamics import STATES
from tests.support.blobs import TINY


def small(*settings: str) -> Config:
    return load_config(None, ["env.pixels=16", *settings])


def test_settings_vary_about_the_given_ones_log_uniformly() -> None:
    rng = np.random.default_rng(0)
    base = SimulatorConfig()
    drawn = [randomised(base, linear=False, rng=rng) for _ in range(400)]
    factors = np.array([each.white_noise_pm / base.white_noise_pm for each in drawn])
    assert 0.6 <= factors.min() < 0.65
    assert 2.1 < factors.max() <= 2.2
    assert abs(np.log(factors).mean() - np.log(0.6 * 2.2) / 2) < 0.06
    assert {each.mode for each in drawn} == {"current"}
    assert randomised(base, linear=True, rng=rng).mode == "linear"
    assert {each.terrace_nm for each in drawn} == {base.terrace_nm}


def test_the_seed_decides_the_images() -> None:
    counted: list[int] = []
    first = randomised_images(small(), 40, 1, counted.append)
    again, other = (randomised_images(small(), 40, seed) for seed in (1, 2))
    assert sum(counted) == 40
    assert first.images.shape == (40, 1, 16, 16)
    assert np.isfinite(first.images).all()
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.states, again.states)
    assert not np.array_equal(first.images, other.images)


def test_a_hash_tells_settings_apart() -> None:
    hashes = {settings_hash(small(*change)) for change in ((), ("simulator.mode=linear",), ())}
    assert len(hashes) == 2


def test_a_recogniser_is_trained_from_the_settings_alone() -> None:
    config = small("env.image_nm=5")
    quick = RecogniserTraining(network=TINY, epochs=1, shift=1)
    recogniser = train_recogniser(config, 400, 0, quick)
    assert recogniser.shares.shape == (STATES,)
    assert recogniser.settings == settings_hash(config)
    assert recogniser.logarithms(np.zeros((1, 1, 16, 16), np.float32)).shape == (1, STATES)
