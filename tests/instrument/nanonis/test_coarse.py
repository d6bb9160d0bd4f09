"""The coarse motor and the approach: directions are verified, and steps end where they should."""

from __future__ import annotations

import pytest

from spm_gym.errors import (
    ContactLost,
    LimitExceeded,
    UnsafeToContinue,
)
from spm_gym.servers.nanonis.faults import Fault
from spm_gym.types import Direction
from tests.support.nanonis_lab import (
    HERE,
    PA,
    lab,
    new_controller,
    sent,
)


@pytest.mark.parametrize("wired", ["z+", "z-"])
def test_a_wrong_direction_is_found_by_one_step_and_ends_the_run(wired: str) -> None:
    typed = "z-" if wired == "z+" else "z+"
    with lab(controller=new_controller(retract=wired), coarse={"retract": typed}) as (
        instrument,
        controller,
    ):
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
