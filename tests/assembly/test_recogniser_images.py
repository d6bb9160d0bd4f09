"""Images for the recogniser come from settings about the given ones, and the seed decides."""

from __future__ import annotations

import numpy as np

from spm_gym.assembly.recogniser_images import (
    bend_heights,
    randomised,
    randomised_images,
    settings_hash,
    validation_images,
)
from spm_gym.config import Config, SimulatorConfig, load_config


def small(*settings: str) -> Config:
    return load_config(None, ["env.pixels=16", "env.image_nm=5", *settings])


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


def test_curves_raise_what_is_low_and_leave_substrate_and_molecules() -> None:
    rng = np.random.default_rng(0)
    hills = np.linspace(-1, 1.5, 32)[:, None].repeat(32, axis=1).astype(np.float32)
    images = np.stack([np.full((32, 32), -1, np.float32), hills])[:, None].repeat(100, axis=0)
    clean, contaminated = np.zeros(200, int), np.full(200, 2)
    bent = bend_heights(images, clean, 1.0, rng)
    raised = bent[100:] - images[100:]
    assert np.array_equal(bent[:100], images[:100])
    assert raised.min() >= 0
    assert bent.max() <= 1.5
    # A tenth of the height of a molecule would appear as half of it.
    assert raised[:, 0, 3].min() > 0.3
    assert np.abs(raised[:, 0, -5:]).max() < 0.1
    assert np.diff(bent[100:, 0, :, 0], axis=1).min() > -0.02
    lower = bend_heights(images, contaminated, 1.0, rng)[100:] - images[100:]
    assert np.abs(lower[:, 0, -12:]).max() < 0.1
    changed = np.any(bend_heights(images, clean, 0.5, rng) != images, axis=(1, 2, 3))[100:]
    assert 0.3 < changed.mean() < 0.7
    assert np.array_equal(bend_heights(images, clean, 0.0, rng), images)


def test_noise_on_the_substrate_is_not_amplified() -> None:
    rng = np.random.default_rng(1)
    noise = (-1 + rng.normal(0, 0.03, (50, 1, 32, 32))).astype(np.float32)
    bent = bend_heights(noise, np.zeros(50, int), 1.0, rng)
    assert bent.std() < 1.1 * noise.std()


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
    changes = ["simulator.mode=linear"], ["recogniser.line_steps=[1]"], ["recogniser.bent_share=1"]
    assert len({settings_hash(small(*change)) for change in ([], *changes, [])}) == 4


def curvature(images: np.ndarray) -> float:
    """Mean curvature of the columns between two lines of a preview, in rows 4 and 12 of 16."""
    second = images[..., 5, :] - 2.0 * images[..., 6, :] + images[..., 7, :]
    return float(np.abs(second).mean())


def test_every_number_of_lines_is_among_the_images() -> None:
    full, previews, mixed = (
        randomised_images(
            small(f"recogniser.line_steps={steps}", "recogniser.bent_share=0"), 200, 3
        ).images
        for steps in ("[1]", "[8]", "[8, 1]")
    )
    # Between the lines of a preview heights go straight.
    assert curvature(previews) < 0.01 * curvature(full)
    straight = np.array([curvature(image) for image in mixed]) < 1e-2
    assert 0.3 < straight.mean() < 0.7


def test_validation_has_the_same_probes_for_each_number_of_lines_and_others_than_training() -> None:
    config = small("recogniser.validation_images=100", "recogniser.line_steps=[8, 2, 2, 1]")
    counted: list[int] = []
    images = validation_images(config, 0, counted.append)
    assert list(images) == [2, 8, 16]
    assert sum(counted) == 300
    for data in images.values():
        assert np.array_equal(data.states, images[16].states)
        assert data.images.shape == (100, 1, 16, 16)
    found = np.corrcoef(images[8].images.ravel(), images[16].images.ravel())[0, 1]
    assert found > 0.6
    assert not np.array_equal(images[16].states, randomised_images(config, 100, 0).states)
    assert np.array_equal(images[16].states, validation_images(config, 0)[16].states)
