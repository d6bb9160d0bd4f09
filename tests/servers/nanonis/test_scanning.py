"""Scans of the virtual controller: frames, lines, channels, buffers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import Refused
from tests.support.settings_pages import (
    BIAS,
    CALM,
    CURRENT,
    DOWN,
    PAUSE,
    RESUME,
    START,
    STOP,
    UP,
    CommandPanel,
    Z,
    frame,
)

NM = 1e-9


def test_lines_appear_as_time_goes_by(panel: CommandPanel) -> None:
    panel.start(frame())
    assert np.isnan(panel.grab()).all()
    panel("Scan.WaitEndOfScan", 1000)
    z = panel.grab()
    assert np.isfinite(z[:4]).all()
    assert np.isnan(z[4:]).all()
    assert panel("Scan.StatusGet") == 0
    assert np.isfinite(panel.grab()).all()


def test_an_upward_scan_begins_at_the_bottom(panel: CommandPanel) -> None:
    z = panel.scan(frame(), 0.25, UP)
    assert np.isnan(z[:48]).all()
    assert np.isfinite(z[48:]).all()
    assert panel("Scan.FrameDataGrab", Z, 1)["scan_direction"] == UP


def test_wait_for_line(panel: CommandPanel) -> None:
    panel.start(frame())
    panel("Scan.WaitEndOfLine", -1)
    reply = panel("Scan.WaitEndOfLine", -1)
    assert (reply["timed_out"], reply["last_line"]) == (0, 2)
    assert np.isfinite(panel.grab()).any(axis=1).sum() == 2
    assert panel("Scan.WaitEndOfLine", 10)["timed_out"] == 1


def test_starting_again_restarts(panel: CommandPanel) -> None:
    panel.start(frame())
    panel("Scan.WaitEndOfScan", 1000)
    panel.start(frame(50))
    assert np.isnan(panel.grab()).all()
    assert panel("Scan.WaitEndOfScan", -1) == {"timed_out": 0, "path": ""}
    assert np.isfinite(panel.grab()).all()


def test_a_pause_takes_no_lines(running: CommandPanel) -> None:
    running("Scan.Action", PAUSE, DOWN)
    before = np.isfinite(running.grab()).sum()
    assert running("Scan.WaitEndOfScan", 50)["timed_out"] == 1
    assert np.isfinite(running.grab()).sum() == before
    running("Scan.Action", RESUME, DOWN)
    assert running("Scan.StatusGet") == 1


def test_a_continuous_scan_goes_on_and_keeps_the_old_lines(panel: CommandPanel) -> None:
    panel("Scan.PropsSet", 1, 1, 0, "", "", [], 0)
    first = panel.scan(frame())
    assert panel("Scan.StatusGet") == 1
    assert np.isfinite(first).all()
    panel("Scan.WaitEndOfScan", 4000)
    second = panel.grab()
    assert np.array_equal(second[:48], first[:48])
    assert not np.array_equal(second[48:], first[48:])
    panel("Scan.Action", STOP, DOWN)
    assert panel("Scan.StatusGet") == 0


@pytest.mark.parametrize(
    ("width", "height", "pixels", "lines"), [(20, 10, 64, 32), (10, 20, 32, 64), (10, 10, 64, 48)]
)
def test_frames_that_are_not_square(
    panel: CommandPanel, width: float, height: float, pixels: int, lines: int
) -> None:
    panel("Scan.FrameSet", 0.0, 0.0, width * NM, height * NM, 0.0)
    panel("Scan.BufferSet", [Z], pixels, lines)
    panel("Scan.Action", START, DOWN)
    panel("Scan.WaitEndOfLine", -1)
    assert np.isfinite(panel.grab()).any(axis=1).sum() == 1
    panel("Scan.WaitEndOfScan", -1)
    z = panel.grab()
    assert z.shape == (lines, pixels)
    assert np.isfinite(z).all()


@pytest.mark.parametrize("direction", [DOWN, UP])
def test_a_running_preview_has_the_lines_that_are_done(panel: CommandPanel, direction: int) -> None:
    preview = replace(frame(), lines=16)
    whole = CommandPanel().scan(preview, direction=direction)
    panel.start(preview, direction)
    panel("Scan.WaitEndOfScan", 1000)  # four lines of a quarter of a second
    z = panel.grab()
    assert z.shape == (16, 64)
    done = np.isfinite(z).all(axis=1)
    assert done.tolist() == [row < 4 for row in range(16)][:: 1 if direction == DOWN else -1]
    assert np.array_equal(z[done], whole[done])
    before = panel.microscope.status().time
    panel("Scan.WaitEndOfScan", -1)
    assert panel.microscope.status().time - before == pytest.approx(12 * 0.25)
    assert np.array_equal(panel.grab(), whole)


@pytest.mark.parametrize("lines", [8, 16, 32])
def test_a_preview_is_that_of_the_simulated_microscope(panel: CommandPanel, lines: int) -> None:
    preview = replace(frame(20, -30), lines=lines)
    simulated = SimulatedMicroscope(CALM, seed=5)
    assert np.array_equal(panel.scan(preview), simulated.scan(preview).z)


def test_a_wide_frame_shows_the_middle_of_the_square_one() -> None:
    quiet = CALM.model_copy(update={"white_noise_pm": 0.0, "line_noise_pm": 0.0,
                                    "creep_fraction": 0.0, "drift_pm_per_s": 0.0})  # fmt: skip
    panel = CommandPanel(quiet)
    square = panel.scan(frame())
    panel("Scan.FrameSet", 0.0, 0.0, 10 * NM, 5 * NM, 0.0)
    panel("Scan.BufferSet", [Z], 64, 32)
    panel("Scan.Action", START, DOWN)
    panel("Scan.WaitEndOfScan", -1)
    assert np.allclose(panel.grab(), square[16:48], atol=1e-13)


def test_what_a_frame_can_be(panel: CommandPanel) -> None:
    panel("Scan.FrameSet", 1.0, -1.0, 5.0, 0.0, 12.5)
    got = panel("Scan.FrameGet")
    assert (got["centre_x"], got["centre_y"]) == (panel.microscope.reach, -panel.microscope.reach)
    assert got["width"] == 2 * panel.microscope.reach
    assert got["height"] == pytest.approx(10 * NM)
    assert got["angle"] == 12.5


@pytest.mark.parametrize(("asked", "taken"), [(64, 64), (100, 96), (1, 16), (10**6, 1024)])
def test_pixels_come_in_sixteens(panel: CommandPanel, asked: int, taken: int) -> None:
    panel("Scan.BufferSet", [Z], asked, 0)
    got = panel("Scan.BufferGet")
    assert (got["pixels"], got["lines"]) == (taken, taken)


def test_speed_and_time_of_a_line(panel: CommandPanel) -> None:
    panel("Scan.SpeedSet", 40e-9, 1.0, 9.0, 9.0, 1, 2.0)
    got = panel("Scan.SpeedGet")
    assert got["fwd_time"] == pytest.approx(0.25)
    assert got["bwd_time"] == pytest.approx(0.125)
    assert got["constant"] == 0
    panel("Scan.SpeedSet", 0.0, 0.0, 0.5, 0.0, 2, 1.0)
    assert panel("Scan.SpeedGet")["fwd_speed"] == pytest.approx(20e-9)
    panel("Scan.FrameSet", 0.0, 0.0, 20 * NM, 20 * NM, 0.0)
    assert panel("Scan.SpeedGet")["fwd_speed"] == pytest.approx(40e-9)


def test_channels(panel: CommandPanel) -> None:
    panel.scan(frame(), 0.5)
    current = panel.grab(CURRENT)
    assert np.nanmean(current) == pytest.approx(panel.microscope.setpoint, rel=0.01)
    assert np.isnan(current[32:]).all()
    assert panel("Scan.FrameDataGrab", Z, 1)["channel_name"] == "Z (m)"
    with pytest.raises(Refused, match="channel #24 is not part of the acquired selection"):
        panel.grab(BIAS)


def test_the_way_back_lags_and_has_noise_of_its_own(panel: CommandPanel) -> None:
    panel.scan(frame())
    there, back = (panel.grab(Z, direction) for direction in (1, 0))
    assert np.array_equal(back, panel.grab(Z, 0))
    lag = (there - back)[:, 2:-2]
    assert 1e-12 < lag.std() < 20e-12
    ideal = CommandPanel(
        CALM.model_copy(update={"hysteresis_fraction": 0.0, "white_noise_pm": 0.0})
    )
    there = ideal.scan(frame())
    assert np.allclose(ideal.grab(Z, 0), there, atol=1e-15)


def test_by_how_much_the_way_back_lags() -> None:
    """Where the surface is a ramp, a lag is a difference in height."""
    config = CALM.model_copy(update={
        "white_noise_pm": 0.0, "line_noise_pm": 0.0, "tilt_pm_per_nm": 1000.0,
        "molecules_per_nm2": 0.0, "terrace_nm": 1e4,
    })  # fmt: skip
    panel = CommandPanel(config)
    there = panel.scan(frame())
    difference = np.median(abs(panel.grab(Z, 0) - there), axis=0)
    slope = abs(panel.microscope.surface.slope[0])
    assert difference[32] / slope == pytest.approx(0.01 * 10 * NM, rel=0.1)
    assert difference[32] > 5 * difference[0]


def test_an_unstable_tip_does_not_do_the_same_twice(panel: CommandPanel) -> None:
    panel.microscope.set_probe(HiddenState(unstable=True))
    panel.scan(frame())
    unstable = (panel.grab(Z, 0) - panel.grab(Z, 1)).std()
    panel.microscope.set_probe(HiddenState())
    again = (panel.grab(Z, 0) - panel.grab(Z, 1)).std()
    assert again == unstable  # the image is that of the tip that took it
    panel.scan(frame(30))
    assert (panel.grab(Z, 0) - panel.grab(Z, 1)).std() < 0.5 * unstable


def test_a_live_buffer_can_be_filled_with_zeros_while_the_file_has_none(tmp_path: Path) -> None:
    panel = CommandPanel(zero_filled=True, session=tmp_path / "session")
    assert (panel.grab() == 0).all()
    z = panel.scan(frame(), 0.5)
    for data in (z, panel.grab(Z, 0), panel.grab(CURRENT)):
        assert (data[32:] == 0).all()
        assert (data[:32] != 0).all()
    panel("Scan.Save", 1, -1)
    [path] = (tmp_path / "session").iterdir()
    assert np.isnan(read_scans_of(path)[32:]).all()


def read_scans_of(path: Path) -> np.ndarray:
    nanonispy = pytest.importorskip("nanonispy2")
    return np.asarray(nanonispy.read.Scan(str(path)).signals["Z"]["forward"])
