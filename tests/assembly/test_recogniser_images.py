"""Images for the recogniser come from settings about the given ones, and the seed decides."""

from __future__ import annotations

import numpy as np

from spm_gym.assembly.recogniser_images import (
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


def test_powers_change_heights_of_linear_draws_and_nothing_else() -> None:
    plain, half, powers = (
        randomised_images(small("simulator.mode=linear", f"recogniser.bent_share={share}"), 2000, 1)
        for share in (0, 0.5, 1)
    )
    for other in (half, powers):
        assert np.array_equal(other.states, plain.states)
        assert np.corrcoef(other.images.ravel(), plain.images.ravel())[0, 1] > 0.8
    changed = [
        [
            bool((each.images[part] != plain.images[part]).any())
            for part in np.split(np.arange(2000), 4)
        ]
        for each in (half, powers)
    ]
    assert 0 < sum(changed[0]) < 4
    assert all(changed[1])
    assert powers.images.mean() > half.images.mean() > plain.images.mean()


def test_powers_leave_draws_in_the_mode_current_alone() -> None:
    plain, powers = (
        randomised_images(small(f"recogniser.bent_share={share}"), 2000, 1).images
        for share in (0, 1)
    )
    assert np.array_equal(powers[:1500], plain[:1500])
    assert not np.array_equal(powers[1500:], plain[1500:])


def test_a_hash_tells_settings_apart() -> None:
    changes = ["simulator.mode=linear"], ["recogniser.line_steps=[1]"], ["recogniser.bent_share=1"]
    assert len({settings_hash(small(*change)) for change in ([], *changes, [])}) == 4


def curvature(images: np.ndarray) -> float:
    """Mean curvature of the columns between two lines of a preview, in rows 4 and 12 of 16."""
    second = images[..., 5, :] - 2.0 * images[..., 6, :] + images[..., 7, :]
    return float(np.abs(second).mean())


def test_every_number_of_lines_is_among_the_images() -> None:
    full, previews, mixed = (
        randomised_images(small(f"recogniser.line_steps={steps}"), 200, 3).images
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
