"""The junction in the virtual controller's modules: curves, pulses, dips, the motor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.dynamics import HiddenState, Shape
from spm_gym.types import Frame
from tests.support.settings_pages import BIAS, CALM, CURRENT, Z_PLUS, CommandPanel, Z

NM = 1e-9
LAB = CALM.model_copy(update={"preamplifier_nA": 10.0, "approach_spikes_pA": (82.0, 375.0)})
DECAY = 5.123e9
""" sqrt(2 m e) / h-bar, 1/m for the root of an electronvolt."""


@pytest.fixture
def panel() -> CommandPanel:
    return CommandPanel()


def bias_curve(panel: CommandPanel, start: float, end: float, points: int = 41) -> Any:
    panel("BiasSpectr.LimitsSet", start, end)
    panel("BiasSpectr.PropsSet", 0, 0, 0, points, 0.0, 0, 0)
    return panel("BiasSpectr.Start", 1, "")["data"]


def z_curve(panel: CommandPanel, offset: float, distance: float, points: int = 41) -> Any:
    panel("ZSpectr.RangeSet", offset, distance)
    panel("ZSpectr.PropsSet", 2, points, 1, 0, 0, 0)
    return panel("ZSpectr.Start", 1, "")["data"]


def barrier(panel: CommandPanel) -> float:
    """As people read it off the slope of a logarithm, eV."""
    z, current = z_curve(panel, -0.1e-9, 0.2e-9)
    return float((np.polyfit(z, np.log(current), 1)[0] / (2 * DECAY)) ** 2)


# Spectra


def test_a_bias_spectrum_goes_through_the_working_point_and_bends_upwards(
    panel: CommandPanel,
) -> None:
    bias, current = bias_curve(panel, -3.0, 3.0, 61)
    setpoint = panel.microscope.setpoint
    assert current[np.argmin(abs(bias - 1.0))] == pytest.approx(setpoint, rel=0.05)
    assert abs(current[np.argmin(abs(bias))]) < 0.05 * setpoint
    assert current[-1] > 3.5 * setpoint
    assert current[0] < -3.5 * setpoint


def test_no_sweep_goes_beyond_the_range_of_the_bias(panel: CommandPanel) -> None:
    bias, current = bias_curve(panel, -1e30, 1e30)
    assert (bias[0], bias[-1]) == (-10.0, 10.0)
    assert np.isfinite(current).all()


def test_at_negative_bias_the_current_is_negative(panel: CommandPanel) -> None:
    panel("Bias.Set", -1.0)
    setpoint = panel.microscope.setpoint
    assert panel("Current.Get") == -setpoint
    _, current = bias_curve(panel, -1.0, 1.0)
    assert current[0] == pytest.approx(-setpoint, rel=0.05)
    assert panel.scan(Frame(0, 0, 10 * NM, 16)) is not None
    assert np.nanmean(panel.grab(CURRENT)) == pytest.approx(-setpoint, rel=0.05)


def test_a_molecule_at_the_tip_shows_in_the_spectrum(panel: CommandPanel) -> None:
    rises = []
    for contaminated in (False, True):
        panel.microscope.set_probe(HiddenState(contaminated=contaminated))
        bias, current = bias_curve(panel, 0.3, 2.0)
        conductance = current / bias
        rises.append(conductance[-1] / conductance[:3].mean())
    assert rises[0] < 1.3
    assert rises[1] > 1.6


def test_current_falls_exponentially_by_a_barrier_of_some_electronvolts(
    panel: CommandPanel,
) -> None:
    z, current = z_curve(panel, 0.0, 0.3e-9)
    assert z[0] == 0.0
    assert z[-1] == pytest.approx(0.3e-9)
    assert current[0] == pytest.approx(panel.microscope.setpoint, rel=0.05)
    assert 3.0 < barrier(panel) < 5.0


def test_the_barrier_depends_on_tip_and_patch_and_is_the_same_when_asked_again(
    panel: CommandPanel,
) -> None:
    first = barrier(panel)
    assert barrier(panel) == pytest.approx(first, rel=0.02)
    panel("FolMe.XYPosSet", 50 * NM, -30 * NM, 1)
    elsewhere = barrier(panel)
    assert abs(elsewhere - first) > 0.02 * first
    panel("FolMe.XYPosSet", 0.0, 0.0, 1)
    assert barrier(panel) == pytest.approx(first, rel=0.02)
    panel.microscope.set_probe(HiddenState(Shape.MULTIPLE))
    blunt = barrier(panel)
    assert abs(blunt - first) > 0.01 * first
    panel.microscope.set_probe(HiddenState(contaminated=True))
    assert barrier(panel) < first - 0.3


def test_a_curve_of_a_lifted_tip_begins_lower(panel: CommandPanel) -> None:
    panel("ZCtrl.TipLiftSet", 0.1 * NM)
    panel("ZCtrl.OnOffSet", 0)
    current = z_curve(panel, 0.0, 0.1e-9)[1]
    assert current[0] == pytest.approx(panel("Current.Get"), rel=0.2)
    assert current[0] < 0.3 * panel.microscope.setpoint


def test_no_curve_shows_more_than_the_preamplifier_does() -> None:
    panel = CommandPanel(LAB)
    current = z_curve(panel, -0.45e-9, 0.45e-9)[1]
    assert current.max() == 10e-9
    assert CommandPanel()("Signals.RangeGet", CURRENT)["maximum"] == 100e-9
    assert panel("Signals.RangeGet", CURRENT)["maximum"] == 10e-9


def test_a_sweep_into_the_surface_leaves_a_mark_and_one_that_is_not_does_not(
    panel: CommandPanel,
) -> None:
    frame = Frame(0, 0, 10 * NM, 64)
    before = panel.scan(frame)
    z_curve(panel, -0.4e-9, 0.4e-9)
    assert np.ptp(panel.scan(frame) - before) < 0.1 * NM
    z_curve(panel, -2e-9, 2e-9)
    assert np.ptp(panel.scan(frame) - before) > 0.3 * NM


def test_a_tip_in_the_air_draws_no_current(panel: CommandPanel) -> None:
    panel("ZCtrl.Withdraw", 1, -1)
    for current in (bias_curve(panel, -2, 2)[1], z_curve(panel, 0.0, 1e-9)[1]):
        assert abs(current).max() < 1e-12


def test_an_unstable_tip_jumps_in_a_curve(panel: CommandPanel) -> None:
    panel.microscope.set_probe(HiddenState(unstable=True))
    _, current = z_curve(panel, 0.0, 0.1e-9, 400)
    steps = abs(np.diff(np.log(current)))
    assert steps.max() > 10 * np.median(steps)


def test_a_sweep_back_has_channels_of_its_own(panel: CommandPanel) -> None:
    panel("ZSpectr.ChsSet", [CURRENT, Z])
    panel("ZSpectr.PropsSet", 1, 21, 1, 0, 0, 0)
    got = panel("ZSpectr.Start", 1, "")
    assert got["channel_names"] == [
        "Z rel (m)", "Current (A)", "Z (m)", "Current [bwd] (A)", "Z [bwd] (m)",
    ]  # fmt: skip
    assert got["data"].shape == (5, 21)
    assert np.ptp(got["data"][2]) == pytest.approx(0.5e-9, rel=1e-6)
    assert not np.array_equal(got["data"][1], got["data"][3])
    assert len(got["parameters"]) == len(panel("ZSpectr.PropsGet")["fixed_parameters"])


# Oscilloscopes


def trace(panel: CommandPanel, channel: int = CURRENT, mode: int = 0) -> tuple[Any, Any]:
    panel("Osci1T.ChSet", channel)
    got = panel("Osci1T.DataGet", mode)
    return got["t0"] + got["dt"] * np.arange(got["n"]), got["y"]


def test_the_oscilloscope_shows_the_working_point_and_noise(panel: CommandPanel) -> None:
    panel("Osci1T.Run")
    _, current = trace(panel)
    assert current.mean() == pytest.approx(panel.microscope.setpoint, rel=0.05)
    assert 0.1e-12 < current.std() < 5e-12
    assert (trace(panel, BIAS)[1] == 1.0).all()


def test_the_oscilloscope_shows_a_pulse_and_the_recovery_from_it() -> None:
    panel = CommandPanel(LAB)
    panel("Osci1T.TimebaseSet", 4)
    panel("Bias.Pulse", 1, 0.1, 4.0, 1, 2)
    panel("ZCtrl.Withdraw", 1, 200)  # the clock moves only for those who wait
    times, bias = trace(panel, BIAS)
    on = bias == 4.0
    assert on.sum() * (times[1] - times[0]) == pytest.approx(0.1, rel=0.05)
    assert set(bias) == {1.0, 4.0}
    current = trace(panel)[1]
    assert current[on].mean() > 5 * panel.microscope.setpoint


def test_the_current_of_a_dip_is_clamped_at_the_preamplifiers_range_and_recovers() -> None:
    panel = CommandPanel(LAB)
    panel("Osci1T.TimebaseSet", 5)
    panel("Osci1T.TrigSet", 1, 1, 1e-9, 0.0)
    panel.dip(1 * NM, bias=1.0)
    _, current = trace(panel)
    assert current.max() == 10e-9
    assert (current >= 9.9e-9).sum() > 100
    assert abs(current[-1]) < 0.5e-9
    z = trace(panel, Z)[1]
    assert np.ptp(z) == pytest.approx(1 * NM, rel=0.02)


def test_both_oscilloscopes_agree_on_a_pulse(panel: CommandPanel) -> None:
    for module in ("Osci1T", "Osci2T"):
        panel(f"{module}.TimebaseSet", 4)
    panel("Osci2T.ChsSet", CURRENT, BIAS)
    panel("Bias.Pulse", 1, 0.2, 3.0, 1, 2)
    two = panel("Osci2T.DataGet", 0)
    assert np.array_equal(two["b"], trace(panel, BIAS)[1])
    assert two["a"][two["b"] == 3.0].mean() > 2.5 * panel.microscope.setpoint


def test_the_next_trigger_is_that_of_an_act_to_come() -> None:
    panel = CommandPanel(time_scale=50)
    panel("Osci1T.TrigSet", 1, 1, 100e-12, 0.0)
    panel("Osci1T.TimebaseSet", 3)
    panel("Bias.Pulse", 0, 0.05, 4.0, 1, 2)
    _, current = trace(panel, mode=1)
    assert current.size == 1024


def test_nothing_triggers_and_the_wait_ends(panel: CommandPanel) -> None:
    panel("Osci2T.TrigSet", 1, 0, 1, 1.0, 0.0, 0.0)
    assert panel("Osci2T.DataGet", 2)["a"].size == 1024


# Approach


def test_the_motor_couples_spikes_into_the_preamplifier() -> None:
    panel = CommandPanel(LAB)
    panel("ZCtrl.Withdraw", 1, -1)
    panel("Motor.StartMove", Z_PLUS, 20, 0, 1)
    landings = 0
    for _ in range(10):
        panel.approach()
        if panel("Current.Get") == panel.microscope.setpoint:
            break
        landings += 1
        assert panel("ZCtrl.StatusGet") == 2
        assert panel("ZCtrl.ZPosGet") == panel("ZCtrl.LimitsGet")["low"]
    # Every step but the one that brings the surface into reach counts as a landing at 25 pA.
    assert landings == 5


def test_a_setpoint_above_the_spikes_lands_at_once() -> None:
    panel = CommandPanel(LAB)
    panel("ZCtrl.SetpntSet", 400e-12)
    panel("ZCtrl.Withdraw", 1, -1)
    panel("Motor.StartMove", Z_PLUS, 20, 0, 1)
    panel("AutoApproach.OnOffSet", 1)
    while panel("AutoApproach.OnOffGet"):
        pass
    assert panel("Current.Get") == pytest.approx(400e-12)


def test_spikes_are_seen_and_fade() -> None:
    panel = CommandPanel(LAB, time_scale=1.0)
    panel("ZCtrl.WithdrawRateSet", 1e-3)
    panel("ZCtrl.Withdraw", 1, -1)
    panel("Motor.StartMove", Z_PLUS, 1, 0, 1)
    spike = panel("Current.Get")
    assert 1e-12 < spike <= 375e-12
    while panel("Current.Get") > 1e-15:
        pass


def test_the_barrier_rules_the_current_of_a_held_tip_too(panel: CommandPanel) -> None:
    panel("ZCtrl.TipLiftSet", 0.2 * NM)
    panel("ZCtrl.OnOffSet", 0)
    fallen = math.log(panel.microscope.setpoint / panel("Current.Get"))
    decay = fallen / (2 * 0.2 * NM)
    panel("ZCtrl.OnOffSet", 1)
    assert (decay / DECAY) ** 2 == pytest.approx(barrier(panel), rel=0.05)


def test_spikes_are_given_the_smallest_first() -> None:
    with pytest.raises(ValueError, match="the smallest comes first, not 375 before 82"):
        SimulatorConfig(approach_spikes_pA=(375.0, 82.0))
