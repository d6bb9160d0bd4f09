"""The rows between the lines of a preview are interpolated before it is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.imaging import interpolate_lines
from spm_gym.types import Frame

PIXELS = 64


def rows_of(lines: int) -> slice:
    return Frame(0.0, 0.0, 1e-8, PIXELS, lines=lines).rows


@given(lines=st.sampled_from([1, 2, 4, 8, 16, 32, 64]), seed=st.integers(0, 99))
def test_every_line_stays_in_its_row_and_the_others_lie_between_their_neighbours(
    lines: int, seed: int
) -> None:
    z = np.random.default_rng(seed).normal(1e-7, 1e-10, (lines, PIXELS)).astype(np.float32)
    image = interpolate_lines(z, PIXELS)
    assert image.shape == (PIXELS, PIXELS)
    assert image.dtype == np.float32
    rows = rows_of(lines)
    assert np.array_equal(image[rows], z)
    assert np.array_equal(image[: rows.start], z[:1].repeat(rows.start, axis=0))
    after = len(image) - rows.start - rows.step * (lines - 1)
    assert np.array_equal(image[-after:], z[-1:].repeat(after, axis=0))
    for above, below, row in zip(z, z[1:], range(rows.start, PIXELS, rows.step), strict=False):
        between = image[row : row + rows.step + 1]
        assert (between >= np.minimum(above, below) - 1e-14).all()
        assert (between <= np.maximum(above, below) + 1e-14).all()


@pytest.mark.parametrize("lines", [8, 16, 32])
def test_a_tilted_plane_stays_one(lines: int) -> None:
    plane = np.linspace(0, 1e-9, PIXELS)[:, None] + np.linspace(0, 5e-10, PIXELS)
    rows = rows_of(lines)
    image = interpolate_lines(plane[rows].astype(np.float32), PIXELS)
    inner = slice(rows.start, PIXELS - rows.step)
    assert image[inner] == pytest.approx(plane[inner], abs=1e-15)


def test_lines_that_were_not_scanned_stay_so_and_leave_the_others_alone() -> None:
    z = np.zeros((16, PIXELS), np.float32)
    z[5], z[12:] = np.nan, np.nan
    image = interpolate_lines(z, PIXELS)
    scanned = np.isfinite(image).all(axis=1)
    rows = np.arange(PIXELS)[rows_of(16)]
    assert np.array_equal(scanned[rows], np.isfinite(z[:, 0]))
    # Nothing is known of what lies between a line and one that is missing.
    assert not scanned[rows[4] + 1 : rows[6]].any()
    assert not scanned[rows[11] + 1 :].any()
    assert scanned[: rows[4] + 1].all()


def test_infinite_heights_are_not_scanned_either() -> None:
    z = np.zeros((16, PIXELS), np.float32)
    z[3], z[8], z[9] = np.inf, 3e38, -3e38
    image = interpolate_lines(z, PIXELS)
    assert not np.isfinite(image[rows_of(16)][3]).any()
    assert np.isfinite(image[rows_of(16)][[2, 4]]).all()


def test_many_at_a_time_are_each_of_them() -> None:
    z = np.random.default_rng(0).normal(size=(3, 16, PIXELS)).astype(np.float32)
    for image, lines in zip(interpolate_lines(z, PIXELS), z, strict=True):
        assert np.array_equal(image, interpolate_lines(lines, PIXELS))


@pytest.mark.parametrize("lines", [0, 3, 65])
def test_lines_that_do_not_divide_the_rows_are_refused(lines: int) -> None:
    with pytest.raises(ValueError, match="must divide"):
        interpolate_lines(np.zeros((lines, PIXELS), np.float32), PIXELS)
