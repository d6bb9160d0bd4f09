from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from spm_gym.imaging import find_terraces, fit_plane, level, noise
from tests.support import molecule_images as make

PM = 1e-12
SHAPE = (64, 64)
DATA = Path(__file__).parents[3] / "shared" / "data"

slopes = st.floats(-5, 5)
seeds = st.integers(0, 2**32 - 1)


def tilted(rng: np.random.Generator, shape: tuple[int, int] = SHAPE) -> NDArray[np.float64]:
    return make.plane(shape, *rng.normal(0, 3, 2))


def error(
    z: NDArray[np.float64], plane: NDArray[np.float64], method: str = "levels"
) -> tuple[float, float]:
    """Rms difference of the fitted plane and of its tilt alone from the true one, pm."""
    wrong = (fit_plane(z, method).heights(z.shape) - plane) / PM  # type: ignore[arg-type]
    return float(np.sqrt(np.mean(wrong**2))), float(wrong.std())


def real_scan(name: str) -> NDArray[np.float32]:
    path = DATA / f"{name}.npy"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return np.asarray(np.load(path), dtype=np.float32)


@pytest.mark.parametrize("white", [2.0, 5.0, 10.0])
def test_is_at_least_as_accurate_as_ransac_among_molecules(white: float) -> None:
    ours, theirs = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        plane = tilted(rng)
        z = plane + make.molecules(SHAPE, rng, 0.3) + make.noise(SHAPE, rng, white, 1.2)
        ours.append(error(z, plane)[0])
        theirs.append(error(z, plane, "ransac")[0])
    assert np.mean(ours) <= np.mean(theirs)
    assert max(ours) < 0.25 * white + 0.5


@pytest.mark.parametrize("white", [0.0, 2.0, 5.0, 10.0])
@pytest.mark.parametrize("shape", [(64, 64), (48, 96), (128, 128)])
def test_knows_the_substrate_from_flat_molecules_that_cover_more(
    white: float, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(1)
    plane = tilted(rng, shape)
    z = plane + make.flat_molecules(shape, rng, 0.55) + make.noise(shape, rng, white, 1.2)
    assert error(z, plane)[0] < 1.5


def test_ransac_with_the_settings_of_the_paper_takes_the_molecules_for_the_substrate() -> None:
    rng = np.random.default_rng(1)
    plane = tilted(rng)
    z = plane + make.flat_molecules(SHAPE, rng, 0.55) + make.noise(SHAPE, rng, 2, 1.2)
    assert error(z, plane, "ransac")[0] > 150


@pytest.mark.parametrize("angle", np.linspace(0, 2 * np.pi, 8, endpoint=False))
def test_a_step_does_not_tilt_the_plane(angle: float) -> None:
    rng = np.random.default_rng(2)
    plane = tilted(rng)
    z = plane + make.step(SHAPE, angle) + make.noise(SHAPE, rng, 10, 1.2)
    offset_and_tilt, tilt = error(z, plane)
    assert tilt < 2.5
    assert offset_and_tilt < 4


def test_steep_planes_are_no_harder() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        plane = make.plane(SHAPE, *rng.uniform(-30, 30, 2))
        z = plane + make.molecules(SHAPE, rng, 0.3) + make.noise(SHAPE, rng, 5, 1.2)
        assert error(z, plane)[0] < 1.8


def test_small_dark_rims_are_not_the_substrate() -> None:
    rng = np.random.default_rng(3)
    plane = tilted(rng)
    rims = -make.flat_molecules(SHAPE, rng, 0.06, radius=3.0, height=40.0)
    z = plane + rims + make.molecules(SHAPE, rng, 0.3) + make.noise(SHAPE, rng, 2, 1.2)
    assert error(z, plane)[0] < 1


@pytest.mark.parametrize("offset", [25.0, 50.0, 90.0])
def test_of_two_telegraph_levels_the_lower_is_the_substrate(offset: float) -> None:
    rng = np.random.default_rng(4)
    plane = tilted(rng)
    switches = rng.random(SHAPE) < 10**-1.9
    raised = (np.cumsum(switches).reshape(SHAPE) % 2) * offset * PM
    z = plane + raised + make.molecules(SHAPE, rng, 0.15) + make.noise(SHAPE, rng, 2, 1.2)
    assert error(z, plane)[0] < 1.5


@settings(max_examples=40, deadline=None)
@given(seeds, slopes, slopes, st.floats(-1e5, 1e5))
def test_commutes_with_planes(seed: int, per_row: float, per_col: float, height: float) -> None:
    rng = np.random.default_rng(seed)
    z = make.molecules(SHAPE, rng, 0.2) + make.noise(SHAPE, rng, 3, 1.2)
    other = z + make.plane(SHAPE, per_row, per_col) + height * PM
    assert np.abs(level(other) - level(z)).max() < 1 * PM


@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from([np.flipud, np.fliplr, np.transpose]))
def test_commutes_with_flips(seed: int, flip: object) -> None:
    rng = np.random.default_rng(seed)
    z = tilted(rng) + make.molecules(SHAPE, rng, 0.2) + make.noise(SHAPE, rng, 3)
    assert callable(flip)
    assert np.abs(level(flip(z)) - flip(level(z))).max() < 2 * PM


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(0, 40))
def test_missing_lines_stay_missing_and_do_not_matter(seed: int, missing: int) -> None:
    rng = np.random.default_rng(seed)
    plane = tilted(rng)
    z = plane + make.molecules(SHAPE, rng, 0.1) + make.noise(SHAPE, rng, 2, 1.2)
    z[-missing or 64 :] = np.nan
    levelled = level(z)
    np.testing.assert_array_equal(np.isnan(levelled), np.isnan(z))
    scanned = slice(0, 64 - missing)
    wrong = (fit_plane(z).heights(SHAPE) - plane)[scanned]
    assert np.sqrt(np.mean(wrong**2)) < 1.5 * PM


def test_levelling_twice_changes_nothing_that_matters() -> None:
    rng = np.random.default_rng(5)
    z = tilted(rng) + make.molecules(SHAPE, rng, 0.2) + make.noise(SHAPE, rng, 2, 1.2)
    once = level(z)
    assert np.abs(level(once) - once).max() < 0.5 * PM


@pytest.mark.parametrize("method", ["levels", "ransac"])
def test_a_noiseless_plane_is_found_exactly(method: str) -> None:
    z = make.plane((20, 30), 2.5, -1.25) + 3e-9
    assert np.abs(level(z, method)).max() < 1e-6 * PM  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=8, max_side=16),
               elements=st.one_of(st.integers(-3, 3), st.floats(-50, 50), st.just(np.nan))),
    st.sampled_from([1.0, 10.0, 100.0, 1e5]),
)  # fmt: skip
def test_any_image_comes_out_level_or_is_refused(image: NDArray[np.float64], unit: float) -> None:
    z = image * unit * PM
    if np.isfinite(z).sum() < 16:
        with pytest.raises(ValueError, match="16 scanned pixels"):
            level(z)
        return
    levelled = level(z)
    np.testing.assert_array_equal(np.isnan(levelled), np.isnan(z))
    assert np.nanmin(levelled) <= 5 * PM
    assert np.nanmax(levelled) >= -5 * PM


def test_a_spike_of_micrometres_leaves_the_level_at_zero() -> None:
    z = np.full((8, 8), -2e5 * PM)
    z[0, :2] = z[1, 0] = 0.0
    assert abs(np.median(level(z))) < 0.1 * PM


def test_blunt_images_are_neither_noisy_nor_without_substrate() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        plane = tilted(rng)
        blunt = gaussian_filter(make.molecules(SHAPE, rng, 0.3), 3)
        z = plane + blunt - blunt.min() + make.noise(SHAPE, rng, 2, 1.2)
        assert noise(z) / PM == pytest.approx(np.hypot(2, 1.2), rel=0.25)
        assert error(z, plane)[0] < 8


def test_infinite_heights_count_as_missing() -> None:
    rng = np.random.default_rng(6)
    plane = tilted(rng)
    z = plane + make.noise(SHAPE, rng, 2)
    z[5, 5], z[6, 6] = np.inf, -np.inf
    assert error(z, plane)[0] < 1
    assert np.argwhere(np.isnan(level(z))).tolist() == [[5, 5], [6, 6]]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("axis", [0, 1])
def test_every_second_line_is_enough_where_the_tilt_is_small(axis: int, first: int) -> None:
    rng = np.random.default_rng(8)
    plane = make.plane(SHAPE, 0.1, -0.1)
    z = plane + make.molecules(SHAPE, rng, 0.2) + make.noise(SHAPE, rng, 2)
    np.moveaxis(z, axis, 0)[first::2] = np.nan
    assert error(z, plane)[0] < 1


def test_float32_stays_float32() -> None:
    z = make.plane(SHAPE, 1, 1).astype(np.float32)
    assert level(z).dtype == np.float32
    assert level(z.astype(np.float64)).dtype == np.float64


def test_ransac_is_seeded_and_takes_a_generator() -> None:
    rng = np.random.default_rng(6)
    z = tilted(rng) + make.noise(SHAPE, rng, 2)
    assert fit_plane(z, "ransac") == fit_plane(z, "ransac")
    assert fit_plane(z, "ransac", np.random.default_rng(1)) != fit_plane(z, "ransac")


def test_ransac_leaves_out_missing_pixels() -> None:
    rng = np.random.default_rng(6)
    plane = tilted(rng)
    z = plane + make.noise(SHAPE, rng, 1)
    z[::7, 3] = np.nan
    z[50:] = np.nan
    assert error(z, plane, "ransac")[0] < 1


@pytest.mark.parametrize("shape", [(64,), (2, 64, 64), (7, 64), (64, 7)])
def test_refuses_what_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"at least 8 pixels a side, not \("):
        level(np.zeros(shape))


def test_refuses_an_image_without_pixels() -> None:
    z = np.full(SHAPE, np.nan)
    z[0, :5] = 0
    with pytest.raises(ValueError, match="16 scanned pixels, the image has 5"):
        level(z)


def test_refuses_an_unknown_method() -> None:
    with pytest.raises(ValueError, match="'levels' or 'ransac', not 'mean'"):
        level(np.zeros(SHAPE), "mean")  # type: ignore[arg-type]


@pytest.mark.parametrize(("white", "line"), [(2.0, 1.2), (5.0, 1.2), (10.0, 0.0), (2.0, 4.0)])
def test_measures_the_noise_under_tilt_steps_and_molecules(white: float, line: float) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        z = tilted(rng) + make.step(SHAPE, 0.4) + make.molecules(SHAPE, rng, 0.1)
        z += make.noise(SHAPE, rng, white, line)
        assert noise(z) / PM == pytest.approx(np.hypot(white, line), rel=0.25)


def test_noise_of_nothing_is_zero() -> None:
    assert noise(np.full(SHAPE, np.nan)) == 0
    assert noise(make.plane(SHAPE, 3, 2)) < 1e-6 * PM


@pytest.mark.parametrize("heights", [(0, 204), (0, 204, 408)])
def test_lists_the_terraces(heights: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    stairs = np.repeat(np.array(heights) * PM, 96 // len(heights))[None]
    found = find_terraces(make.plane((64, 96), 1, 3) + stairs + make.noise((64, 96), rng, 3))
    np.testing.assert_allclose(found.heights / PM, heights, atol=1)


def test_real_terraces_come_out_flat_and_equally_high() -> None:
    found = find_terraces(real_scan("stm_terrace_109nm"))
    assert len(found.heights) >= 5
    np.testing.assert_allclose(np.diff(found.heights) / PM, 200, atol=3)


def test_real_step_has_two_flat_sides() -> None:
    z = real_scan("stm_step_20nm")
    levelled = level(z) / PM
    for height in find_terraces(z).heights / PM:
        side = levelled[np.abs(levelled - height) < 50]
        assert np.percentile(np.abs(side - np.median(side)), 68) < 5
        assert side.size > 0.25 * levelled.size
    assert find_terraces(z).heights / PM == pytest.approx([0, 203], abs=5)


@pytest.mark.parametrize("name", ["stm_molecular_30nm_pos", "stm_close_100nm", "stm_step_20nm"])
def test_most_of_a_real_scan_lies_on_its_terraces(name: str) -> None:
    z = real_scan(name)
    found = find_terraces(z)
    levelled = (z - found.plane.heights(z.shape))[..., None]
    distance = np.abs(levelled - found.heights).min(axis=-1)
    assert np.mean(distance < 10 * PM) > 0.8
