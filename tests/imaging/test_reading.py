from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from spm_gym.imaging import (
    Diagnosis,
    Readings,
    Square,
    diagnose,
    largest_clean_square,
    level,
    normalise,
    read_scans,
)
from spm_gym.imaging.plane import Method
from spm_gym.types import Frame, Scan
from tests.support import molecule_images as make

PM = 1e-12
SHAPE = (64, 64)
Z_RANGE = (-150e-9, 150e-9)


def scans(shape: tuple[int, int] = SHAPE) -> NDArray[np.float32]:
    """One of every kind: from molecules to images on which nothing can be done."""
    rng = np.random.default_rng(0)
    images = []
    for white in (0.5, 2, 5, 10):
        for coverage in (0.0, 0.1, 0.3):
            plane = make.plane(shape, *rng.normal(0, 3, 2)) + rng.normal(0, 1e-8)
            noise = make.noise(shape, rng, white, 1.2)
            images.append(plane + make.molecules(shape, rng, coverage) + noise)
    images.append(images[5] + make.step(shape, 0.7))
    images.append(images[5] + make.step(shape, 2.2, height=2000.0))
    images.append(make.plane(shape, 30, -30) + make.flat_molecules(shape, rng, 0.55) + noise)
    images.append(rng.normal(0, 1e-9, shape))
    images += [images[5].copy() for _ in range(6)]
    images[-6][-10:] = np.nan
    images[-5][:, ::2] = np.nan
    images[-4][10:] = Z_RANGE[1]
    images[-3][10:] = Z_RANGE[0]
    images[-2][3, 4], images[-2][5, 5] = np.inf, -np.inf
    images[-1][1:] = np.nan
    images[-1][0, 5:] = np.nan
    images += [np.full(shape, np.nan), np.full(shape, 3e-9)]
    return np.stack(images).astype(np.float32)


def one_by_one(z: NDArray[np.float32], z_ranges: NDArray[np.float64], method: Method) -> Readings:
    diagnoses, observations, squares = [], [], []
    for image, ends in zip(z, z_ranges, strict=True):
        z_range = None if np.isnan(ends).any() else (float(ends[0]), float(ends[1]))
        diagnoses.append(diagnose(Scan(Frame(0, 0, 1e-8, image.shape[0]), image, z_range)))
        if np.isfinite(image).sum() < 16:
            observations.append(np.full(image.shape, -1, dtype=np.float32))
            squares.append(Square(0, 0, 0))
        else:
            levelled = level(image, method)
            observations.append(normalise(levelled))
            squares.append(largest_clean_square(levelled))
    return Readings(tuple(diagnoses), np.stack(observations)[:, None], tuple(squares))


def same(some: Readings, others: Readings) -> bool:
    return (
        some.diagnoses == others.diagnoses
        and some.squares == others.squares
        and some.observations.tobytes() == others.observations.tobytes()
    )


@pytest.mark.parametrize("shape", [SHAPE, (48, 96), (8, 31), (130, 9)])
def test_a_batch_gives_what_the_single_functions_give(shape: tuple[int, int]) -> None:
    z = scans(shape)
    z_ranges = np.tile(Z_RANGE, (len(z), 1))
    z_ranges[::3] = np.nan
    together = read_scans(z, z_ranges)
    assert together.observations.shape == (len(z), 1, *shape)
    assert together.observations.dtype == np.float32
    assert same(together, one_by_one(z, z_ranges, "levels"))


def test_every_diagnosis_is_among_them() -> None:
    z = scans()
    assert set(read_scans(z, np.tile(Z_RANGE, (len(z), 1))).diagnoses) == set(Diagnosis)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.just(2), st.integers(8, 12), st.integers(8, 12)),
               elements=st.one_of(st.integers(-3, 3), st.floats(-50, 50, width=32),
                                  st.sampled_from([np.nan, np.inf, -np.inf]))),
    st.sampled_from([1.0, 100.0, 1e12]),
)  # fmt: skip
def test_also_of_strange_images(images: NDArray[np.float32], unit: float) -> None:
    z = images * np.float32(unit * PM)
    z_ranges = np.array([[-2e-10, 2e-10], [np.nan, np.nan]])
    assert same(read_scans(z, z_ranges), one_by_one(z, z_ranges, "levels"))


def test_ransac_can_be_chosen() -> None:
    z = scans()[[0, 5, -7, -3, -2, -1]]
    z_ranges = np.tile(Z_RANGE, (len(z), 1))
    readings = read_scans(z, z_ranges, "ransac")
    assert same(readings, one_by_one(z, z_ranges, "ransac"))
    assert not same(readings, read_scans(z, z_ranges))


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_size_of_a_batch_does_not_matter(size: int) -> None:
    z = scans()
    z_ranges = np.full((len(z), 2), np.nan)
    whole = read_scans(z, z_ranges)
    for begin in range(0, len(z), size):
        some = slice(begin, begin + size)
        part = read_scans(z[some], z_ranges[some])
        expected = Readings(whole.diagnoses[some], whole.observations[some], whole.squares[some])
        assert same(part, expected)


def test_threads_do_not_disturb_one_another() -> None:
    z = scans()
    z_ranges = np.full((len(z), 2), np.nan)
    expected = read_scans(z, z_ranges)
    with ThreadPoolExecutor(4) as pool:
        for readings in pool.map(lambda _: read_scans(z, z_ranges), range(8)):
            assert same(readings, expected)


def test_what_cannot_be_levelled_is_not_fine() -> None:
    z = np.full((3, *SHAPE), np.nan, dtype=np.float32)
    z[1, :15, 0] = np.linspace(0, 1e-9, 15)
    z[2, 0, :15] = Z_RANGE[1]
    readings = read_scans(z, np.tile(Z_RANGE, (3, 1)))
    assert readings.diagnoses == (Diagnosis.PARTIAL, Diagnosis.PARTIAL, Diagnosis.CRASH)
    assert (readings.observations == -1).all()
    assert readings.squares == (Square(0, 0, 0),) * 3


def test_nothing_is_read_from_no_scans() -> None:
    readings = read_scans(np.empty((0, *SHAPE), dtype=np.float32), np.empty((0, 2)))
    assert readings.observations.shape == (0, 1, *SHAPE)
    assert readings.diagnoses == readings.squares == ()


@pytest.mark.parametrize(
    ("shape", "ranges", "message"),
    [
        ((64, 64), (1, 2), r"\(N, H, W\) with ranges \(N, 2\), not \(64, 64\), \(1, 2\)"),
        ((3, 64, 64), (2, 2), r"not \(3, 64, 64\), \(2, 2\)"),
        ((1, 64, 7), (1, 2), r"at least 8 pixels a side, not \(64, 7\)"),
    ],
)
def test_refuses_other_shapes(
    shape: tuple[int, ...], ranges: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_scans(np.zeros(shape, dtype=np.float32), np.zeros(ranges))


def test_refuses_an_unknown_method() -> None:
    with pytest.raises(ValueError, match="'levels' or 'ransac', not 'mean'"):
        read_scans(scans()[:1], np.zeros((1, 2)), "mean")  # type: ignore[arg-type]


def test_large_images_are_read_too() -> None:
    rng = np.random.default_rng(0)
    shape = (1024, 1024)
    tile = make.molecules((128, 128), rng, 0.2)
    plane = make.plane(shape, 2, -1)
    z = (plane + np.tile(tile, (8, 8)) + make.noise(shape, rng, 5, 1.2)).astype(np.float32)
    readings = read_scans(z[None], np.array([[np.nan, np.nan]]))
    assert readings.diagnoses == (Diagnosis.FINE,)
    true = normalise(np.tile(tile, (8, 8)))
    assert np.abs(readings.observations[0, 0] - true).mean() < 0.06
    assert readings.squares[0].side > 10
