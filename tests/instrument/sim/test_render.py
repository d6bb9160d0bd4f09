"""Image formation against closed forms."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.convolution import convolve, reach
from spm_gym.instrument.sim.dynamics import STATES, HiddenState
from spm_gym.instrument.sim.molecule import DECAY
from spm_gym.instrument.sim.probe import draw_probe
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Frame

ANGSTROM = 1e-10
PIXEL = 10e-9 / 64
MARGIN = 24
Mode = Literal["current", "linear"]
MODES: tuple[Mode, ...] = ("current", "linear")


def apexes(*rows: tuple[float, float, float, float]) -> NDArray[np.float64]:
    """Offset (pixels), height (angstrom) and width (pixels) of each apex."""
    return np.array(rows, dtype=float) * (PIXEL, PIXEL, ANGSTROM, PIXEL)


def bump(row: float, col: float, height: float = 2 * ANGSTROM) -> NDArray[np.float64]:
    y, x = np.mgrid[: 64 + 2 * MARGIN, : 64 + 2 * MARGIN] - MARGIN
    return np.asarray(height * np.exp(-((y - row) ** 2 + (x - col) ** 2) / (2 * 3.0**2)))


def image(
    surface: NDArray[np.float64],
    probe: NDArray[np.float64],
    mode: Mode = "current",
    margin: int = MARGIN,
) -> NDArray[np.float64]:
    if mode == "linear":
        return convolve(surface.astype(np.float32), probe, PIXEL, margin)
    return np.log(
        convolve(np.exp(2 * DECAY * surface).astype(np.float32), probe, PIXEL, margin)
    ) / (2 * DECAY)


def inner(surface: NDArray[np.float64]) -> NDArray[np.float64]:
    return surface[MARGIN:-MARGIN, MARGIN:-MARGIN]


NEEDLE = apexes((0, 0, 0, 0.01))


@pytest.mark.parametrize("mode", MODES)
def test_a_needle_shows_the_surface(mode: Mode) -> None:
    surface = bump(30, 34)
    np.testing.assert_allclose(image(surface, NEEDLE, mode), inner(surface), atol=0.02 * ANGSTROM)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), state=st.integers(0, STATES - 1))
def test_a_flat_surface_stays_flat_at_its_height(mode: Mode, seed: int, state: int) -> None:
    probe = draw_probe(HiddenState.of(state), np.random.default_rng(seed)).apexes
    margin = int(np.ceil(reach(probe) / PIXEL)) + 1
    flat = np.full((64 + 2 * margin,) * 2, 7.3 * ANGSTROM)
    np.testing.assert_allclose(
        image(flat, probe, mode, margin), 7.3 * ANGSTROM, atol=1e-3 * ANGSTROM
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(-5, 5), cols=st.integers(-5, 5))
def test_a_moved_surface_gives_the_moved_image(seed: int, rows: int, cols: int) -> None:
    probe = draw_probe(HiddenState.of(12), np.random.default_rng(seed)).apexes
    here, there = image(bump(32, 32), probe), image(bump(32 + rows, 32 + cols), probe)
    moved = np.roll(here, (rows, cols), axis=(0, 1))
    np.testing.assert_allclose(there[8:-8, 8:-8], moved[8:-8, 8:-8], atol=1e-14)


def test_two_equal_apexes_show_everything_twice() -> None:
    double = image(bump(32, 24), apexes((0, 0, 0, 0.3), (16, 0, 0, 0.3)))
    first, second = double[32, 24], double[32, 40]
    assert first == pytest.approx(second, abs=1e-3 * ANGSTROM)
    assert double[32, 32] < first - 1 * ANGSTROM


def test_an_offset_apex_shows_the_surface_moved_by_it_right_and_up() -> None:
    moved = image(bump(32, 32), apexes((6, 4, 0, 0.05)))
    assert np.unravel_index(moved.argmax(), moved.shape) == (28, 38)


@pytest.mark.parametrize("depth", [0.5, 1.0, 1.5])
def test_a_ghost_is_lower_by_the_height_of_its_apex(depth: float) -> None:
    tall = bump(32, 24, 5 * ANGSTROM)
    ghost = image(tall, apexes((0, 0, 0, 0.05), (20, 0, -depth, 0.05)))
    assert ghost[32, 24] - ghost[32, 44] == pytest.approx(depth * ANGSTROM, abs=0.02 * ANGSTROM)


def test_a_far_lower_apex_does_not_show() -> None:
    pair = image(bump(32, 24), apexes((0, 0, 0, 0.05), (20, 0, -4, 0.05)))
    alone = image(bump(32, 24), apexes((0, 0, 0, 0.05)))
    assert np.abs(pair - alone).max() < 0.1 * ANGSTROM


def test_small_corrugation_makes_current_mode_linear() -> None:
    probe = apexes((0, 0, 0, 1.2), (9, -5, -0.4, 0.8))
    errors = []
    for height in (1e-2 * ANGSTROM, 1e-1 * ANGSTROM):
        surface = bump(30, 30, height)
        errors.append(
            np.abs(image(surface, probe) - image(surface, probe, "linear")).max() / height
        )
    assert errors[0] < 1e-2
    assert errors[1] == pytest.approx(10 * errors[0], rel=0.1)


def test_current_mode_never_lies_below_the_linear_one() -> None:
    probe = apexes((0, 0, 0, 1.2), (9, -5, -0.4, 0.8))
    surface = bump(30, 30)
    assert (image(surface, probe) >= image(surface, probe, "linear") - 1e-16).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_blunt_apex_broadens(mode: Mode) -> None:
    sharp, blunt = (image(bump(32, 32), apexes((0, 0, 0, s)), mode) for s in (0.3, 2.5))
    half = 1 * ANGSTROM
    assert (sharp > half).sum() != (blunt > half).sum()
    assert blunt.max() < sharp.max()
    assert blunt[32, 44] > sharp[32, 44]


def test_gaussian_of_a_gaussian_has_the_added_variance() -> None:
    """A negative control of the closed form: the variance of the bump alone does not fit."""
    surface = bump(32, 32)
    blurred = image(surface, apexes((0, 0, 0, 2.0)), "linear")
    y, x = np.mgrid[:64, :64] - 32
    # Linear interpolation of the surface adds a hat function's variance of 1/6 pixel.
    added = 3.0**2 + 2.0**2 + 1 / 6
    closed = 2 * ANGSTROM * 9 / added * np.exp(-(x**2 + y**2) / (2 * added))
    np.testing.assert_allclose(blurred, closed, atol=2e-4 * ANGSTROM)
    assert np.abs(blurred - inner(surface)).max() > 0.5 * ANGSTROM


def test_reach_covers_offset_and_width() -> None:
    assert reach(apexes((3, -8, 0, 1))) == pytest.approx((8 + 4) * PIXEL)


def test_noise_has_the_configured_strength() -> None:
    bare = {"molecules_per_nm2": 1e-6, "terrace_nm": 1e6, "rough_fraction": 0, "tilt_pm_per_nm": 0}
    microscope = SimulatedMicroscope(SimulatorConfig(**bare))
    noise = microscope.scan(Frame(0, 0, 10e-9, 400)).z.astype(float)
    lines = noise.mean(axis=1)
    assert (noise - lines[:, None]).std() == pytest.approx(2e-12, rel=0.02)
    assert lines.std() == pytest.approx(1.2e-12, rel=0.15)


def test_weights_of_the_decay() -> None:
    """One angstrom of distance costs a factor e squared of current."""
    assert np.exp(2 * DECAY * ANGSTROM) == pytest.approx(np.e**2)
