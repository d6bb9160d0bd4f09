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
    CommandPanel,
    Z,
)

NM = 1e-9
HECTIC = SimulatorConfig(tip_change_rate=0.5)


def frame(x: float = 0.0, y: float = 0.0, pixels: int = 64, angle: float = 0.0) -> Frame:
    return Frame(x * NM, y * NM, 10 * NM, pixels, angle)


@pytest.fixture
def panel() -> CommandPanel:
    return CommandPanel()


@pytest.fixture
def running() -> CommandPanel:
    """With a clock that runs, and a scan of 160 s in progress."""
    panel = CommandPanel(time_scale=1.0)
    panel("Scan.SpeedSet", 8e-9, 8e-9, 1.0, 1.0, 1, 1.0)
    panel.start(frame())
    return panel


# What arrives is what the simulator does


def test_scans_and_acts_equal_those_of_the_simulator_bit_for_bit() -> None:
    panel, alone = CommandPanel(HECTIC), SimulatedMicroscope(HECTIC, seed=5)
    this, other = frame(20, -31, angle=0.3), frame(-200.1, 77, pixels=32)
    for each in (this, this, other):
        for fraction in (0.25, 1.0):
            assert np.array_equal(
                panel.scan(each, fraction), alone.scan(each, fraction).z, equal_nan=True
            )
        x, y = each.x + 1.23 * NM, each.y
        panel("FolMe.XYPosSet", x, y, 1)
        panel.dip(1.8 * NM)
        alone.condition(Dip(1.8 * NM), x, y)
        panel("Bias.Pulse", 1, 0.1, -4.0, 1, 2)
        alone.condition(Pulse(-4.0, 0.1), x, y)
    panel.shift()
    alone.withdraw()
    alone.shift_area(1, 0)
    alone.approach()
    alone.wait(CREEP_OVER_S)  # a clock that stands still cannot be waited on: it waits by itself
    assert np.array_equal(panel.scan(this), alone.scan(this).z)
    assert panel.microscope.truth == alone.truth
    assert panel.microscope.status() == alone.status()


def test_how_often_one_waits_does_not_matter() -> None:
    once, often = CommandPanel(HECTIC), CommandPanel(HECTIC)
    whole = once.scan(frame())
    often.start(frame())
    while often("Scan.WaitEndOfScan", 700)["timed_out"]:
        pass
    assert np.array_equal(often.grab(), whole)
    assert often.microscope.status() == once.microscope.status()


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


def test_a_module_that_is_not_running_refuses_until_it_is_opened() -> None:
    panel = CommandPanel(without=["tipshaper", "ZSpectr", "Osci1T"])
    with pytest.raises(Refused, match="Cannot access the TipShaper module, make sure it is run"):
        panel("TipShaper.PropsGet")
    for opening, asking in (("ZSpectr.Open", "ZSpectr.RangeGet"), ("Osci1T.Run", "Osci1T.ChGet")):
        with pytest.raises(Refused, match="make sure it is running"):
            panel(asking)
        panel(opening)
        panel(asking)
    panel("Bias.Set", 0.5)
    assert ("TipShaper.PropsGet", {}) not in panel.controller.executed
    with pytest.raises(ValueError, match="there is no module 'Tip' in release R14718; there are A"):
        CommandPanel(without=["Tip"])


def test_names_of_signals(panel: CommandPanel) -> None:
    names = panel("Signals.NamesGet")
    assert [names[i] for i in (CURRENT, BIAS, Z)] == ["Current (A)", "Bias (V)", "Z (m)"]
    assert len(set(names)) == 128
    old = CommandPanel(release=10862)
    slots = old("Signals.InSlotsGet")
    assert slots["names"][14] == "Z (m)"
    assert slots["rt_indexes"][14] == Z
    old("Scan.BufferSet", [14], 16, 16)
    assert old("Scan.FrameDataGrab", 14, 1)["channel_name"] == "Z (m)"


def test_values_of_signals_agree_with_the_state(panel: CommandPanel) -> None:
    panel("Bias.Set", 0.5)
    panel("ZCtrl.SetpntSet", 5e-11)
    panel("FolMe.XYPosSet", 3 * NM, -4 * NM, 1)
    values = panel("Signals.ValsGet", [CURRENT, BIAS, 26, 27, Z], 1)["values"]
    assert values == pytest.approx([5e-11, 0.5, 3 * NM, -4 * NM, panel("ZCtrl.ZPosGet")])
    assert panel.microscope.bias == 0.5
    assert panel.microscope.setpoint == pytest.approx(5e-11)


# Feedback and z


def test_withdraw_and_come_back(panel: CommandPanel) -> None:
    surface = panel("ZCtrl.ZPosGet")
    panel("ZCtrl.Withdraw", 1, -1)
    assert panel("ZCtrl.ZPosGet") == panel("ZCtrl.LimitsGet")["high"]
    assert panel("Current.Get") == 0
    assert panel("ZCtrl.StatusGet") == 1
    assert not panel.microscope.status().approached
    panel("ZCtrl.OnOffSet", 1)
    assert panel("ZCtrl.ZPosGet") == pytest.approx(surface)
    assert panel("ZCtrl.StatusGet") == 2
    assert panel("Current.Get") == panel.microscope.setpoint


def test_a_withdrawal_takes_its_time_and_may_be_waited_for() -> None:
    panel = CommandPanel(time_scale=1.0)
    panel("ZCtrl.WithdrawRateSet", 1e-9)
    panel("ZCtrl.Withdraw", 1, 3)
    assert panel("ZCtrl.StatusGet") == 6
    assert panel("ZCtrl.ZPosGet") < panel("ZCtrl.LimitsGet")["high"]
    panel("ZCtrl.WithdrawRateSet", 1e-3)
    panel("ZCtrl.Withdraw", 1, -1)
    assert panel("ZCtrl.StatusGet") == 1
    assert panel("ZCtrl.ZPosGet") == panel("ZCtrl.LimitsGet")["high"]


def test_after_a_coarse_retraction_only_an_approach_finds_the_surface(panel: CommandPanel) -> None:
    panel("ZCtrl.Withdraw", 1, -1)
    panel("Motor.StartMove", Z_PLUS, 20, 0, 1)
    panel("ZCtrl.OnOffSet", 1)
    assert panel("ZCtrl.ZPosGet") == panel("ZCtrl.LimitsGet")["low"]
    assert panel("Current.Get") == 0
    panel.approach()
    assert panel("Current.Get") == panel.microscope.setpoint
    assert panel("ZCtrl.StatusGet") == 2


def test_switching_the_loop_off_holds_and_lifts(panel: CommandPanel) -> None:
    surface = panel("ZCtrl.ZPosGet")
    panel("ZCtrl.ZPosSet", 0.0)
    assert panel("ZCtrl.ZPosGet") == surface
    panel("ZCtrl.TipLiftSet", 2e-9)
    panel("ZCtrl.OnOffSet", 0)
    assert panel("ZCtrl.ZPosGet") == pytest.approx(surface + 2 * NM)
    assert panel("Current.Get") < 1e-3 * panel.microscope.setpoint
    panel("ZCtrl.ZPosSet", 0.0)
    assert panel("ZCtrl.ZPosGet") == 0
    panel("ZCtrl.ZPosSet", 1.0)
    assert panel("ZCtrl.ZPosGet") == panel("ZCtrl.LimitsGet")["high"]


def test_the_switch_off_delay_passes_before_the_loop_is_off() -> None:
    panel = CommandPanel(time_scale=1.0)
    panel("ZCtrl.SwitchOffDelaySet", 1000.0)
    panel("ZCtrl.OnOffSet", 0)
    assert panel("ZCtrl.OnOffGet") == 1
    assert panel("ZCtrl.StatusGet") == 4


def test_pressing_the_tip_in_is_one_dip_for_each_descent(panel: CommandPanel) -> None:
    before = panel.scan(frame())
    panel("ZCtrl.OnOffSet", 0)
    surface = panel("ZCtrl.ZPosGet")
    for depth in (1.0, 2.0, 3.0):
        panel("ZCtrl.ZPosSet", surface - depth * NM)
    panel("ZCtrl.OnOffSet", 1)
    again = SimulatedMicroscope(CALM, seed=5)
    again.scan(frame())
    again.condition(Dip(panel("ZCtrl.ZPosGet") - (surface - 3 * NM), again.bias), 0, 0)
    after = panel.scan(frame())
    assert np.abs(after - before).max() > 0.3 * NM
    assert panel.microscope.truth == again.truth
    assert np.allclose(after, again.scan(frame()).z, atol=1e-13)


def test_moving_z_above_the_surface_is_no_dip(panel: CommandPanel) -> None:
    before = panel.microscope.get_state()["fate"]
    panel("ZCtrl.OnOffSet", 0)
    panel("ZCtrl.ZPosSet", panel("ZCtrl.ZPosGet") + 5 * NM)
    panel("ZCtrl.OnOffSet", 1)
    assert panel.microscope.get_state()["fate"] == before


def test_limits_count_when_enabled(panel: CommandPanel) -> None:
    panel("ZCtrl.LimitsSet", 1e-8, -1e-8)
    assert panel("ZCtrl.LimitsGet") == pytest.approx({"low": -1.5e-7, "high": 1.5e-7})
    panel("ZCtrl.LimitsEnabledSet", 1)
    panel("ZCtrl.LimitsSet", 5e-8, -1.4e-7)
    panel("ZCtrl.Withdraw", 1, -1)
    assert panel("ZCtrl.ZPosGet") == pytest.approx(5e-8)
    with pytest.raises(Refused, match="not above the lower limit"):
        panel("ZCtrl.LimitsSet", 0.0, 1e-8)


def test_home(panel: CommandPanel) -> None:
    panel("ZCtrl.HomePropsSet", 1, 1e-8)
    assert panel("ZCtrl.HomePropsGet")["mode"] == 0
    panel("ZCtrl.Home")
    assert panel("ZCtrl.ZPosGet") == pytest.approx(1e-8)
    panel("ZCtrl.HomePropsSet", 2, 2e-8)
    panel("ZCtrl.Home")
    assert panel("ZCtrl.ZPosGet") == pytest.approx(3e-8)


def test_a_scan_of_a_withdrawn_tip_shows_its_height_and_nothing_else(panel: CommandPanel) -> None:
    panel("ZCtrl.Withdraw", 1, -1)
    z = panel.scan(frame())
    assert (z == np.float32(panel("ZCtrl.ZPosGet"))).all()
    assert np.abs(panel.grab(CURRENT)).max() == 0


def test_withdrawn_in_the_middle_of_a_scan(panel: CommandPanel) -> None:
    panel.start(frame())
    panel("Scan.WaitEndOfScan", 8000)
    panel("ZCtrl.Withdraw", 1, -1)
    panel("Scan.WaitEndOfScan", -1)
    z, top = panel.grab(), np.float32(panel("ZCtrl.ZPosGet"))
    assert (z[:32] < top).all()
    assert (z[33:] == top).all()


def test_safe_tip_trips_on_a_crash_and_pauses_the_scan(panel: CommandPanel) -> None:
    panel("SafeTip.PropsSet", 0, 1, 1e-8)
    panel("SafeTip.OnOffSet", 1)
    assert panel("SafeTip.OnOffGet") == 1
    panel.start(frame())
    assert panel("ZCtrl.StatusGet") == 2
    panel.controller.inject("crash")
    assert panel("SafeTip.SignalGet") == pytest.approx(1e-7)
    assert panel("ZCtrl.StatusGet") == 5
    assert panel("Current.Get") == 0
    assert panel("Scan.WaitEndOfLine", 10_000)["timed_out"] == 1
    panel.approach()
    assert panel("ZCtrl.StatusGet") == 2


def test_without_safe_tip_a_crash_stays() -> None:
    panel = CommandPanel()
    panel.controller.inject("crash")
    assert panel("Current.Get") == pytest.approx(1e-7)
    assert panel("ZCtrl.ZPosGet") == panel("ZCtrl.LimitsGet")["high"]
    panel.approach()
    assert panel.microscope.fault == "crash"
    panel("ZCtrl.Withdraw", 1, -1)
    panel.approach()
    assert panel("Current.Get") == panel.microscope.setpoint


# Acts


def test_a_dip_leaves_an_imprint(panel: CommandPanel) -> None:
    before = panel.scan(frame())
    panel.dip(3 * NM)
    after = panel.scan(frame())
    changed = np.abs(after - before)
    assert changed[24:40, 24:40].max() > 0.5 * NM


def test_the_shaper_is_not_refused_but_does_nothing_out_of_contact(panel: CommandPanel) -> None:
    panel.controller.inject("lost contact")
    before = panel.microscope.get_state()["fate"]
    panel.dip(3 * NM)
    panel("Bias.Pulse", 1, 0.1, 5.0, 0, 0)
    panel("ZCtrl.Withdraw", 1, -1)
    panel.dip(3 * NM)
    panel("Bias.Pulse", 1, 0.1, 5.0, 0, 0)
    assert panel.microscope.get_state()["fate"] == before


@pytest.mark.parametrize(("bias", "acts"), [(5.0, True), (0.5, False)])
def test_a_lift_at_high_bias_is_a_pulse(panel: CommandPanel, bias: float, acts: bool) -> None:
    before = panel.microscope.get_state()["fate"]
    panel.dip(-2 * NM, bias=bias)
    assert (panel.microscope.get_state()["fate"] != before) == acts


def test_the_shaper_can_leave_the_feedback_off(panel: CommandPanel) -> None:
    surface = panel("ZCtrl.ZPosGet")
    panel("TipShaper.PropsSet", 0, 2, 0, -1e-9, 0.1, 0, 0, 4e-9, 0.1, 0, 2)
    panel("TipShaper.Start", 1, -1)
    assert panel("ZCtrl.OnOffGet") == 0
    assert panel("ZCtrl.ZPosGet") == pytest.approx(surface + 3 * NM)


def test_relative_pulses_add_to_the_bias() -> None:
    absolute, relative = CommandPanel(), CommandPanel()
    for panel in (absolute, relative):
        panel("Bias.Set", -1.0)
    absolute("Bias.Pulse", 1, 0.1, -4.0, 1, 2)
    relative("Bias.Pulse", 1, 0.1, -3.0, 1, 1)
    assert np.array_equal(absolute.scan(frame()), relative.scan(frame()))
    assert relative("Bias.Get") == -1


def test_an_act_ends_the_scan(panel: CommandPanel) -> None:
    panel.start(frame())
    panel("Scan.WaitEndOfScan", 4000)
    panel.dip(1 * NM)
    assert panel("Scan.StatusGet") == 0
    assert np.isfinite(panel.grab()).any(axis=1).sum() == 16


# Moves


def test_positions_keep_double_precision_and_are_coerced_to_the_range(panel: CommandPanel) -> None:
    panel("FolMe.XYPosSet", 1.23456789012e-7, -2e-8, 1)
    assert panel("FolMe.XYPosGet", 1) == {"x": 1.23456789012e-7, "y": -2e-8}
    panel("FolMe.XYPosSet", 1.0, -1.0, 1)
    reach = panel.microscope.reach
    assert panel("FolMe.XYPosGet", 1) == {"x": reach, "y": -reach}


def test_a_move_takes_time_and_can_be_stopped() -> None:
    panel = CommandPanel(time_scale=1.0)
    panel("FolMe.SpeedSet", 1e-9, 1)
    panel("FolMe.XYPosSet", 1e-7, 0.0, 0)
    panel("FolMe.Stop")
    x = panel("FolMe.XYPosGet", 1)["x"]
    assert 0 < x < 1e-7
    assert panel("FolMe.XYPosGet", 1)["x"] == x


def test_ten_steps_lead_to_the_next_area() -> None:
    panel, alone = CommandPanel(), SimulatedMicroscope(CALM, seed=5)
    panel("ZCtrl.Withdraw", 1, -1)
    for _ in range(3):
        panel("Motor.StartMove", X_PLUS, 5, 0, 1)
    panel.approach()
    alone.withdraw()
    alone.shift_area(1, 0)
    alone.approach()
    alone.wait(CREEP_OVER_S)
    assert np.array_equal(panel.scan(frame()), alone.scan(frame()).z)
    assert panel("Motor.PosGet", 0, 500)["x"] == pytest.approx(15 * 1e-7)
    assert panel("Motor.StepCounterGet", 1, 0, 0)["x"] == 15
    assert panel("Motor.StepCounterGet", 0, 0, 0)["x"] == 0


@pytest.mark.parametrize("direction", [X_PLUS, Z_MINUS])
def test_coarse_steps_in_contact_crash_the_tip(panel: CommandPanel, direction: int) -> None:
    panel("Motor.StartMove", direction, 1, 0, 1)
    assert panel.microscope.fault == "crash"


@pytest.mark.parametrize(("retract", "direction"), [("z+", Z_PLUS), ("z-", Z_MINUS)])
def test_coarse_steps_away_lose_contact(retract: Any, direction: int) -> None:
    panel = CommandPanel(retract=retract)
    panel("Motor.StartMove", direction, 5, 0, 1)
    assert panel.microscope.fault == "lost contact"
    assert panel("ZCtrl.ZPosGet") == panel("ZCtrl.LimitsGet")["low"]


def test_there_is_little_room_below_a_withdrawn_tip(panel: CommandPanel) -> None:
    panel("ZCtrl.Withdraw", 1, -1)
    panel("Motor.StartMove", Z_MINUS, 1, 0, 1)
    assert panel.microscope.fault == ""
    panel("Motor.StartMove", Z_MINUS, 50, 0, 1)
    assert panel.microscope.fault == "crash"


def test_steps_can_be_stopped() -> None:
    panel = CommandPanel(time_scale=1.0)
    panel("ZCtrl.WithdrawRateSet", 1.0)
    panel("ZCtrl.Withdraw", 1, -1)
    panel("Motor.FreqAmpSet", 1.0, 100.0, 0)
    panel("Motor.StartMove", X_PLUS, 60_000, 0, 0)
    panel("Motor.StopMove")
    assert panel("Motor.StepCounterGet", 0, 0, 0)["x"] < 60_000


def test_closed_loop_moves_go_along_all_axes(panel: CommandPanel) -> None:
    panel("ZCtrl.Withdraw", 1, -1)
    panel("Motor.StartMove", Z_PLUS, 5, 0, 1)
    panel("Motor.StartClosedLoop", 0, 5e-7, -2e-7, 1e-7, 1, 0)
    there = panel("Motor.PosGet", 0, 500)
    assert list(there.values()) == pytest.approx([5e-7, -2e-7, 6e-7])
    panel("Motor.StartClosedLoop", 1, 0.0, 0.0, 6e-7, 1, 0)
    assert list(panel("Motor.PosGet", 0, 500).values()) == pytest.approx([0, 0, 6e-7])


def test_an_approach_takes_time_and_can_be_stopped() -> None:
    panel = CommandPanel(time_scale=1.0)
    panel("ZCtrl.Withdraw", 0, 0)
    panel("AutoApproach.OnOffSet", 1)
    assert panel("AutoApproach.OnOffGet") == 1
    panel("AutoApproach.OnOffSet", 0)
    assert panel("AutoApproach.OnOffGet") == 0
    assert panel("ZCtrl.OnOffGet") == 0


def test_a_hanging_approach_never_ends(panel: CommandPanel) -> None:
    panel("ZCtrl.Withdraw", 1, -1)
    panel.controller.let_approach_hang()
    panel("AutoApproach.OnOffSet", 1)
    assert [panel("AutoApproach.OnOffGet") for _ in range(3)] == [1, 1, 1]


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
    panel = CommandPanel(release=release, session=tmp_path)
    refused = []
    for name, command in commands(release).items():
        arguments = {field.name: of_nothing(field) for field in command.request}
        try:
            reply = panel.controller.execute(name, arguments)
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
        CommandPanel().controller.execute("Signals.InSlotsGet", {})
    with pytest.raises(Refused, match="does not exist in release R10862"):
        CommandPanel(release=10862).controller.execute("Util.VersionGet", {})


def test_each_modulator_has_its_own_settings(panel: CommandPanel) -> None:
    panel("LockIn.ModAmpSet", 1, 0.5)
    panel("LockIn.ModAmpSet", 2, 0.25)
    assert panel("LockIn.ModAmpGet", 1) == 0.5
    assert panel("LockIn.ModAmpGet", 2) == 0.25
    with pytest.raises(Refused, match="there is no modulator 17"):
        panel("LockIn.ModAmpGet", 17)


def test_numbers_that_mean_no_change(panel: CommandPanel) -> None:
    panel("Scan.PropsSet", 1, 0, 1, "made", "by hand", ["Bias"], 2)
    panel("Scan.PropsSet", 0, 1, 0, "", "", [], 0)
    got = panel("Scan.PropsGet")
    assert (got["continuous"], got["bouncy"], got["autosave"]) == (1, 1, 0)
    assert (got["series_name"], got["comment"], got["autopaste"]) == ("made", "", 1)
    panel("Scan.PropsSet", 2, 2, 3, "", "", [], 3)
    got = panel("Scan.PropsGet")
    assert (got["continuous"], got["bouncy"], got["autosave"]) == (0, 0, 2)


@pytest.mark.parametrize(("release", "on", "off", "keep"), [(13742, 1, 0, -1), (14718, 1, 2, 0)])
def test_drift_compensation_counts_by_release(release: int, on: int, off: int, keep: int) -> None:
    panel = CommandPanel(release=release)
    for sent, got in ((on, 1), (keep, 1), (off, 0), (keep, 0)):
        panel("Piezo.DriftCompSet", sent, 0.0, 0.0, 0.0, 10.0)
        assert panel("Piezo.DriftCompGet")["on"] == got


def test_marks(panel: CommandPanel) -> None:
    panel("Marks.PointDraw", 1.0, 2.0, "here", 255)
    panel("Marks.PointsDraw", 2, [1.0, 2.0], [3.0, 4.0], 2, ["a", "b"], [1, 2])
    panel("Marks.PointsErase", 1)
    panel("Marks.PointsVisibleSet", 0, 1)
    got = panel("Marks.PointsGet")
    assert (got["n"], got["text"], got["visible"]) == (2, ["here", "b"], [0, 1])
    panel("Marks.PointsErase", -1)
    assert panel("Marks.PointsGet")["n"] == 0


def test_a_spectrum(panel: CommandPanel) -> None:
    panel("BiasSpectr.ChsSet", [CURRENT, Z])
    panel("BiasSpectr.LimitsSet", -2.0, 2.0)
    panel("BiasSpectr.PropsSet", 0, 0, 0, 11, 0.0, 0, 0)
    got = panel("BiasSpectr.Start", 1, "")
    assert got["channel_names"] == ["Bias calc (V)", "Current (A)", "Z (m)"]
    assert got["data"].shape == (3, 11)
    assert np.allclose(got["data"][0], np.linspace(-2, 2, 11))
    assert panel("BiasSpectr.StatusGet") == 0


def test_saved_scans_can_be_read(tmp_path: Path) -> None:
    nanonispy = pytest.importorskip("nanonispy2")
    panel = CommandPanel(session=tmp_path / "session")
    assert panel("Util.SessionPathGet") == str(tmp_path / "session")
    panel("Scan.PropsSet", 0, 0, 2, "tip", "as it was", [], 0)
    z = panel.scan(frame(20, -30), direction=UP)
    reply = panel("Scan.WaitEndOfScan", -1)
    assert reply == {"timed_out": 0, "path": str(tmp_path / "session" / "tip0001.sxm")}
    signals = nanonispy.read.Scan(reply["path"]).signals
    assert set(signals) == {"Current", "Z"}
    assert np.array_equal(np.flipud(signals["Z"]["forward"]), z)
    panel.scan(frame())
    assert panel("Scan.WaitEndOfScan", -1)["path"] == ""
    panel("Scan.Save", 1, -1)
    panel("Scan.PropsSet", 0, 0, 1, "", "", [], 0)
    panel.scan(frame())
    assert sorted(path.name for path in (tmp_path / "session").iterdir()) == [
        "tip0001.sxm", "tip0002.sxm", "tip0003.sxm",
    ]  # fmt: skip


def test_a_series_name_cannot_leave_the_session(tmp_path: Path) -> None:
    panel = CommandPanel(session=tmp_path / "session")
    panel("Scan.PropsSet", 0, 0, 1, "../../out", "", [], 0)
    panel.scan(frame())
    assert [path.parent for path in tmp_path.rglob("*.sxm")] == [tmp_path / "session"]


def test_time_codes_in_the_series_name_are_replaced(tmp_path: Path) -> None:
    panel = CommandPanel(session=tmp_path / "session")
    panel("Scan.PropsSet", 0, 0, 1, "%y%m%d_%H-%M-%S_SPM", "", [], 0)
    panel.scan(frame())
    path = Path(panel("Scan.WaitEndOfScan", -1)["path"])
    stamp = re.fullmatch(r"(\d{6}_\d\d-\d\d-\d\d)_SPM0001\.sxm", path.name)
    assert stamp is not None
    taken = datetime.strptime(stamp[1], "%y%m%d_%H-%M-%S")
    assert abs(datetime.now() - taken) < timedelta(hours=1)
    assert panel("Scan.PropsGet")["series_name"] == "%y%m%d_%H-%M-%S_SPM"


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
    panel = CommandPanel(session=tmp_path / "session")
    panel("Scan.PropsSet", 0, 0, 1, "", "", [], 0)
    for path in ("", "elsewhere"):
        with pytest.raises(Refused, match="below"):
            panel("Util.SessionPathSet", path, 0)
    panel.scan(frame())
    assert Path(panel("Scan.WaitEndOfScan", -1)["path"]).parent == tmp_path / "session"
    assert [path.name for path in tmp_path.iterdir()] == ["session"]


def test_a_scan_that_cannot_be_saved_has_no_path(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    panel = CommandPanel(session=tmp_path / "taken")
    panel("Scan.PropsSet", 0, 0, 1, "", "", [], 0)
    panel.scan(frame())
    assert panel("Scan.WaitEndOfScan", -1)["path"] == ""


# Waiting


def test_waits_of_one_do_not_hold_up_another(running: CommandPanel) -> None:
    replies = []
    waiting = threading.Thread(target=lambda: replies.append(running("Scan.WaitEndOfScan", -1)))
    waiting.start()
    assert running("Scan.StatusGet") == 1
    assert running("Bias.Get") == 1
    running("Scan.Action", STOP, DOWN)
    waiting.join()
    assert replies == [{"timed_out": 0, "path": ""}]


def test_a_timeout_ends_the_wait_and_not_the_scan(running: CommandPanel) -> None:
    assert running("Scan.WaitEndOfScan", 20) == {"timed_out": 1, "path": ""}
    assert running("Scan.StatusGet") == 1


def test_nobody_waits_for_a_client_that_is_gone(running: CommandPanel) -> None:
    with pytest.raises(ClientGone):
        running.controller.execute("Scan.WaitEndOfScan", {"timeout": -1}, lambda: True)
    assert running("Scan.StatusGet") == 1


def test_a_fast_clock_scans_fast() -> None:
    panel = CommandPanel(time_scale=1000.0)
    panel.start(frame())
    assert panel("Scan.WaitEndOfScan", -1)["timed_out"] == 0
    assert np.isfinite(panel.grab()).all()
    assert panel.microscope.status().time >= 16


@pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan])
def test_impossible_clocks(scale: float) -> None:
    with pytest.raises(ValueError, match="finite scale"):
        CommandPanel(time_scale=scale)


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
def test_refusals_say_why(
    panel: CommandPanel, name: str, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        panel.controller.execute(name, values)


def test_it_remembers_what_it_was_told(panel: CommandPanel) -> None:
    panel("Bias.Set", 0.5)
    panel("Bias.Get")
    assert list(panel.controller.executed) == [("Bias.Set", {"bias": 0.5}), ("Bias.Get", {})]
