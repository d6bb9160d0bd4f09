"""Image formation against closed forms."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.convolution import convolve, reach
from spm_gym.instrument.sim.dynamics import STATES, HiddenState
from spm_gym.instrument.sim.molecule import DECAY, template
from spm_gym.instrument.sim.probe import Probe, draw_probe, si
from spm_gym.instrument.sim.render import View, scan_lines
from spm_gym.instrument.sim.scene import STEP_HEIGHT
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.instrument.sim.surface import Surface
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


def at_a_step(
    mode: Mode | float, start: int = 0, stop: int = 64, mark: float = 0.0
) -> NDArray[np.float64]:
    """Lines without noise across a step, by two equal apexes that are 12 pixels apart."""
    bare = SimulatorConfig(
        mode=mode, molecules_per_nm2=1e-6, rough_fraction=0, white_noise_pm=0, line_noise_pm=0
    )
    sample = Surface(bare, 100e-9, np.random.SeedSequence(0)).ground
    # The upper terrace begins at y = 0, half way up the frame.
    ground = sample._replace(
        cos=0.0, sin=1.0, steps=np.zeros(1), wave=(0.0, 1e-9, 0.0),
        marks=np.array([[3e-9, 3e-9, 0.5e-9, mark]]),
    )  # fmt: skip
    probe = Probe(apexes((0, 0, 0, 0.3), (0, 12, 0, 0.3)), si([]))
    still, level = np.zeros((64, 2)), np.zeros(2)
    view = View(0.0, 0.0, 0.0, PIXEL, 64, start, stop, still, 0.0, level)
    away, words = np.zeros((stop - start, 64), bool), np.zeros((stop - start, 65), np.uint64)
    return scan_lines(ground, view, probe, template("lumo"), bare, away, words)


@pytest.mark.parametrize("power", [1.01, 3.0, 20.0])
def test_half_of_a_probe_at_a_step_shows_the_mean_of_the_powers(power: float) -> None:
    z = at_a_step(power)[:, 32] / ANGSTROM
    step = STEP_HEIGHT / ANGSTROM
    expected = ((1 + (1 + step) ** power) / 2) ** (1 / power) - 1
    assert z[5] - z[60] == pytest.approx(step, abs=1e-3)
    assert z[26] - z[60] == pytest.approx(expected, abs=1e-3)
    # The mean of the heights would be half of the step.
    assert expected > step / 2 + 2e-3


def test_lines_are_the_same_alone_and_as_part_of_a_frame_with_a_step() -> None:
    # A hill on the upper terrace: some lines do not reach down to the lower one.
    whole = at_a_step(4.0, mark=2 * ANGSTROM)
    for lines in (slice(0, 3), slice(20, 40), slice(63, 64)):
        part = at_a_step(4.0, lines.start, lines.stop, mark=2 * ANGSTROM)
        np.testing.assert_allclose(part, whole[lines], atol=1e-5 * ANGSTROM)


def test_a_pit_too_deep_for_the_powers_has_a_bottom() -> None:
    shallow, deep = (at_a_step(20.0, mark=height) for height in (-1e-9, -20e-9))
    assert np.isfinite(deep).all()
    assert shallow.min() > deep.min() > -4.5e-9
    flat = slice(0, 12), slice(0, 12)
    np.testing.assert_allclose(deep[flat], at_a_step(20.0)[flat], atol=1e-3 * ANGSTROM)


@pytest.mark.parametrize("state", [0, 4, 8, 12])
def test_the_higher_the_power_the_higher_the_image(state: int) -> None:
    still = {"white_noise_pm": 0, "line_noise_pm": 0, "tip_change_rate": 0}

    def scan(mode: Mode | float) -> NDArray[np.float32]:
        microscope = SimulatedMicroscope(SimulatorConfig(**still, mode=mode), 850, 3)
        microscope.set_probe(HiddenState.of(state))
        return microscope.scan(Frame(0, 0, 10e-9, 64)).z

    images = [scan(mode) for mode in ("linear", 1 + 1e-4, 2.0, 8.0)]
    assert np.abs(images[1] - images[0]).max() < 1e-3 * ANGSTROM
    for lower, higher in itertools.pairwise(images[1:]):
        assert (higher >= lower - 1e-4 * ANGSTROM).all()
        assert (higher - lower).max() > 0.03 * ANGSTROM


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
