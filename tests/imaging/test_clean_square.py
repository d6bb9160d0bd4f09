from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from spm_gym.imaging import Square, clean_pixels, largest_clean_square, level, normalise
from tests.support import molecule_images as make

PM = 1e-12
DATA = Path(__file__).parents[3] / "shared" / "data"


def by_loops(clean: NDArray[np.bool_]) -> Square:
    """Side of the largest square that ends at each pixel, from those that end beside it."""
    sides = np.zeros((clean.shape[0] + 1, clean.shape[1] + 1), dtype=int)
    for row, col in np.argwhere(clean):
        before = sides[row, col], sides[row, col + 1], sides[row + 1, col]
        sides[row + 1, col + 1] = 1 + min(before)
    side = int(sides.max())
    if side == 0:
        return Square(0, 0, 0)
    row, col = np.argwhere(sides == side)[0] - side
    return Square(int(row), int(col), side)


@settings(max_examples=300, deadline=None)
@given(
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=14),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_is_the_largest_and_the_first(shape: tuple[int, int], share: float, seed: int) -> None:
    clean = np.random.default_rng(seed).random(shape) < share
    assert largest_clean_square(clean) == by_loops(clean)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.9, 1))
def test_is_the_largest_in_images_of_64_pixels(seed: int, share: float) -> None:
    clean = np.random.default_rng(seed).random((64, 64)) < share
    assert largest_clean_square(clean) == by_loops(clean)


@pytest.mark.parametrize(
    ("mask", "square"),
    [
        (np.zeros((5, 7), dtype=bool), Square(0, 0, 0)),
        (np.ones((5, 7), dtype=bool), Square(0, 0, 5)),
        (np.eye(6, dtype=bool)[::-1], Square(0, 5, 1)),
    ],
)
def test_extremes(mask: NDArray[np.bool_], square: Square) -> None:
    assert largest_clean_square(mask) == square


def test_centre_counts_pixel_centres() -> None:
    assert Square(2, 3, 1).centre == (2, 3)
    assert Square(2, 3, 4).centre == (3.5, 4.5)


def test_metres_and_normalised_images_give_the_same_square() -> None:
    rng = np.random.default_rng(0)
    z = make.molecules((64, 64), rng, 0.1) + make.noise((64, 64), rng, 2, 1.2)
    levelled = level(z)
    assert largest_clean_square(normalise(levelled)) == largest_clean_square(levelled)
    assert largest_clean_square(levelled).side > 10


def test_tolerance_of_the_paper_is_the_least() -> None:
    z = np.zeros((8, 8))
    z[0] = 9.9 * PM
    z[1] = -10.1 * PM
    np.testing.assert_array_equal(clean_pixels(z)[:3, 0], [True, False, True])


def test_tolerance_can_be_forced() -> None:
    z = np.full((8, 8), 30 * PM)
    assert not clean_pixels(z).any()
    assert clean_pixels(z, tolerance=31 * PM).all()
    assert clean_pixels(normalise(z), tolerance=31 * PM).all()
    assert not clean_pixels(normalise(z), tolerance=29 * PM).any()


def test_missing_pixels_are_not_clean() -> None:
    z = np.zeros((8, 8))
    z[2, 2] = np.nan
    assert clean_pixels(z).sum() == 63
    assert not clean_pixels(np.full((8, 8), np.nan)).any()
    assert largest_clean_square(np.full((8, 8), np.nan)) == Square(0, 0, 0)


@pytest.mark.parametrize("white", [2.0, 5.0, 10.0])
def test_noise_does_not_destroy_the_square(white: float) -> None:
    found, true = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        surface = make.molecules((64, 64), rng, 0.12)
        z = make.plane((64, 64), 2, -1) + surface + make.noise((64, 64), rng, white, 1.2)
        found.append(largest_clean_square(level(z)).side)
        true.append(largest_clean_square(surface <= 10 * PM).side)
    ratio = np.array(found) / np.array(true)
    assert ratio.min() > 0.7
    assert 0.93 < ratio.mean() < 1.15


def test_with_the_fixed_tolerance_noise_does_destroy_it() -> None:
    z = make.noise((64, 64), np.random.default_rng(0), 5, 1.2)
    assert largest_clean_square(z, tolerance=10 * PM).side < 15
    assert largest_clean_square(z).side > 50


def test_square_keeps_clear_of_molecules() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        surface = make.molecules((64, 64), rng, 0.3)
        z = surface + make.noise((64, 64), rng, 5, 1.2)
        row, col, side = largest_clean_square(level(z))
        assert surface[row : row + side, col : col + side].max() < 45 * PM


def test_refuses_what_is_no_image() -> None:
    with pytest.raises(ValueError, match=r"\(H, W\), not \(4,\)"):
        largest_clean_square(np.zeros(4))


@pytest.mark.parametrize("name", ["stm_step_20nm", "stm_close_100nm", "stm_terrace_109nm"])
def test_square_of_a_real_scan_lies_on_flat_ground(name: str) -> None:
    path = DATA / f"{name}.npy"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    levelled = level(np.load(path))
    row, col, side = largest_clean_square(levelled)
    square = levelled[row : row + side, col : col + side]
    assert side > 0.15 * levelled.shape[0]
    assert np.ptp(square) <= 21 * PM
    assert abs(np.median(square)) < 6 * PM


def test_normalised_images_put_the_substrate_at_minus_one() -> None:
    heights = np.array([[-1e-9, 0.0, 1e-10, 2e-10, 1e-9, np.nan]])
    image = normalise(heights)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, [[-1.5, -1, 0, 1, 1.5, -1]], rtol=1e-6)
