"""The loop of the virtual controller: withdrawing, holding, lifting, limits, Safe Tip."""

from __future__ import annotations

import numpy as np
import pytest

from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import Refused
from spm_gym.types import Dip
from tests.support.settings_pages import (
    CALM,
    CURRENT,
    Z_PLUS,
    CommandPanel,
    frame,
)

NM = 1e-9


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
