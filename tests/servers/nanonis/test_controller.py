"""The virtual controller, without sockets, does to its microscope what a controller would."""

from __future__ import annotations

import math
import re
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.nanonis.commands import RELEASES, Field, commands
from spm_gym.instrument.nanonis.wire import HEADER_SIZE, decode_reply, encode_reply
from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.instrument.sim.piezo import CREEP_OVER_S
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.autosave import dated
from spm_gym.servers.nanonis.controller import ClientGone, Refused
from spm_gym.servers.nanonis.session import plain_name
from spm_gym.types import Dip, Frame, Pulse
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
    X_PLUS,
    Z_MINUS,
    Z_PLUS,
    Told,
    Z,
)

NM = 1e-9
HECTIC = SimulatorConfig(tip_change_rate=0.5)


def frame(x: float = 0.0, y: float = 0.0, pixels: int = 64, angle: float = 0.0) -> Frame:
    return Frame(x * NM, y * NM, 10 * NM, pixels, angle)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def running() -> Told:
    """With a clock that runs, and a scan of 160 s on its way."""
    told = Told(time_scale=1.0)
    told("Scan.SpeedSet", 8e-9, 8e-9, 1.0, 1.0, 1, 1.0)
    told.start(frame())
    return told


# What arrives is what the simulator does


def test_scans_and_acts_equal_those_of_the_simulator_bit_for_bit() -> None:
    told, alone = Told(HECTIC), SimulatedMicroscope(HECTIC, seed=5)
    one, other = frame(20, -31, angle=0.3), frame(-200.1, 77, pixels=32)
    for each in (one, one, other):
        for fraction in (0.25, 1.0):
            assert np.array_equal(
                told.scan(each, fraction), alone.scan(each, fraction).z, equal_nan=True
            )
        x, y = each.x + 1.23 * NM, each.y
        told("FolMe.XYPosSet", x, y, 1)
        told.dip(1.8 * NM)
        alone.condition(Dip(1.8 * NM), x, y)
        told("Bias.Pulse", 1, 0.1, -4.0, 1, 2)
        alone.condition(Pulse(-4.0, 0.1), x, y)
    told.shift()
    alone.withdraw()
    alone.shift_area(1, 0)
    alone.approach()
    alone.wait(CREEP_OVER_S)  # a clock that stands still cannot be waited on: it waits by itself
    assert np.array_equal(told.scan(one), alone.scan(one).z)
    assert told.microscope.truth == alone.truth
    assert told.microscope.status() == alone.status()


def test_how_often_one_waits_does_not_matter() -> None:
    once, often = Told(HECTIC), Told(HECTIC)
    whole = once.scan(frame())
    often.start(frame())
    while often("Scan.WaitEndOfScan", 700)["timed_out"]:
        pass
    assert np.array_equal(often.grab(), whole)
    assert often.microscope.status() == once.microscope.status()


def test_lines_appear_as_time_goes_by(told: Told) -> None:
    told.start(frame())
    assert np.isnan(told.grab()).all()
    told("Scan.WaitEndOfScan", 1000)
    z = told.grab()
    assert np.isfinite(z[:4]).all()
    assert np.isnan(z[4:]).all()
    assert told("Scan.StatusGet") == 0
    assert np.isfinite(told.grab()).all()


def test_an_upward_scan_begins_at_the_bottom(told: Told) -> None:
    z = told.scan(frame(), 0.25, UP)
    assert np.isnan(z[:48]).all()
    assert np.isfinite(z[48:]).all()
    assert told("Scan.FrameDataGrab", Z, 1)["scan_direction"] == UP


def test_wait_for_line(told: Told) -> None:
    told.start(frame())
    told("Scan.WaitEndOfLine", -1)
    reply = told("Scan.WaitEndOfLine", -1)
    assert (reply["timed_out"], reply["last_line"]) == (0, 2)
    assert np.isfinite(told.grab()).any(axis=1).sum() == 2
    assert told("Scan.WaitEndOfLine", 10)["timed_out"] == 1


def test_starting_again_restarts(told: Told) -> None:
    told.start(frame())
    told("Scan.WaitEndOfScan", 1000)
    told.start(frame(50))
    assert np.isnan(told.grab()).all()
    assert told("Scan.WaitEndOfScan", -1) == {"timed_out": 0, "path": ""}
    assert np.isfinite(told.grab()).all()


def test_a_pause_takes_no_lines(running: Told) -> None:
    running("Scan.Action", PAUSE, DOWN)
    before = np.isfinite(running.grab()).sum()
    assert running("Scan.WaitEndOfScan", 50)["timed_out"] == 1
    assert np.isfinite(running.grab()).sum() == before
    running("Scan.Action", RESUME, DOWN)
    assert running("Scan.StatusGet") == 1


def test_a_continuous_scan_goes_on_and_keeps_the_old_lines(told: Told) -> None:
    told("Scan.PropsSet", 1, 1, 0, "", "", [], 0)
    first = told.scan(frame())
    assert told("Scan.StatusGet") == 1
    assert np.isfinite(first).all()
    told("Scan.WaitEndOfScan", 4000)
    second = told.grab()
    assert np.array_equal(second[:48], first[:48])
    assert not np.array_equal(second[48:], first[48:])
    told("Scan.Action", STOP, DOWN)
    assert told("Scan.StatusGet") == 0


@pytest.mark.parametrize(
    ("width", "height", "pixels", "lines"), [(20, 10, 64, 32), (10, 20, 32, 64), (10, 10, 64, 48)]
)
def test_frames_that_are_not_square(
    told: Told, width: float, height: float, pixels: int, lines: int
) -> None:
    told("Scan.FrameSet", 0.0, 0.0, width * NM, height * NM, 0.0)
    told("Scan.BufferSet", [Z], pixels, lines)
    told("Scan.Action", START, DOWN)
    told("Scan.WaitEndOfLine", -1)
    assert np.isfinite(told.grab()).any(axis=1).sum() == 1
    told("Scan.WaitEndOfScan", -1)
    z = told.grab()
    assert z.shape == (lines, pixels)
    assert np.isfinite(z).all()


def test_a_wide_frame_shows_the_middle_of_the_square_one() -> None:
    quiet = CALM.model_copy(update={"white_noise_pm": 0.0, "line_noise_pm": 0.0,
                                    "creep_fraction": 0.0, "drift_pm_per_s": 0.0})  # fmt: skip
    told = Told(quiet)
    square = told.scan(frame())
    told("Scan.FrameSet", 0.0, 0.0, 10 * NM, 5 * NM, 0.0)
    told("Scan.BufferSet", [Z], 64, 32)
    told("Scan.Action", START, DOWN)
    told("Scan.WaitEndOfScan", -1)
    assert np.allclose(told.grab(), square[16:48], atol=1e-13)


def test_what_a_frame_can_be(told: Told) -> None:
    told("Scan.FrameSet", 1.0, -1.0, 5.0, 0.0, 12.5)
    got = told("Scan.FrameGet")
    assert (got["centre_x"], got["centre_y"]) == (told.microscope.reach, -told.microscope.reach)
    assert got["width"] == 2 * told.microscope.reach
    assert got["height"] == pytest.approx(10 * NM)
    assert got["angle"] == 12.5


@pytest.mark.parametrize(("asked", "taken"), [(64, 64), (100, 96), (1, 16), (10**6, 1024)])
def test_pixels_come_in_sixteens(told: Told, asked: int, taken: int) -> None:
    told("Scan.BufferSet", [Z], asked, 0)
    got = told("Scan.BufferGet")
    assert (got["pixels"], got["lines"]) == (taken, taken)


def test_speed_and_time_of_a_line(told: Told) -> None:
    told("Scan.SpeedSet", 40e-9, 1.0, 9.0, 9.0, 1, 2.0)
    got = told("Scan.SpeedGet")
    assert got["fwd_time"] == pytest.approx(0.25)
    assert got["bwd_time"] == pytest.approx(0.125)
    assert got["constant"] == 0
    told("Scan.SpeedSet", 0.0, 0.0, 0.5, 0.0, 2, 1.0)
    assert told("Scan.SpeedGet")["fwd_speed"] == pytest.approx(20e-9)
    told("Scan.FrameSet", 0.0, 0.0, 20 * NM, 20 * NM, 0.0)
    assert told("Scan.SpeedGet")["fwd_speed"] == pytest.approx(40e-9)


def test_channels(told: Told) -> None:
    told.scan(frame(), 0.5)
    current = told.grab(CURRENT)
    assert np.nanmean(current) == pytest.approx(told.microscope.setpoint, rel=0.01)
    assert np.isnan(current[32:]).all()
    assert told("Scan.FrameDataGrab", Z, 1)["channel_name"] == "Z (m)"
    with pytest.raises(Refused, match="channel #24 is not part of the acquired selection"):
        told.grab(BIAS)


def test_the_way_back_lags_and_has_noise_of_its_own(told: Told) -> None:
    told.scan(frame())
    there, back = (told.grab(Z, direction) for direction in (1, 0))
    assert np.array_equal(back, told.grab(Z, 0))
    lag = (there - back)[:, 2:-2]
    assert 1e-12 < lag.std() < 20e-12
    ideal = Told(CALM.model_copy(update={"hysteresis_fraction": 0.0, "white_noise_pm": 0.0}))
    there = ideal.scan(frame())
    assert np.allclose(ideal.grab(Z, 0), there, atol=1e-15)


def test_by_how_much_the_way_back_lags() -> None:
    """Where the surface is a ramp, a lag is a difference in height."""
    config = CALM.model_copy(update={
        "white_noise_pm": 0.0, "line_noise_pm": 0.0, "tilt_pm_per_nm": 1000.0,
        "molecules_per_nm2": 0.0, "terrace_nm": 1e4,
    })  # fmt: skip
    told = Told(config)
    there = told.scan(frame())
    difference = np.median(abs(told.grab(Z, 0) - there), axis=0)
    slope = abs(told.microscope.surface.slope[0])
    assert difference[32] / slope == pytest.approx(0.01 * 10 * NM, rel=0.1)
    assert difference[32] > 5 * difference[0]


def test_an_unstable_tip_does_not_do_the_same_twice(told: Told) -> None:
    told.microscope.set_probe(HiddenState(unstable=True))
    told.scan(frame())
    unstable = (told.grab(Z, 0) - told.grab(Z, 1)).std()
    told.microscope.set_probe(HiddenState())
    again = (told.grab(Z, 0) - told.grab(Z, 1)).std()
    assert again == unstable  # the image is that of the tip that took it
    told.scan(frame(30))
    assert (told.grab(Z, 0) - told.grab(Z, 1)).std() < 0.5 * unstable


def test_a_live_buffer_can_be_filled_with_zeros_while_the_file_has_none(tmp_path: Path) -> None:
    told = Told(zero_filled=True, session=tmp_path / "session")
    assert (told.grab() == 0).all()
    z = told.scan(frame(), 0.5)
    for data in (z, told.grab(Z, 0), told.grab(CURRENT)):
        assert (data[32:] == 0).all()
        assert (data[:32] != 0).all()
    told("Scan.Save", 1, -1)
    [path] = (tmp_path / "session").iterdir()
    assert np.isnan(read_scans_of(path)[32:]).all()


def read_scans_of(path: Path) -> np.ndarray:
    nanonispy = pytest.importorskip("nanonispy2")
    return np.asarray(nanonispy.read.Scan(str(path)).signals["Z"]["forward"])


def test_a_module_that_is_not_running_refuses_until_it_is_opened() -> None:
    told = Told(without=["tipshaper", "ZSpectr", "Osci1T"])
    with pytest.raises(Refused, match="Cannot access the TipShaper module, make sure it is run"):
        told("TipShaper.PropsGet")
    for opening, asking in (("ZSpectr.Open", "ZSpectr.RangeGet"), ("Osci1T.Run", "Osci1T.ChGet")):
        with pytest.raises(Refused, match="make sure it is running"):
            told(asking)
        told(opening)
        told(asking)
    told("Bias.Set", 0.5)
    assert ("TipShaper.PropsGet", {}) not in told.controller.executed
    with pytest.raises(ValueError, match="there is no module 'Tip' in release R14718; there are A"):
        Told(without=["Tip"])


def test_names_of_signals(told: Told) -> None:
    names = told("Signals.NamesGet")
    assert [names[i] for i in (CURRENT, BIAS, Z)] == ["Current (A)", "Bias (V)", "Z (m)"]
    assert len(set(names)) == 128
    old = Told(release=10862)
    slots = old("Signals.InSlotsGet")
    assert slots["names"][14] == "Z (m)"
    assert slots["rt_indexes"][14] == Z
    old("Scan.BufferSet", [14], 16, 16)
    assert old("Scan.FrameDataGrab", 14, 1)["channel_name"] == "Z (m)"


def test_values_of_signals_agree_with_the_state(told: Told) -> None:
    told("Bias.Set", 0.5)
    told("ZCtrl.SetpntSet", 5e-11)
    told("FolMe.XYPosSet", 3 * NM, -4 * NM, 1)
    values = told("Signals.ValsGet", [CURRENT, BIAS, 26, 27, Z], 1)["values"]
    assert values == pytest.approx([5e-11, 0.5, 3 * NM, -4 * NM, told("ZCtrl.ZPosGet")])
    assert told.microscope.bias == 0.5
    assert told.microscope.setpoint == pytest.approx(5e-11)


# Feedback and z


def test_withdraw_and_come_back(told: Told) -> None:
    surface = told("ZCtrl.ZPosGet")
    told("ZCtrl.Withdraw", 1, -1)
    assert told("ZCtrl.ZPosGet") == told("ZCtrl.LimitsGet")["high"]
    assert told("Current.Get") == 0
    assert told("ZCtrl.StatusGet") == 1
    assert not told.microscope.status().approached
    told("ZCtrl.OnOffSet", 1)
    assert told("ZCtrl.ZPosGet") == pytest.approx(surface)
    assert told("ZCtrl.StatusGet") == 2
    assert told("Current.Get") == told.microscope.setpoint


def test_a_withdrawal_takes_its_time_and_may_be_waited_for() -> None:
    told = Told(time_scale=1.0)
    told("ZCtrl.WithdrawRateSet", 1e-9)
    told("ZCtrl.Withdraw", 1, 3)
    assert told("ZCtrl.StatusGet") == 6
    assert told("ZCtrl.ZPosGet") < told("ZCtrl.LimitsGet")["high"]
    told("ZCtrl.WithdrawRateSet", 1e-3)
    told("ZCtrl.Withdraw", 1, -1)
    assert told("ZCtrl.StatusGet") == 1
    assert told("ZCtrl.ZPosGet") == told("ZCtrl.LimitsGet")["high"]


def test_after_a_coarse_retraction_only_an_approach_finds_the_surface(told: Told) -> None:
    told("ZCtrl.Withdraw", 1, -1)
    told("Motor.StartMove", Z_PLUS, 20, 0, 1)
    told("ZCtrl.OnOffSet", 1)
    assert told("ZCtrl.ZPosGet") == told("ZCtrl.LimitsGet")["low"]
    assert told("Current.Get") == 0
    told.approach()
    assert told("Current.Get") == told.microscope.setpoint
    assert told("ZCtrl.StatusGet") == 2


def test_switching_the_loop_off_holds_and_lifts(told: Told) -> None:
    surface = told("ZCtrl.ZPosGet")
    told("ZCtrl.ZPosSet", 0.0)
    assert told("ZCtrl.ZPosGet") == surface
    told("ZCtrl.TipLiftSet", 2e-9)
    told("ZCtrl.OnOffSet", 0)
    assert told("ZCtrl.ZPosGet") == pytest.approx(surface + 2 * NM)
    assert told("Current.Get") < 1e-3 * told.microscope.setpoint
    told("ZCtrl.ZPosSet", 0.0)
    assert told("ZCtrl.ZPosGet") == 0
    told("ZCtrl.ZPosSet", 1.0)
    assert told("ZCtrl.ZPosGet") == told("ZCtrl.LimitsGet")["high"]


def test_the_switch_off_delay_passes_before_the_loop_is_off() -> None:
    told = Told(time_scale=1.0)
    told("ZCtrl.SwitchOffDelaySet", 1000.0)
    told("ZCtrl.OnOffSet", 0)
    assert told("ZCtrl.OnOffGet") == 1
    assert told("ZCtrl.StatusGet") == 4


def test_pressing_the_tip_in_is_one_dip_for_each_descent(told: Told) -> None:
    before = told.scan(frame())
    told("ZCtrl.OnOffSet", 0)
    surface = told("ZCtrl.ZPosGet")
    for depth in (1.0, 2.0, 3.0):
        told("ZCtrl.ZPosSet", surface - depth * NM)
    told("ZCtrl.OnOffSet", 1)
    again = SimulatedMicroscope(CALM, seed=5)
    again.scan(frame())
    again.condition(Dip(told("ZCtrl.ZPosGet") - (surface - 3 * NM), again.bias), 0, 0)
    after = told.scan(frame())
    assert np.abs(after - before).max() > 0.3 * NM
    assert told.microscope.truth == again.truth
    assert np.allclose(after, again.scan(frame()).z, atol=1e-13)


def test_moving_z_above_the_surface_is_no_dip(told: Told) -> None:
    before = told.microscope.get_state()["fate"]
    told("ZCtrl.OnOffSet", 0)
    told("ZCtrl.ZPosSet", told("ZCtrl.ZPosGet") + 5 * NM)
    told("ZCtrl.OnOffSet", 1)
    assert told.microscope.get_state()["fate"] == before


def test_limits_count_when_enabled(told: Told) -> None:
    told("ZCtrl.LimitsSet", 1e-8, -1e-8)
    assert told("ZCtrl.LimitsGet") == pytest.approx({"low": -1.5e-7, "high": 1.5e-7})
    told("ZCtrl.LimitsEnabledSet", 1)
    told("ZCtrl.LimitsSet", 5e-8, -1.4e-7)
    told("ZCtrl.Withdraw", 1, -1)
    assert told("ZCtrl.ZPosGet") == pytest.approx(5e-8)
    with pytest.raises(Refused, match="not above the lower limit"):
        told("ZCtrl.LimitsSet", 0.0, 1e-8)


def test_home(told: Told) -> None:
    told("ZCtrl.HomePropsSet", 1, 1e-8)
    assert told("ZCtrl.HomePropsGet")["mode"] == 0
    told("ZCtrl.Home")
    assert told("ZCtrl.ZPosGet") == pytest.approx(1e-8)
    told("ZCtrl.HomePropsSet", 2, 2e-8)
    told("ZCtrl.Home")
    assert told("ZCtrl.ZPosGet") == pytest.approx(3e-8)


def test_a_scan_of_a_withdrawn_tip_shows_its_height_and_nothing_else(told: Told) -> None:
    told("ZCtrl.Withdraw", 1, -1)
    z = told.scan(frame())
    assert (z == np.float32(told("ZCtrl.ZPosGet"))).all()
    assert np.abs(told.grab(CURRENT)).max() == 0


def test_withdrawn_in_the_middle_of_a_scan(told: Told) -> None:
    told.start(frame())
    told("Scan.WaitEndOfScan", 8000)
    told("ZCtrl.Withdraw", 1, -1)
    told("Scan.WaitEndOfScan", -1)
    z, top = told.grab(), np.float32(told("ZCtrl.ZPosGet"))
    assert (z[:32] < top).all()
    assert (z[33:] == top).all()


def test_safe_tip_trips_on_a_crash_and_pauses_the_scan(told: Told) -> None:
    told("SafeTip.PropsSet", 0, 1, 1e-8)
    told("SafeTip.OnOffSet", 1)
    assert told("SafeTip.OnOffGet") == 1
    told.start(frame())
    assert told("ZCtrl.StatusGet") == 2
    told.controller.inject("crash")
    assert told("SafeTip.SignalGet") == pytest.approx(1e-7)
    assert told("ZCtrl.StatusGet") == 5
    assert told("Current.Get") == 0
    assert told("Scan.WaitEndOfLine", 10_000)["timed_out"] == 1
    told.approach()
    assert told("ZCtrl.StatusGet") == 2


def test_without_safe_tip_a_crash_stays() -> None:
    told = Told()
    told.controller.inject("crash")
    assert told("Current.Get") == pytest.approx(1e-7)
    assert told("ZCtrl.ZPosGet") == told("ZCtrl.LimitsGet")["high"]
    told.approach()
    assert told.microscope.fault == "crash"
    told("ZCtrl.Withdraw", 1, -1)
    told.approach()
    assert told("Current.Get") == told.microscope.setpoint


# Acts


def test_a_dip_leaves_an_imprint(told: Told) -> None:
    before = told.scan(frame())
    told.dip(3 * NM)
    after = told.scan(frame())
    changed = np.abs(after - before)
    assert changed[24:40, 24:40].max() > 0.5 * NM


def test_the_shaper_is_not_refused_but_does_nothing_out_of_contact(told: Told) -> None:
    told.controller.inject("lost contact")
    before = told.microscope.get_state()["fate"]
    told.dip(3 * NM)
    told("Bias.Pulse", 1, 0.1, 5.0, 0, 0)
    told("ZCtrl.Withdraw", 1, -1)
    told.dip(3 * NM)
    told("Bias.Pulse", 1, 0.1, 5.0, 0, 0)
    assert told.microscope.get_state()["fate"] == before


@pytest.mark.parametrize(("bias", "acts"), [(5.0, True), (0.5, False)])
def test_a_lift_at_high_bias_is_a_pulse(told: Told, bias: float, acts: bool) -> None:
    before = told.microscope.get_state()["fate"]
    told.dip(-2 * NM, bias=bias)
    assert (told.microscope.get_state()["fate"] != before) == acts


def test_the_shaper_can_leave_the_feedback_off(told: Told) -> None:
    surface = told("ZCtrl.ZPosGet")
    told("TipShaper.PropsSet", 0, 2, 0, -1e-9, 0.1, 0, 0, 4e-9, 0.1, 0, 2)
    told("TipShaper.Start", 1, -1)
    assert told("ZCtrl.OnOffGet") == 0
    assert told("ZCtrl.ZPosGet") == pytest.approx(surface + 3 * NM)


def test_relative_pulses_add_to_the_bias() -> None:
    absolute, relative = Told(), Told()
    for told in (absolute, relative):
        told("Bias.Set", -1.0)
    absolute("Bias.Pulse", 1, 0.1, -4.0, 1, 2)
    relative("Bias.Pulse", 1, 0.1, -3.0, 1, 1)
    assert np.array_equal(absolute.scan(frame()), relative.scan(frame()))
    assert relative("Bias.Get") == -1


def test_an_act_ends_the_scan(told: Told) -> None:
    told.start(frame())
    told("Scan.WaitEndOfScan", 4000)
    told.dip(1 * NM)
    assert told("Scan.StatusGet") == 0
    assert np.isfinite(told.grab()).any(axis=1).sum() == 16


# Moves


def test_positions_keep_double_precision_and_are_coerced_to_the_range(told: Told) -> None:
    told("FolMe.XYPosSet", 1.23456789012e-7, -2e-8, 1)
    assert told("FolMe.XYPosGet", 1) == {"x": 1.23456789012e-7, "y": -2e-8}
    told("FolMe.XYPosSet", 1.0, -1.0, 1)
    reach = told.microscope.reach
    assert told("FolMe.XYPosGet", 1) == {"x": reach, "y": -reach}


def test_a_move_takes_time_and_can_be_stopped() -> None:
    told = Told(time_scale=1.0)
    told("FolMe.SpeedSet", 1e-9, 1)
    told("FolMe.XYPosSet", 1e-7, 0.0, 0)
    told("FolMe.Stop")
    x = told("FolMe.XYPosGet", 1)["x"]
    assert 0 < x < 1e-7
    assert told("FolMe.XYPosGet", 1)["x"] == x


def test_ten_steps_lead_to_the_next_area() -> None:
    told, alone = Told(), SimulatedMicroscope(CALM, seed=5)
    told("ZCtrl.Withdraw", 1, -1)
    for _ in range(3):
        told("Motor.StartMove", X_PLUS, 5, 0, 1)
    told.approach()
    alone.withdraw()
    alone.shift_area(1, 0)
    alone.approach()
    alone.wait(CREEP_OVER_S)
    assert np.array_equal(told.scan(frame()), alone.scan(frame()).z)
    assert told("Motor.PosGet", 0, 500)["x"] == pytest.approx(15 * 1e-7)
    assert told("Motor.StepCounterGet", 1, 0, 0)["x"] == 15
    assert told("Motor.StepCounterGet", 0, 0, 0)["x"] == 0


@pytest.mark.parametrize("direction", [X_PLUS, Z_MINUS])
def test_coarse_steps_in_contact_crash_the_tip(told: Told, direction: int) -> None:
    told("Motor.StartMove", direction, 1, 0, 1)
    assert told.microscope.fault == "crash"


@pytest.mark.parametrize(("retract", "direction"), [("z+", Z_PLUS), ("z-", Z_MINUS)])
def test_coarse_steps_away_lose_contact(retract: Any, direction: int) -> None:
    told = Told(retract=retract)
    told("Motor.StartMove", direction, 5, 0, 1)
    assert told.microscope.fault == "lost contact"
    assert told("ZCtrl.ZPosGet") == told("ZCtrl.LimitsGet")["low"]


def test_there_is_little_room_below_a_withdrawn_tip(told: Told) -> None:
    told("ZCtrl.Withdraw", 1, -1)
    told("Motor.StartMove", Z_MINUS, 1, 0, 1)
    assert told.microscope.fault == ""
    told("Motor.StartMove", Z_MINUS, 50, 0, 1)
    assert told.microscope.fault == "crash"


def test_steps_can_be_stopped() -> None:
    told = Told(time_scale=1.0)
    told("ZCtrl.WithdrawRateSet", 1.0)
    told("ZCtrl.Withdraw", 1, -1)
    told("Motor.FreqAmpSet", 1.0, 100.0, 0)
    told("Motor.StartMove", X_PLUS, 60_000, 0, 0)
    told("Motor.StopMove")
    assert told("Motor.StepCounterGet", 0, 0, 0)["x"] < 60_000


def test_closed_loop_moves_go_along_all_axes(told: Told) -> None:
    told("ZCtrl.Withdraw", 1, -1)
    told("Motor.StartMove", Z_PLUS, 5, 0, 1)
    told("Motor.StartClosedLoop", 0, 5e-7, -2e-7, 1e-7, 1, 0)
    there = told("Motor.PosGet", 0, 500)
    assert list(there.values()) == pytest.approx([5e-7, -2e-7, 6e-7])
    told("Motor.StartClosedLoop", 1, 0.0, 0.0, 6e-7, 1, 0)
    assert list(told("Motor.PosGet", 0, 500).values()) == pytest.approx([0, 0, 6e-7])


def test_an_approach_takes_time_and_can_be_stopped() -> None:
    told = Told(time_scale=1.0)
    told("ZCtrl.Withdraw", 0, 0)
    told("AutoApproach.OnOffSet", 1)
    assert told("AutoApproach.OnOffGet") == 1
    told("AutoApproach.OnOffSet", 0)
    assert told("AutoApproach.OnOffGet") == 0
    assert told("ZCtrl.OnOffGet") == 0


def test_a_hanging_approach_never_ends(told: Told) -> None:
    told("ZCtrl.Withdraw", 1, -1)
    told.controller.let_approach_hang()
    told("AutoApproach.OnOffSet", 1)
    assert [told("AutoApproach.OnOffGet") for _ in range(3)] == [1, 1, 1]


# Settings, releases, files


def of_nothing(field: Field) -> Any:
    """An argument that is 0, empty or the first."""
    if field.array == "matrix":
        return np.empty((0, 0))
    if field.array or field.type in ("strs", "packed"):
        return []
    if field.type == "str":
        return ""
    return int(field.name in ("modulator", "demodulator", "output"))


@pytest.mark.parametrize("release", RELEASES)
def test_every_command_of_every_release_is_answered_in_its_layout(
    release: int, tmp_path: Path
) -> None:
    told = Told(release=release, session=tmp_path)
    refused = []
    for name, command in commands(release).items():
        arguments = {field.name: of_nothing(field) for field in command.request}
        try:
            reply = told.controller.execute(name, arguments)
        except Refused:
            refused.append(name)
        else:
            assert decode_reply(command, encode_reply(command, reply)[HEADER_SIZE:]) is not None
    senseless = {
        "Marks.LinesVisibleSet", "Marks.PointsVisibleSet", "Scan.FrameDataGrab", "Util.Quit",
        "Util.SessionPathSet", "ZCtrl.LimitsSet",
    }  # fmt: skip
    assert set(refused) == senseless & set(commands(release))


def test_commands_of_other_releases_are_unknown() -> None:
    with pytest.raises(Refused, match=r"'Signals\.InSlotsGet' does not exist in release R14718"):
        Told().controller.execute("Signals.InSlotsGet", {})
    with pytest.raises(Refused, match="does not exist in release R10862"):
        Told(release=10862).controller.execute("Util.VersionGet", {})


def test_each_modulator_has_its_own_settings(told: Told) -> None:
    told("LockIn.ModAmpSet", 1, 0.5)
    told("LockIn.ModAmpSet", 2, 0.25)
    assert told("LockIn.ModAmpGet", 1) == 0.5
    assert told("LockIn.ModAmpGet", 2) == 0.25
    with pytest.raises(Refused, match="there is no modulator 17"):
        told("LockIn.ModAmpGet", 17)


def test_numbers_that_mean_no_change(told: Told) -> None:
    told("Scan.PropsSet", 1, 0, 1, "made", "by hand", ["Bias"], 2)
    told("Scan.PropsSet", 0, 1, 0, "", "", [], 0)
    got = told("Scan.PropsGet")
    assert (got["continuous"], got["bouncy"], got["autosave"]) == (1, 1, 0)
    assert (got["series_name"], got["comment"], got["autopaste"]) == ("made", "", 1)
    told("Scan.PropsSet", 2, 2, 3, "", "", [], 3)
    got = told("Scan.PropsGet")
    assert (got["continuous"], got["bouncy"], got["autosave"]) == (0, 0, 2)


@pytest.mark.parametrize(("release", "on", "off", "keep"), [(13742, 1, 0, -1), (14718, 1, 2, 0)])
def test_drift_compensation_counts_by_release(release: int, on: int, off: int, keep: int) -> None:
    told = Told(release=release)
    for sent, got in ((on, 1), (keep, 1), (off, 0), (keep, 0)):
        told("Piezo.DriftCompSet", sent, 0.0, 0.0, 0.0, 10.0)
        assert told("Piezo.DriftCompGet")["on"] == got


def test_marks(told: Told) -> None:
    told("Marks.PointDraw", 1.0, 2.0, "here", 255)
    told("Marks.PointsDraw", 2, [1.0, 2.0], [3.0, 4.0], 2, ["a", "b"], [1, 2])
    told("Marks.PointsErase", 1)
    told("Marks.PointsVisibleSet", 0, 1)
    got = told("Marks.PointsGet")
    assert (got["n"], got["text"], got["visible"]) == (2, ["here", "b"], [0, 1])
    told("Marks.PointsErase", -1)
    assert told("Marks.PointsGet")["n"] == 0


def test_a_spectrum(told: Told) -> None:
    told("BiasSpectr.ChsSet", [CURRENT, Z])
    told("BiasSpectr.LimitsSet", -2.0, 2.0)
    told("BiasSpectr.PropsSet", 0, 0, 0, 11, 0.0, 0, 0)
    got = told("BiasSpectr.Start", 1, "")
    assert got["channel_names"] == ["Bias calc (V)", "Current (A)", "Z (m)"]
    assert got["data"].shape == (3, 11)
    assert np.allclose(got["data"][0], np.linspace(-2, 2, 11))
    assert told("BiasSpectr.StatusGet") == 0


def test_saved_scans_can_be_read(tmp_path: Path) -> None:
    nanonispy = pytest.importorskip("nanonispy2")
    told = Told(session=tmp_path / "session")
    assert told("Util.SessionPathGet") == str(tmp_path / "session")
    told("Scan.PropsSet", 0, 0, 2, "tip", "as it was", [], 0)
    z = told.scan(frame(20, -30), direction=UP)
    reply = told("Scan.WaitEndOfScan", -1)
    assert reply == {"timed_out": 0, "path": str(tmp_path / "session" / "tip0001.sxm")}
    signals = nanonispy.read.Scan(reply["path"]).signals
    assert set(signals) == {"Current", "Z"}
    assert np.array_equal(np.flipud(signals["Z"]["forward"]), z)
    told.scan(frame())
    assert told("Scan.WaitEndOfScan", -1)["path"] == ""
    told("Scan.Save", 1, -1)
    told("Scan.PropsSet", 0, 0, 1, "", "", [], 0)
    told.scan(frame())
    assert sorted(path.name for path in (tmp_path / "session").iterdir()) == [
        "tip0001.sxm", "tip0002.sxm", "tip0003.sxm",
    ]  # fmt: skip


def test_a_series_name_cannot_leave_the_session(tmp_path: Path) -> None:
    told = Told(session=tmp_path / "session")
    told("Scan.PropsSet", 0, 0, 1, "../../out", "", [], 0)
    told.scan(frame())
    assert [path.parent for path in tmp_path.rglob("*.sxm")] == [tmp_path / "session"]


def test_time_codes_in_the_series_name_are_replaced(tmp_path: Path) -> None:
    told = Told(session=tmp_path / "session")
    told("Scan.PropsSet", 0, 0, 1, "%y%m%d_%H-%M-%S_SPM", "", [], 0)
    told.scan(frame())
    path = Path(told("Scan.WaitEndOfScan", -1)["path"])
    stamp = re.fullmatch(r"(\d{6}_\d\d-\d\d-\d\d)_SPM0001\.sxm", path.name)
    assert stamp is not None
    taken = datetime.strptime(stamp[1], "%y%m%d_%H-%M-%S")
    assert abs(datetime.now() - taken) < timedelta(hours=1)
    assert told("Scan.PropsGet")["series_name"] == "%y%m%d_%H-%M-%S_SPM"


@pytest.mark.parametrize(
    ("series", "name"),
    [("%Y-%j/%X", "2024-061_12_34_56"), ("100 %%", "100 %"), ("5 % of %Q", "5 % of %Q")],
)
def test_what_is_no_time_code_stays_as_it_is(series: str, name: str) -> None:
    assert plain_name(dated(series, datetime(2024, 3, 1, 12, 34, 56))) == name


def test_nothing_is_saved_beside_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = Told(session=tmp_path / "session")
    told("Scan.PropsSet", 0, 0, 1, "", "", [], 0)
    for path in ("", "elsewhere"):
        with pytest.raises(Refused, match="below"):
            told("Util.SessionPathSet", path, 0)
    told.scan(frame())
    assert Path(told("Scan.WaitEndOfScan", -1)["path"]).parent == tmp_path / "session"
    assert [path.name for path in tmp_path.iterdir()] == ["session"]


def test_a_scan_that_cannot_be_saved_has_no_path(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    told = Told(session=tmp_path / "taken")
    told("Scan.PropsSet", 0, 0, 1, "", "", [], 0)
    told.scan(frame())
    assert told("Scan.WaitEndOfScan", -1)["path"] == ""


# Waiting


def test_waits_of_one_do_not_hold_up_another(running: Told) -> None:
    replies = []
    waiting = threading.Thread(target=lambda: replies.append(running("Scan.WaitEndOfScan", -1)))
    waiting.start()
    assert running("Scan.StatusGet") == 1
    assert running("Bias.Get") == 1
    running("Scan.Action", STOP, DOWN)
    waiting.join()
    assert replies == [{"timed_out": 0, "path": ""}]


def test_a_timeout_ends_the_wait_and_not_the_scan(running: Told) -> None:
    assert running("Scan.WaitEndOfScan", 20) == {"timed_out": 1, "path": ""}
    assert running("Scan.StatusGet") == 1


def test_nobody_waits_for_a_client_that_is_gone(running: Told) -> None:
    with pytest.raises(ClientGone):
        running.controller.execute("Scan.WaitEndOfScan", {"timeout": -1}, lambda: True)
    assert running("Scan.StatusGet") == 1


def test_a_fast_clock_scans_fast() -> None:
    told = Told(time_scale=1000.0)
    told.start(frame())
    assert told("Scan.WaitEndOfScan", -1)["timed_out"] == 0
    assert np.isfinite(told.grab()).all()
    assert told.microscope.status().time >= 16


@pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan])
def test_impossible_clocks(scale: float) -> None:
    with pytest.raises(ValueError, match="finite scale"):
        Told(time_scale=scale)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("Bias.Set", {"bias": math.nan}, "not finite"),
        ("FolMe.XYPosSet", {"x": math.inf, "y": 0.0, "wait": 0}, "not finite"),
        ("Bias.Set", {}, "takes"),
        ("Bias.Get", {"bias": 1.0}, "takes"),
        ("Scan.Action", {"action": 9, "direction": 0}, "no scan action 9"),
        ("Motor.StartMove", {"direction": 6, "steps": 1, "group": 0, "wait": 1}, "direction 6"),
        ("Signals.ValGet", {"signal_index": 128, "newest": 0}, "no signal 128"),
        ("Scan.BufferSet", {"channel_indexes": [-1], "pixels": 64, "lines": 64}, "no signal -1"),
        ("Util.Quit", {"use_stored_values": 0, "settings_name": "", "layout_name": "",
                       "save_signals": 0}, "stopped where it was started"),
    ],
)  # fmt: skip
def test_refusals_say_why(told: Told, name: str, values: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        told.controller.execute(name, values)


def test_it_remembers_what_it_was_told(told: Told) -> None:
    told("Bias.Set", 0.5)
    told("Bias.Get")
    assert list(told.controller.executed) == [("Bias.Set", {"bias": 0.5}), ("Bias.Get", {})]
