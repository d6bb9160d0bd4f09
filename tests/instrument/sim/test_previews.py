"""A preview is every k-th line of a full scan, over the whole frame, in a k-th of the time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.config import SimulatorConfig
from spm_gym.errors import InstrumentError, LimitExceeded
from spm_gym.instrument.sim.dynamics import HiddenState, Shape
from spm_gym.instrument.sim.piezo import shift_of_lines
from spm_gym.instrument.sim.running_scan import Course, change_probability
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Frame

NM = 1e-9
CALM = SimulatorConfig(tip_change_rate=0, contact_loss_rate=0, crash_rate=0, rough_fraction=0)
STILL: dict[str, Any] = {
    "white_noise_pm": 0.0,
    "line_noise_pm": 0.0,
    "creep_fraction": 0.0,
    "drift_pm_per_s": 0.0,
}
FULL = Frame(30 * NM, -20 * NM, 10 * NM, 64, 0.3)
PREVIEW = replace(FULL, lines=16)
GOOD = HiddenState()


def microscope(state: HiddenState = GOOD, **changes: Any) -> SimulatedMicroscope:
    made = SimulatedMicroscope(CALM.model_copy(update=changes), seed=3)
    made.set_probe(state)
    return made


def divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]


def test_a_frame_has_as_many_lines_as_pixels_unless_it_names_them() -> None:
    assert FULL.lines == FULL.pixels == 64
    assert replace(FULL, lines=64) == FULL != PREVIEW
    assert (PREVIEW.shape, PREVIEW.line_step, PREVIEW.pixel) == ((16, 64), 4, FULL.pixel)


@given(pixels=st.integers(1, 300), angle=st.floats(-4, 4), data=st.data())
def test_the_lines_of_a_preview_lie_on_lines_of_the_full_scan(
    pixels: int, angle: float, data: st.DataObject
) -> None:
    lines = data.draw(st.sampled_from(divisors(pixels)))
    full = Frame(30 * NM, -20 * NM, 10 * NM, pixels, angle)
    preview = replace(full, lines=lines)
    rows = range(pixels)[preview.rows]
    assert len(rows) == lines
    for line, row in enumerate(rows):
        assert preview.position(line, 5) == full.position(row, 5)
    assert preview.corners == full.corners
    # The line stands for a strip of the frame: above it lies as much as below, but for a pixel.
    assert 0 <= rows[0] - (pixels - 1 - rows[-1]) <= 1


@pytest.mark.parametrize("upward", [False, True])
@pytest.mark.parametrize("lines", [1, 8, 16, 32, 64])
@pytest.mark.parametrize(
    "state",
    [GOOD, HiddenState(Shape.DOUBLE), HiddenState(Shape.MULTIPLE, contaminated=True)],
    ids=["good", "double", "contaminated"],
)
def test_a_preview_is_every_kth_line_in_a_still_noiseless_world(
    state: HiddenState, lines: int, upward: bool
) -> None:
    frame = replace(FULL, lines=lines)
    images = []
    for each in (FULL, frame):
        running = microscope(state, **STILL).begin_scan(each, upward)
        running.advance(each.lines)
        images.append(running.scan().z)
    whole, preview = images
    assert preview.shape == (lines, 64)
    assert preview.dtype == np.float32
    assert np.array_equal(preview, whole[frame.rows])


def test_a_partial_preview_has_its_first_lines() -> None:
    whole, part = microscope(**STILL).scan(PREVIEW), microscope(**STILL).scan(PREVIEW, 0.25)
    assert np.isnan(part.z[4:]).all()
    assert np.array_equal(part.z[:4], whole.z[:4])


@pytest.mark.parametrize("lines", [8, 16, 32, 64])
def test_the_time_of_a_scan_goes_by_its_lines(lines: int) -> None:
    here = microscope()
    here.move_to(FULL.x, FULL.y)
    before = here.status().time
    here.scan(replace(FULL, lines=lines))
    # Forward and backward over 10 nm at 80 nm/s.
    assert here.status().time - before == pytest.approx(lines * 2 * 10 / 80)


def test_settling_on_a_preview_does_all_that_its_scan_does() -> None:
    settled, scanned = microscope(), microscope()
    settled.settle(PREVIEW, 1.0)
    scanned.scan(PREVIEW)
    assert settled.status() == scanned.status()
    assert np.array_equal(settled.scan(FULL).z, scanned.scan(FULL).z)


def test_creep_and_drift_go_by_time_not_by_place() -> None:
    # The fourth line of a preview comes as early as that of a full scan, and is as far off.
    moved, config = (20 * NM, -10 * NM, 0.0), SimulatorConfig()
    full, preview = (
        shift_of_lines(Course(frame, 0.25, False, 1.0), moved, config) for frame in (FULL, PREVIEW)
    )
    assert np.array_equal(preview, full[:16])
    assert len(np.unique(preview[:, 0])) == 16


@pytest.mark.parametrize("rate", ["contact_loss_rate", "crash_rate"])
def test_a_preview_of_a_quarter_of_the_lines_risks_a_quarter(rate: str) -> None:
    here = microscope(**{rate: 1.0})
    happened = 0
    for _ in range(400):
        here.settle(PREVIEW, 1.0)
        happened += bool(here.fault)
        here.withdraw()
        here.approach()
    assert 65 < happened < 135  # four standard deviations


def test_the_tip_changes_by_itself_in_a_quarter_of_the_lines_a_quarter_as_often() -> None:
    world = CALM.model_copy(update={"tip_change_rate": 0.4})
    assert change_probability(world, 4.0, 1.0, 25e-12, share=0.25) == pytest.approx(0.1)


def test_a_rate_by_time_is_counted_by_the_time_of_the_preview() -> None:
    world = CALM.model_copy(update={"tip_change_per_s": 1e-3, "tip_change_rate": 0.01})
    quarter = change_probability(world, 4.0, 1.0, 25e-12, share=0.25)
    whole = change_probability(world, 16.0, 1.0, 25e-12)
    assert 1 - whole == pytest.approx((1 - quarter) ** 4, rel=1e-4)


def test_a_fault_in_mid_preview_leaves_the_lines_before_it() -> None:
    here = microscope(**STILL)
    whole = microscope(**STILL).scan(PREVIEW).z
    running = here.begin_scan(PREVIEW)
    running.advance(9, render_ahead=True)
    here.inject("lost contact")
    running.advance(16)
    z = running.scan().z
    assert np.array_equal(z[:9], whole[:9])
    assert z[9:].max() == pytest.approx(here.z_range[0])
    assert running.finished


@given(pixels=st.integers(1, 100), lines=st.integers(-5, 300))
def test_lines_that_do_not_divide_the_pixels_are_refused(pixels: int, lines: int) -> None:
    here, frame = MICROSCOPE, Frame(0, 0, 10 * NM, pixels, lines=lines)
    before = here.status()
    if lines < 1:
        with pytest.raises(LimitExceeded, match=f"{lines} lines are refused"):
            here.settle(frame, 0)
    elif pixels % lines:
        with pytest.raises(ValueError, match=f"must divide its pixels: {lines} lines of {pixels}"):
            here.settle(frame, 0)
    else:
        here.settle(frame, 0)
    assert here.status() == before


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 16.0, True, "16", (16,)])
def test_lines_that_are_no_integer_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="the frame's lines must be an integer, not"):
        MICROSCOPE.scan(Frame(0, 0, 10 * NM, 64, lines=wrong))


def test_no_more_lines_than_the_preview_has_can_be_recorded() -> None:
    running = microscope().begin_scan(PREVIEW)
    with pytest.raises(ValueError, match="has 16 lines, not 17"):
        running.advance(17)
    here = microscope()
    here.begin_scan(PREVIEW)
    here.withdraw()
    with pytest.raises(InstrumentError, match="withdrawn"):
        here.scan(PREVIEW)


MICROSCOPE = SimulatedMicroscope(CALM)
