"""The height that normalised images are measured in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.imaging import normalise, read_scans
from spm_gym.imaging.normalisation import LIMIT, measured_scale

PM = 1e-12


def lattice(corrugation: float, seed: int = 0) -> np.ndarray:
    rows, cols = np.mgrid[:32, :32]
    waves = (np.sin(rows / 2) + np.sin(cols / 2)) / 4 + 0.5
    return np.asarray(
        corrugation * waves + np.random.default_rng(seed).normal(0, 0.1 * PM, (32, 32))
    )


@given(factor=st.floats(0.02, 1e3))
def test_a_sample_of_any_height_fills_the_range_alike(factor: float) -> None:
    z = lattice(200 * PM)
    once, more = (normalise(each, measured_scale([each])) for each in (z, factor * z))
    assert more == pytest.approx(once, abs=1e-4)
    assert normalise(z, "image") == pytest.approx(normalise(factor * z, "image"), abs=1e-4)


def test_half_the_height_of_the_sample_is_the_unit() -> None:
    images = [lattice(20 * PM, seed) for seed in range(3)]
    scale = measured_scale(images)
    assert scale == pytest.approx(10 * PM, rel=0.1)
    assert normalise(images[0], scale).max() == pytest.approx(1, abs=0.1)


def test_by_its_own_spread_an_image_has_the_mean_0_and_the_spread_of_a_half() -> None:
    z = lattice(20 * PM)
    z[3, 4] = np.nan
    image = normalise(z, "image")
    assert image[3, 4] == 0
    assert image.mean() == pytest.approx(0, abs=1e-6)
    assert image.std() == pytest.approx(0.5, abs=0.01)
    assert np.array_equal(normalise(np.full((4, 4), 3.0), "image"), np.zeros((4, 4)))


@pytest.mark.parametrize("scale", [1e-10, 2e-11, "image"])
def test_scans_are_read_with_the_scale(scale: float) -> None:
    z = lattice(20 * PM).astype(np.float32)[None]
    found = read_scans(z, np.array([[np.nan, np.nan]]), scale=scale).observations[0, 0]
    assert np.abs(found).max() <= LIMIT
    usual = read_scans(z, np.array([[np.nan, np.nan]])).observations[0, 0]
    assert np.array_equal(found, usual) == (scale == 1e-10)
