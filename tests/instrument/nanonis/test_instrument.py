"""Acts and scans of the driver, observed at the controller."""

from __future__ import annotations

import math
import select
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_gym.errors import (
    BadReply,
    CommandFailed,
    ConnectionLost,
    ContactLost,
    InstrumentError,
    OutcomeUnknown,
    TipCrashed,
)
from spm_gym.instrument.nanonis.commands import commands
from spm_gym.instrument.nanonis.wire import encode_request
from spm_gym.servers.nanonis.faults import Fault
from spm_gym.types import Dip, Direction, Frame, Pulse
from tests.support.nanonis_lab import (
    HERE,
    NM,
    lab,
    new_controller,
    sent,
)
from tests.support.waiting import PATIENCE_S


def test_a_frame_is_centred_and_turned_as_the_controller_counts() -> None:
    with lab() as (instrument, controller):
        instrument.scan(Frame(3 * NM, -4 * NM, 10 * NM, 64, angle=math.radians(30)))
        frame = controller.execute("Scan.FrameGet", {})
        assert frame["centre_x"] == pytest.approx(3 * NM)
        assert frame["centre_y"] == pytest.approx(-4 * NM)
        assert frame["angle"] == pytest.approx(-30)


def test_a_turned_frame_shows_the_surface_turned() -> None:
    """A quarter turn counter-clockwise: the new top is what was on the left."""
    with lab() as (instrument, _):
        straight = instrument.scan(HERE).z
        turned = instrument.scan(Frame(0, 0, 10 * NM, 64, angle=math.pi / 2)).z
    level = [z - np.median(z) for z in (straight, np.rot90(turned))]
    assert np.corrcoef(*(z.ravel() for z in level))[0, 1] > 0.8


def test_a_dip_and_a_pulse_arrive_as_they_were_meant() -> None:
    with lab() as (instrument, controller):
        instrument.condition(Dip(1.8 * NM, bias=0.02, width=0.25), 5 * NM, 6 * NM)
        instrument.condition(Pulse(-4.0, width=0.1), 7 * NM, 8 * NM)
        ((_, shaper),) = sent(controller, "TipShaper.PropsSet")
        assert shaper["tip_lift"] == pytest.approx(-1.8 * NM)
        assert shaper["lift_height"] == pytest.approx(1.8 * NM)
        assert (shaper["change_bias"], shaper["restore_feedback"]) == (1, 1)
        assert shaper["bias"] == shaper["bias_lift"] == pytest.approx(0.02)
        assert shaper["lift_time_1"] == 0.25
        ((_, pulse),) = sent(controller, "Bias.Pulse")
        assert pulse == {"wait": 1, "width": pytest.approx(0.1), "bias": -4.0, "z_control": 1,
                         "mode": 2}  # fmt: skip
        assert len(sent(controller, "TipShaper.Start")) == 1
        moves = [(v["x"], v["y"]) for _, v in sent(controller, "FolMe.XYPosSet")]
        assert moves == [(5 * NM, 6 * NM), (7 * NM, 8 * NM)]


def test_safe_tip_is_off_during_acts_only() -> None:
    with lab(shaping={"safe_tip_nA": 2.0}) as (instrument, controller):
        assert controller.execute("SafeTip.OnOffGet", {})["on"] == 1
        assert controller.execute("SafeTip.PropsGet", {})["threshold"] == pytest.approx(2e-9)
        instrument.condition(Dip(1 * NM), 0, 0)
        order = [name for name, _ in sent(controller, "SafeTip.OnOffSet", "TipShaper.Start")]
        assert order == ["SafeTip.OnOffSet", "TipShaper.Start", "SafeTip.OnOffSet"]
        assert controller.execute("SafeTip.OnOffGet", {})["on"] == 1
    assert controller.execute("SafeTip.OnOffGet", {})["on"] == 0


@pytest.mark.parametrize("release", [10862, 13742, 14718])
def test_the_operators_names_and_flags_survive_a_run(release: int) -> None:
    controller = new_controller(release=release)
    values: dict[str, Any] = {
        "continuous": 1, "bouncy": 1, "autosave": 2, "series_name": "Ag", "comment": "x"
    }  # fmt: skip
    values |= {"module_names": [], "autopaste": 1}
    known = {field.name for field in commands(release)["Scan.PropsSet"].request}
    controller.execute("Scan.PropsSet", {key: values[key] for key in known})
    with lab(controller=controller, release=release) as (instrument, _):
        during = controller.execute("Scan.PropsGet", {})
        assert (during["continuous"], during["bouncy"], during["autosave"]) == (0, 0, 2)
        assert during["series_name"] == "Ag"
        assert during["comment"].startswith("x [spm-gym drives this: ")
        instrument.scan(HERE)
    after = controller.execute("Scan.PropsGet", {})
    assert (after["continuous"], after["bouncy"], after["autosave"]) == (1, 1, 1)
    assert (after["series_name"], after["comment"]) == ("Ag", "x")


def test_the_operators_channels_are_recorded_as_well() -> None:
    controller = new_controller()
    channels = {"channel_indexes": [0, 24], "pixels": 128, "lines": 128}
    controller.execute("Scan.BufferSet", channels)
    with lab(controller=controller) as (instrument, _):
        instrument.scan(HERE)
        during = list(controller.execute("Scan.BufferGet", {})["channel_indexes"])
        assert during == [0, 24, 30]
    after = controller.execute("Scan.BufferGet", {})
    assert list(after["channel_indexes"]) == [0, 24]
    assert after["pixels"] == 128


def test_settings_kept_in_a_file_until_they_are_restored(tmp_path: Path) -> None:
    keep = tmp_path / "before.json"
    with lab(keep=keep, imaging={"bias_V": 2.0, "setpoint_pA": 100}) as (_, controller):
        assert keep.is_file()
        assert controller.microscope.bias == 2.0
        assert controller.microscope.setpoint == pytest.approx(100e-12)
    assert not keep.exists()
    assert controller.microscope.bias == 1.0
    assert controller.microscope.setpoint == pytest.approx(25e-12)


@pytest.mark.parametrize(
    ("frame", "words"),
    [(Frame(0, 0, 10 * NM, 60), "multiple of 16"), (Frame(2e-6, 0, 10 * NM, 64), "centre_x")],
)
def test_what_the_controller_makes_something_else_of_is_not_scanned(
    frame: Frame, words: str
) -> None:
    with lab() as (instrument, controller):
        with pytest.raises(InstrumentError, match=words):
            instrument.scan(frame)
        assert not sent(controller, "Scan.Action")


def test_a_dip_that_the_tip_shaper_changes_is_not_done() -> None:
    fault = Fault(fault="error", command="TipShaper.PropsGet", nth=2)
    with lab(fault) as (instrument, controller):
        with pytest.raises(CommandFailed):
            instrument.condition(Dip(1 * NM), 0, 0)
        assert not sent(controller, "TipShaper.Start")


def test_out_of_reach_nothing_is_done() -> None:
    with lab() as (instrument, controller):
        with pytest.raises(InstrumentError, match="instead of"):
            instrument.condition(Pulse(4.0), 600 * NM, 0)
        assert not sent(controller, "Bias.Pulse")


@pytest.mark.parametrize(("what", "error"), [("crash", TipCrashed), ("lost contact", ContactLost)])
def test_no_act_on_a_tip_that_is_not_at_the_surface(what: Any, error: type[Exception]) -> None:
    with lab() as (instrument, controller):
        controller.inject(what)
        with pytest.raises(error):
            instrument.condition(Pulse(4.0), 0, 0)
        assert not sent(controller, "Bias.Pulse", "FolMe.XYPosSet")


def test_a_crash_is_withdrawn_from_before_it_is_approached() -> None:
    with lab() as (instrument, controller):
        controller.inject("crash")
        with pytest.raises(TipCrashed, match="withdraw"):
            instrument.approach()
        assert not sent(controller, "AutoApproach.OnOffSet")
        instrument.withdraw()
        instrument.approach()
        assert instrument.status().approached


def test_an_approach_that_does_not_end_is_stopped() -> None:
    stuck = Fault(fault="stuck_approach", command="AutoApproach.Open")
    with lab(stuck, approach_timeout_s=0.3) as (instrument, controller):
        instrument.withdraw()
        with pytest.raises(CommandFailed, match="approach_timeout_s"):
            instrument.approach()
        assert controller.execute("AutoApproach.OnOffGet", {})["on"] == 0


def drop(command: str, nth: int = 1) -> Fault:
    return Fault(fault="drop", command=command, nth=nth, when="after")


def test_an_approach_lost_on_the_way_is_unknown_not_failed() -> None:
    with lab(drop("AutoApproach.OnOffGet")) as (instrument, _):
        instrument.withdraw()
        with pytest.raises(OutcomeUnknown, match="was started"):
            instrument.approach()


def test_coarse_steps_whose_approach_is_lost_are_unknown_not_failed() -> None:
    coarse = {"retract": "z+"}
    with lab(drop("AutoApproach.Open"), coarse=coarse) as (instrument, controller):
        with pytest.raises(OutcomeUnknown, match="was stepped away"):
            instrument.move_area(Direction.X_PLUS)
        assert [s["direction"] for _, s in sent(controller, "Motor.StartMove")][-1] == 0


def test_an_act_done_before_the_connection_broke_is_not_called_failed() -> None:
    fault = drop("SafeTip.OnOffSet", nth=3)  # on at the start, off for the act, on again
    with lab(fault, shaping={"safe_tip_nA": 2.0}) as (instrument, controller):
        with pytest.raises(OutcomeUnknown, match="the act was done"):
            instrument.condition(Pulse(4.0), 0, 0)
        instrument.reconnect()
        assert len(sent(controller, "Bias.Pulse")) == 1
        assert controller.execute("SafeTip.OnOffGet", {})["on"] == 1


def test_an_act_done_is_not_called_failed_when_safe_tip_is_refused_afterwards() -> None:
    fault = Fault(fault="error", command="SafeTip.OnOffSet", nth=3)
    with lab(fault, shaping={"safe_tip_nA": 2.0}) as (instrument, controller):
        with pytest.raises(OutcomeUnknown, match="the act was done"):
            instrument.condition(Pulse(4.0), 0, 0)
        assert len(sent(controller, "Bias.Pulse")) == 1


def test_safe_tip_is_on_again_after_an_act_that_was_refused() -> None:
    fault = Fault(fault="error", command="Bias.Pulse")
    with lab(fault, shaping={"safe_tip_nA": 2.0}) as (instrument, controller):
        with pytest.raises(CommandFailed, match="Pulse"):
            instrument.condition(Pulse(4.0), 0, 0)
        assert controller.execute("SafeTip.OnOffGet", {})["on"] == 1


@pytest.mark.parametrize("command", ["SafeTip.PropsSet", "SafeTip.OnOffSet"])
def test_an_act_is_never_called_failed_for_what_came_after_it(command: str) -> None:
    nth = 2 if command == "SafeTip.PropsSet" else 3
    fault = Fault(fault="error", command=command, nth=nth)
    unknown = pytest.raises(OutcomeUnknown, match="the act was done")
    with lab(fault, shaping={"safe_tip_nA": 5.0}) as (instrument, _), unknown:
        instrument.condition(Dip(1 * NM), 0, 0)


def test_a_second_coarse_step_that_is_refused_does_not_hide_the_first() -> None:
    fault = Fault(fault="error", command="Motor.StartMove", nth=6)  # the first one sideways
    unknown = pytest.raises(OutcomeUnknown, match="was stepped away")
    with lab(fault, coarse={"retract": "z+"}) as (instrument, _), unknown:
        instrument.move_area(Direction.X_PLUS)


def test_a_reply_too_many_is_not_taken_for_the_next_one() -> None:
    with lab() as (instrument, controller):
        main = instrument._main
        main._socket.sendall(encode_request(commands(14718)["Bias.Get"], {}))
        assert select.select([main._socket], [], [], PATIENCE_S)[0]
        with pytest.raises(ConnectionLost, match="nothing was sent"):
            instrument.condition(Pulse(4.0), 0, 0)
        assert not sent(controller, "Bias.Pulse")


def test_damaged_settings_of_an_earlier_run_are_named(tmp_path: Path) -> None:
    keep = tmp_path / "before.json"
    keep.write_text('{"bias": ')
    with pytest.raises(InstrumentError, match=r"before\.json are damaged"), lab(keep=keep):
        pass


def test_a_change_of_area_steps_away_before_it_steps_sideways() -> None:
    coarse = {"retract": "z+", "retract_steps": 7, "sideways_steps": 10, "group": 2}
    with lab(coarse=coarse) as (instrument, controller):
        instrument.move_area(Direction.Y_MINUS)
        names = [name for name, _ in controller.executed]
        steps = [values for _, values in sent(controller, "Motor.StartMove")]
        assert {s["group"] for s in steps} == {1}
        # One step to see that the way is right, then never more than five between two looks.
        made = [(s["direction"], s["steps"]) for s in steps]
        assert made == [(4, 1), (4, 5), (4, 2), (3, 5), (3, 5)]
        assert names.index("ZCtrl.Withdraw") < names.index("Motor.StartMove")
        assert names.index("Motor.StartMove") < names.index("AutoApproach.OnOffSet")
        controller.executed.clear()
        instrument.move_area(Direction.Y_MINUS)
        steps = [values for _, values in sent(controller, "Motor.StartMove")]
        assert [s["steps"] for s in steps] == [5, 2, 5, 5], "once is enough"


def test_a_long_scan_is_stopped_when_the_tip_has_left_the_surface() -> None:
    fault = Fault(fault="lost_contact", command="Scan.WaitEndOfScan", nth=3)
    with lab(fault, imaging={"speed_nm_per_s": 1.0}) as (instrument, controller):
        scan = instrument.scan(HERE)
        # Seen at the next look, every half minute; waits are short so that a scan can be aborted.
        assert len(sent(controller, "Scan.WaitEndOfScan")) == 30
        assert np.isnan(scan.z[10:]).all()
        assert [v["action"] for _, v in sent(controller, "Scan.Action")] == [0, 1]


def test_an_image_that_somebody_else_scanned_is_not_taken() -> None:
    with lab() as (instrument, controller):
        real = controller.execute

        def upward(name: str, values: Any, *rest: Any) -> dict[str, Any]:
            reply = real(name, values, *rest)
            return {**reply, "scan_direction": 1} if name == "Scan.FrameDataGrab" else reply

        controller.execute = upward  # type: ignore[method-assign]
        with pytest.raises(BadReply, match="upwards"):
            instrument.scan(HERE)
        controller.execute = real  # type: ignore[method-assign]
