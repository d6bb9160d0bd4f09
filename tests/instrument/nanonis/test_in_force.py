"""Settings in force, no matter who has set them: limits, changes, ramps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.errors import (
    CommandFailed,
    InstrumentError,
    LimitExceeded,
)
from spm_gym.instrument.nanonis.instrument import NanonisInstrument
from spm_gym.types import Direction, Pulse
from tests.support.nanonis_lab import (
    HERE,
    PA,
    Direct,
    biased,
    lab,
    new_controller,
    sent,
)
from tests.support.virtual import nanonis_settings


@pytest.mark.parametrize(
    ("bias", "setpoint", "named"),
    [
        (0.0, 25 * PA, "bias_V"),
        (1e-3, 25 * PA, "bias_V"),
        (-9.5, 25 * PA, "bias_V"),
        (1.0, 20e-9, "setpoint_pA"),
        (1.0, 25e-24, "min_setpoint_pA"),
    ],
)
@pytest.mark.parametrize("withdrawn", [False, True])
def test_values_inherited_from_the_operator_keep_the_limits(
    bias: float, setpoint: float, named: str, withdrawn: bool
) -> None:
    controller = biased(bias, setpoint)
    if withdrawn:
        controller.execute("ZCtrl.Withdraw", {"wait": 1, "timeout": 1000})
    controller.executed.clear()
    with pytest.raises(LimitExceeded, match=named), lab(controller=controller):
        pass
    done = {name for name, _ in controller.executed}
    assert not {name for name in done if name.endswith("Set") or "Withdraw" in name}, done


def test_what_the_settings_replace_before_the_tip_comes_down_needs_no_limit() -> None:
    controller = biased(0.0)
    controller.execute("ZCtrl.Withdraw", {"wait": 1, "timeout": 1000})
    with lab(controller=controller, imaging={"bias_V": 1.0}) as (instrument, _):
        instrument.approach()
        assert instrument.scan(HERE).bias == 1.0
    assert controller.microscope.bias == 0.0


def test_a_bias_of_nothing_is_not_restored_with_the_tip_at_the_surface() -> None:
    controller = biased(0.0)
    controller.execute("ZCtrl.Withdraw", {"wait": 1, "timeout": 1000})
    stays = {"imaging": {"bias_V": 1.0}, "withdraw_on_exit": False}
    refused = pytest.raises(InstrumentError, match=r"bias not restored.*limits\.bias_V")
    with refused, lab(controller=controller, **stays) as (instrument, _):
        instrument.approach()
    assert controller.microscope.bias == 1.0


@pytest.mark.parametrize("act", ["approach", "scan", "pulse", "area"])
@pytest.mark.parametrize(
    ("command", "key", "value", "named"),
    [
        ("Bias.Set", "bias", 0.0, "bias_V"),
        ("ZCtrl.SetpntSet", "setpoint", 5e-9, "setpoint_pA"),
    ],
)
def test_limits_hold_for_what_is_changed_in_mid_run(
    act: str, command: str, key: str, value: float, named: str
) -> None:
    acts: dict[str, Callable[[NanonisInstrument], object]] = {
        "approach": lambda instrument: instrument.approach(),
        "scan": lambda instrument: instrument.scan(HERE),
        "pulse": lambda instrument: instrument.condition(Pulse(4.0), 0.0, 0.0),
        "area": lambda instrument: instrument.move_area(Direction.X_PLUS),
    }
    with lab(coarse={"retract": "z+"}) as (instrument, controller):
        controller.execute(command, {key: value})
        if act == "approach":
            controller.execute("ZCtrl.Withdraw", {"wait": 1, "timeout": 1000})
        controller.executed.clear()
        with pytest.raises(InstrumentError, match=named):
            acts[act](instrument)
        assert not sent(
            controller, "Bias.Pulse", "AutoApproach.OnOffSet", "Scan.Action", "Motor.StartMove"
        )
        controller.execute(command, {key: 1.0 if key == "bias" else 25 * PA})


def test_changes_by_the_operator_are_noted_and_go_on_within_the_limits() -> None:
    notes: list[str] = []
    with lab(notes=notes) as (instrument, controller):
        instrument.scan(HERE)
        assert notes == []
        controller.execute("Bias.Set", {"bias": 1.5})
        controller.execute("ZCtrl.SetpntSet", {"setpoint": 50 * PA})
        speed = controller.execute("Scan.SpeedGet", {})
        controller.execute("Scan.SpeedSet", {**speed, "fwd_speed": 40e-9, "constant": 1})
        frame = controller.execute("Scan.FrameGet", {})
        controller.execute("Scan.FrameSet", {**frame, "centre_x": 40e-9})
        scan = instrument.scan(HERE)
        assert (scan.bias, scan.setpoint) == (1.5, pytest.approx(50 * PA))
        instrument.scan(HERE)
    text = "; ".join(notes)
    for change in ("bias from 1 to 1.5 V", "setpoint from 25 to 50 pA",
                   "speed from 80 to 40 nm/s", "at (40.0, 0.0) nm"):  # fmt: skip
        assert text.count(change) == 1, text


def test_an_image_during_which_the_bias_was_changed_is_not_used() -> None:
    with lab() as (instrument, controller):
        grab = instrument._main.call

        def meddled(name: str, **rest: Any) -> dict[str, Any]:
            if name == "Scan.FrameDataGrab":
                controller.execute("Bias.Set", {"bias": 2.0})
            return grab(name, **rest)

        instrument._main.call = meddled  # type: ignore[method-assign]
        with pytest.raises(CommandFailed, match="during the scan"):
            instrument.scan(HERE)


def test_safe_tip_below_the_setpoint_is_named_and_nothing_approaches() -> None:
    controller = biased(setpoint=200 * PA)
    controller.execute(
        "SafeTip.PropsSet", {"auto_recovery": 0, "auto_pause_scan": 0, "threshold": 100 * PA}
    )
    controller.execute("SafeTip.OnOffSet", {"on": 1})
    with pytest.raises(LimitExceeded, match="Safe Tip"), lab(controller=controller):
        pass
    assert not sent(controller, "AutoApproach.OnOffSet")
    with pytest.raises(ValueError, match="safe_tip_nA"):
        nanonis_settings(shaping={"safe_tip_nA": 0.1}, imaging={"setpoint_pA": 200.0})


bias_values = st.floats(0.02, 8.0).flatmap(lambda v: st.sampled_from([v, -v]))


@given(start=bias_values, end=bias_values, at_the_surface=st.booleans())
def test_bias_goes_in_small_steps_and_changes_sign_with_the_feedback_held(
    start: float, end: float, at_the_surface: bool
) -> None:
    from spm_gym.instrument.nanonis.ramp import change_bias

    direct = Direct(biased(start))
    if not at_the_surface:
        direct.call("ZCtrl.Withdraw", wait=1, timeout=1000)
    direct.controller.executed.clear()
    change_bias(direct, end, lambda seconds: None)  # type: ignore[arg-type]
    assert direct.controller.microscope.bias == pytest.approx(end, rel=1e-5)
    held, now = False, start
    for name, values in direct.controller.executed:
        if name == "ZCtrl.OnOffSet":
            held = not values["on"]
        if name == "Bias.Set":
            after = values["bias"]
            if at_the_surface:
                assert held or now * after > 0, "the feedback met 0 V"
                assert 1 / 1.21 < abs(after / now) < 1.21
            now = after
    assert not held


def test_a_run_at_another_bias_begins_and_ends_without_a_step() -> None:
    controller = biased(-0.7, 50 * PA)
    with lab(controller=controller, imaging={"bias_V": 1.0, "setpoint_pA": 500.0},
             withdraw_on_exit=False):  # fmt: skip
        assert controller.microscope.bias == 1.0
        assert controller.microscope.setpoint == pytest.approx(500 * PA)
    assert controller.microscope.bias == pytest.approx(-0.7)
    setpoints = [values["setpoint"] for _, values in sent(controller, "ZCtrl.SetpntSet")]
    assert len(setpoints) > 4
    assert controller.microscope.status().approached


def test_a_tip_lift_towards_the_sample_forbids_to_switch_the_feedback_off() -> None:
    controller = biased(-1.0)
    controller.execute("ZCtrl.TipLiftSet", {"lift": -1e-9})
    refused = pytest.raises(InstrumentError, match="tip lift")
    with refused, lab(controller=controller, imaging={"bias_V": 1.0}):
        pass


def test_the_sign_of_the_setpoint_is_that_of_the_preamplifier() -> None:
    controller = biased(setpoint=-50 * PA)
    stays = {"imaging": {"setpoint_pA": 200.0}, "withdraw_on_exit": False}
    with lab(controller=controller, **stays) as (instrument, _):
        assert instrument.status().setpoint == pytest.approx(-200 * PA)
    assert controller.microscope.setpoint == pytest.approx(-50 * PA)
    assert all(values["setpoint"] < 0 for _, values in sent(controller, "ZCtrl.SetpntSet"))


def test_nothing_is_changed_under_a_scan_of_somebody_else() -> None:
    controller = new_controller(time_scale=1)
    controller.execute("Bias.Set", {"bias": -0.7})
    controller.execute("Scan.Action", {"action": 0, "direction": 0})
    controller.executed.clear()
    refused = pytest.raises(InstrumentError, match="a scan is running")
    with refused, lab(controller=controller, imaging={"bias_V": 1.0}):
        pass
    assert not sent(controller, "Bias.Set", "ZCtrl.OnOffSet", "Scan.Action", "ZCtrl.Withdraw")
