"""Settings in force, no matter who has set them: limits, changes, ramps, ownership."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.config import EnvConfig, SimulatorConfig
from spm_gym.errors import (
    BadReply,
    CommandFailed,
    ContactLost,
    InstrumentError,
    LimitExceeded,
    UnsafeToContinue,
)
from spm_gym.instrument.nanonis.driver import connect
from spm_gym.instrument.nanonis.instrument import NanonisInstrument
from spm_gym.instrument.nanonis.ownership import ControllerInUse
from spm_gym.instrument.nanonis.preflight import inspect
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.faults import Fault
from spm_gym.servers.nanonis.server import VirtualNanonis
from spm_gym.types import Direction, Frame, Pulse
from tests.support.virtual import nanonis_settings, silent
from tests.support.waiting import PATIENCE_S

NM = 1e-9
PA = 1e-12
CALM = SimulatorConfig(
    rough_fraction=0.0, tip_change_rate=0.0, contact_loss_rate=0.0, crash_rate=0.0
)
HERE = Frame(0.0, 0.0, 10 * NM, 64)
OPERATOR = {
    "Bias.Set": ("bias", -0.7),
    "ZCtrl.SetpntSet": ("setpoint", 50 * PA),
}


def new_controller(**kept: Any) -> VirtualController:
    return VirtualController(SimulatedMicroscope(CALM, seed=2), time_scale=0, **kept)


@contextmanager
def lab(
    *faults: Fault,
    controller: VirtualController | None = None,
    notes: list[str] | None = None,
    keep: Path | None = None,
    retract: str = "z+",
    **settings: Any,
) -> Iterator[tuple[NanonisInstrument, VirtualController]]:
    controller = controller or new_controller(retract=retract)
    with VirtualNanonis(controller, ports=(0, 0), faults=faults) as server:
        config = nanonis_settings(ports=server.ports, **{"timeout_s": PATIENCE_S, **settings})
        said = [] if notes is None else notes
        instrument = connect(config, silent(keep, said))
        controller.executed.clear()
        try:
            yield instrument, controller
        finally:
            instrument.close()


def sent(controller: VirtualController, *names: str) -> list[tuple[str, dict[str, Any]]]:
    return [entry for entry in controller.executed if entry[0] in names]


def biased(bias: float = 1.0, setpoint: float = 25 * PA) -> VirtualController:
    controller = new_controller()
    controller.execute("Bias.Set", {"bias": bias})
    controller.execute("ZCtrl.SetpntSet", {"setpoint": setpoint})
    return controller


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

    direct = _Direct(biased(start))
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


class _Direct:
    """A connection without a socket."""

    release = 14718

    def __init__(self, controller: VirtualController) -> None:
        self.controller = controller

    def call(self, name: str, *, takes: float = 0.0, act: bool = False, **values: Any) -> Any:
        return self.controller.execute(name, values)


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


# Motion


@pytest.mark.parametrize("wired", ["z+", "z-"])
def test_a_wrong_direction_is_found_by_one_step_and_ends_the_run(wired: str) -> None:
    typed = "z-" if wired == "z+" else "z+"
    with lab(retract=wired, coarse={"retract": typed}) as (instrument, controller):
        with pytest.raises(UnsafeToContinue, match=f"{typed.replace('+', '.')}.* NEARER"):
            instrument.move_area(Direction.X_PLUS)
        steps = [values["steps"] for _, values in sent(controller, "Motor.StartMove")]
        assert steps == [1]
        assert controller.microscope.fault == "", "the tip has not crashed"
        assert not instrument.status().approached
        assert not sent(controller, "AutoApproach.OnOffSet")


def test_the_right_direction_is_verified_once() -> None:
    with lab(coarse={"retract": "z+"}) as (instrument, controller):
        instrument.verify_motor()
        assert not instrument.status().approached
        instrument.approach()
        controller.executed.clear()
        instrument.move_area(Direction.X_PLUS)
        steps = [values["steps"] for _, values in sent(controller, "Motor.StartMove")]
        assert 1 not in steps


def test_a_lost_tip_is_found_again_before_the_direction_is_verified() -> None:
    with lab(coarse={"retract": "z+"}) as (instrument, controller):
        controller.inject("lost contact")
        with pytest.raises(ContactLost, match="approach first"):
            instrument.move_area(Direction.X_PLUS)
        instrument.approach()
        instrument.move_area(Direction.X_PLUS)
        assert instrument.status().approached


@pytest.mark.parametrize("typed", ["z+", "z-"])
def test_no_direction_is_verified_by_the_height_of_a_crashed_tip(typed: str) -> None:
    """At the upper end of the piezo, from where every surface is further down."""
    with lab(coarse={"retract": typed}) as (instrument, controller):
        controller.inject("crash")
        with pytest.raises(ContactLost, match="approach first"):
            instrument.verify_motor()
        assert not sent(controller, "Motor.StartMove")


def test_the_motor_frees_a_tip_that_is_in_deeper_than_the_piezo_lifts() -> None:
    with lab(coarse={"retract": "z+"}) as (instrument, controller):
        instrument.verify_motor()
        instrument.approach()
        controller.execute("Motor.StartMove", {"direction": 5, "steps": 4, "group": 0, "wait": 1})
        instrument.retract()
        assert not instrument.status().approached
        assert instrument.status().current == 0
        instrument.approach()
        assert instrument.status().approached


def test_steps_that_do_not_free_a_tip_end_after_the_first_few() -> None:
    with lab(coarse={"retract": "z+"}) as (instrument, controller):
        instrument.verify_motor()
        instrument.approach()
        controller.execute("Motor.StartMove", {"direction": 5, "steps": 40, "group": 0, "wait": 1})
        controller.executed.clear()
        with pytest.raises(UnsafeToContinue, match="touches the sample after 5 steps"):
            instrument.retract()
        assert [v["steps"] for _, v in sent(controller, "Motor.StartMove")] == [5]
        controller.execute("Motor.StartMove", {"direction": 4, "steps": 60, "group": 0, "wait": 1})


def test_the_sign_of_the_setpoint_is_that_of_the_preamplifier() -> None:
    controller = biased(setpoint=-50 * PA)
    stays = {"imaging": {"setpoint_pA": 200.0}, "withdraw_on_exit": False}
    with lab(controller=controller, **stays) as (instrument, _):
        assert instrument.status().setpoint == pytest.approx(-200 * PA)
    assert controller.microscope.setpoint == pytest.approx(-50 * PA)
    assert all(values["setpoint"] < 0 for _, values in sent(controller, "ZCtrl.SetpntSet"))


def test_nothing_is_changed_under_a_scan_of_somebody_else() -> None:
    controller = VirtualController(SimulatedMicroscope(CALM, seed=2), time_scale=1)
    controller.execute("Bias.Set", {"bias": -0.7})
    controller.execute("Scan.Action", {"action": 0, "direction": 0})
    controller.executed.clear()
    refused = pytest.raises(InstrumentError, match="a scan is running")
    with refused, lab(controller=controller, imaging={"bias_V": 1.0}):
        pass
    assert not sent(controller, "Bias.Set", "ZCtrl.OnOffSet", "Scan.Action", "ZCtrl.Withdraw")


def test_a_motor_that_does_not_move_is_said_to() -> None:
    faults = [Fault(fault="ignore", command="Motor.StartMove", every=True)]
    with lab(*faults, coarse={"retract": "z+"}) as (instrument, _):
        with pytest.raises(UnsafeToContinue, match="does the coarse motor move"):
            instrument.verify_motor()
        assert not instrument.status().approached


def test_after_a_crash_no_step_is_made_in_a_direction_nobody_has_verified() -> None:
    with lab(coarse={"retract": "z+"}) as (instrument, controller):
        controller.inject("crash")
        with pytest.raises(LimitExceeded, match="not been verified"):
            instrument.retract()
        assert not sent(controller, "Motor.StartMove")


def test_steps_end_as_soon_as_a_current_flows() -> None:
    """The direction was right once; then somebody rewired the motor."""
    with lab(coarse={"retract": "z+"}) as (instrument, controller):
        instrument.verify_motor()
        instrument.approach()
        controller._coarse._away = -1
        controller.executed.clear()
        with pytest.raises(UnsafeToContinue, match="touches the sample after 5 steps"):
            instrument.move_area(Direction.X_PLUS)
        assert [v["steps"] for _, v in sent(controller, "Motor.StartMove")] == [5]
        assert sent(controller, "Motor.StopMove")
        with pytest.raises(UnsafeToContinue, match="still draws"):
            instrument.withdraw()
        controller.execute("Motor.StartMove", {"direction": 5, "steps": 30, "group": 0, "wait": 1})


def test_an_approach_goes_on_after_false_landings_at_its_own_setpoint() -> None:
    notes: list[str] = []
    missed = [Fault(fault="false_landing", command="AutoApproach.OnOffSet", nth=n, when="before")
              for n in range(1, 8)]  # fmt: skip
    with lab(*missed, notes=notes, approach_setpoint_pA=120.0) as (instrument, controller):
        instrument.withdraw()
        controller.executed.clear()
        instrument.approach()
        assert instrument.status().approached
        assert len([text for text in notes if "without contact" in text]) == 7
        first = next(v for name, v in controller.executed if name == "ZCtrl.SetpntSet")
        assert first["setpoint"] == pytest.approx(120 * PA)
        assert instrument.scan(HERE).setpoint == pytest.approx(25 * PA)


def test_an_approach_that_finds_nothing_ends_with_its_time() -> None:
    missed = Fault(fault="false_landing", command="AutoApproach.OnOffSet", every=True)
    with lab(missed, approach_timeout_s=0.5) as (instrument, _):
        instrument.withdraw()
        with pytest.raises(ContactLost, match="approach_timeout_s"):
            instrument.approach()


# Ownership


def test_a_second_run_on_other_ports_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    controller = biased(0.7)
    with VirtualNanonis(controller, ports=(0, 0, 0, 0)) as server:
        first, second = server.ports[:2], server.ports[2:]
        mine = connect(nanonis_settings(ports=first), silent(tmp_path / "one" / "before.json"))
        before = controller.execute("Scan.PropsGet", {})["comment"]
        with pytest.raises(ControllerInUse, match=r"driven by another run.*one"):
            connect(nanonis_settings(ports=second), silent(tmp_path / "two.json"))
        assert controller.execute("Scan.PropsGet", {})["comment"] == before
        assert controller.microscope.status().approached
        mine.close()
        assert controller.execute("Scan.PropsGet", {})["comment"] == ""
        connect(nanonis_settings(ports=second), silent(tmp_path / "two.json")).close()


_KILLED = """
import os, sys
from pathlib import Path
from spm_gym.instrument.nanonis.driver import connect
from tests.support.virtual import nanonis_settings, silent
ports = [int(port) for port in sys.argv[2:]]
connect(nanonis_settings(ports=ports, imaging={"bias_V": 2.0}), silent(Path(sys.argv[1])))
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_run_has_not_restored_is_dealt_with_before_another_begins(
    tmp_path: Path,
) -> None:
    controller, kept = biased(0.7), tmp_path / "killed" / "before.json"
    kept.parent.mkdir()
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        ports = server.ports
        subprocess.run([sys.executable, "-c", _KILLED, str(kept), *map(str, ports)], check=False)
        assert controller.microscope.bias == 2.0
        with pytest.raises(ControllerInUse, match=r"killed.* restore"):
            connect(nanonis_settings(ports=ports), silent(tmp_path / "other.json"))
        assert controller.microscope.bias == 2.0
        connect(nanonis_settings(ports=ports), silent(kept)).close()
        assert controller.microscope.bias == pytest.approx(0.7)
        connect(nanonis_settings(ports=ports), silent(tmp_path / "other.json")).close()
        assert controller.microscope.bias == pytest.approx(0.7)


def test_a_killed_run_is_made_safe_whatever_is_in_force(tmp_path: Path) -> None:
    from spm_gym.instrument.nanonis.driver import restore

    controller, kept = biased(0.7), tmp_path / "before.json"
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        ports = server.ports
        subprocess.run([sys.executable, "-c", _KILLED, str(kept), *map(str, ports)], check=False)
        controller.execute("Bias.Set", {"bias": 0.0})
        with pytest.raises(LimitExceeded):
            connect(nanonis_settings(ports=ports), silent(kept))
        restore(nanonis_settings(ports=ports), kept, notify=lambda text: None)
    assert controller.microscope.bias == pytest.approx(0.7)
    assert not controller.microscope.status().approached
    assert not kept.exists()
    assert controller.execute("Scan.PropsGet", {})["comment"] == ""


def test_the_setpoint_of_an_approach_that_a_kill_has_cut_off_is_not_imaged_with(
    tmp_path: Path,
) -> None:
    controller, kept = biased(setpoint=50 * PA), tmp_path / "before.json"
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        ports = server.ports
        subprocess.run([sys.executable, "-c", _KILLED, str(kept), *map(str, ports)], check=False)
        controller.execute("ZCtrl.Withdraw", {"wait": 1, "timeout": 1000})
        controller.execute("ZCtrl.SetpntSet", {"setpoint": 300 * PA})
        config = nanonis_settings(ports=ports, approach_setpoint_pA=300.0)
        assert inspect(config, EnvConfig(), kept).setpoint == pytest.approx(50 * PA)
        instrument = connect(config, silent(kept))
        instrument.approach()
        assert instrument.scan(HERE).setpoint == pytest.approx(50 * PA)
        instrument.close()


def test_a_controller_that_keeps_a_text_for_an_empty_one_is_left_without_the_mark() -> None:
    """What an empty text means in Scan.PropsSet, no document says."""
    with lab() as (instrument, controller):
        call = instrument._side.call

        def keeping(name: str, **rest: Any) -> dict[str, Any]:
            if name == "Scan.PropsSet" and rest["comment"] == "":
                rest["comment"] = controller.execute("Scan.PropsGet", {})["comment"]
            return call(name, **rest)

        instrument._side.call = keeping  # type: ignore[method-assign]
    assert controller.execute("Scan.PropsGet", {})["comment"] == " "


def test_a_run_whose_controller_was_taken_stops() -> None:
    with lab() as (instrument, controller):
        properties = controller.execute("Scan.PropsGet", {})
        taken = {"comment": "[spm-gym drives this: /home/else/before.json on elsewhere]"}
        changes = {"continuous": 0, "bouncy": 0, "autosave": 0, "series_name": "",
                   "module_names": [], "autopaste": 0}  # fmt: skip
        controller.execute("Scan.PropsSet", {**changes, **taken})
        with pytest.raises(UnsafeToContinue, match="elsewhere"):
            instrument.scan(HERE)
        controller.execute("Scan.PropsSet", {**changes, "comment": properties["comment"]})


# Numbers that are none


NUMBERS = {
    "FolMe.XYPosGet": ("x", "y"),
    "FolMe.SpeedGet": ("speed",),
    "ZCtrl.ZPosGet": ("z",),
    "ZCtrl.SetpntGet": ("setpoint",),
    "Bias.Get": ("bias",),
    "Current.Get": ("current",),
    "Scan.SpeedGet": ("fwd_speed", "speed_ratio"),
    "Scan.FrameGet": ("centre_x", "width", "angle"),
    "TipShaper.PropsGet": ("tip_lift", "bias"),
}


PLACES = [(name, key) for name, keys in NUMBERS.items() for key in keys]
_OF_SCANS = ("Bias.Get", "ZCtrl.SetpntGet", "Scan.SpeedGet", "Scan.FrameGet")
ASKED_BY_SCANS = [place for place in PLACES if place[0] in _OF_SCANS]
ASKED_BY_ACTS = [place for place in PLACES if place[1] != "speed_ratio"]


@given(
    place=st.sampled_from(PLACES),
    value=st.sampled_from([math.nan, math.inf, -math.inf, 1e-40, -1e-40, 0.0]),
    act=st.sampled_from(["pulse", "dip", "scan"]),
)
def test_whatever_number_a_controller_returns_no_act_is_done_elsewhere_and_none_is_unknown(
    place: tuple[str, str], value: float, act: str
) -> None:
    from spm_gym.errors import OutcomeUnknown
    from spm_gym.types import Dip

    command, key = place
    if act == "pulse" and command == "TipShaper.PropsGet":
        return
    with lab() as (instrument, controller):
        call = instrument._main.call

        def lying(name: str, **rest: Any) -> dict[str, Any]:
            reply = call(name, **rest)
            return {**reply, key: value} if name == command else reply

        instrument._main.call = lying  # type: ignore[method-assign]
        try:
            if act == "scan":
                instrument.scan(HERE)
            else:
                action = Pulse(4.0) if act == "pulse" else Dip(1 * NM)
                instrument.condition(action, 5 * NM, 6 * NM)
        except InstrumentError as error:
            if isinstance(error, OutcomeUnknown):
                assert sent(controller, "Bias.Pulse", "TipShaper.Start")
            else:
                assert not sent(controller, "Bias.Pulse", "TipShaper.Start")
        else:
            asked = ASKED_BY_SCANS if act == "scan" else ASKED_BY_ACTS
            assert not math.isnan(value) or place not in asked
        instrument._main.call = call  # type: ignore[method-assign]


@pytest.mark.parametrize(("low", "high"), [(-math.inf, math.inf), (math.nan, 1e-7), (0.0, 0.0)])
def test_a_z_range_that_is_none_is_refused(low: float, high: float) -> None:
    from spm_gym.instrument.nanonis.reading import read_z_range

    direct = _Direct(new_controller())
    direct.call = lambda name, **rest: {"low": low, "high": high}  # type: ignore[method-assign]
    with pytest.raises(BadReply):
        read_z_range(direct)  # type: ignore[arg-type]
