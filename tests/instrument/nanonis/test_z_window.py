"""Landings near an end of the z piezo's range: single steps away, in a verified direction only."""

from __future__ import annotations

import math
from typing import Any

import pytest

from spm_gym.config import EnvConfig, SimulatorConfig
from spm_gym.errors import BadReply, InstrumentError, OutcomeUnknown, UnsafeToContinue
from spm_gym.instrument.driver import Finding
from spm_gym.instrument.nanonis.instrument import NanonisInstrument
from spm_gym.instrument.nanonis.preflight import inspect
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.instrument.z_window import end_near, extension
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.faults import Fault
from spm_gym.servers.nanonis.server import VirtualNanonis
from spm_gym.types import Direction
from tests.support.nanonis_lab import CALM, lab, new_controller, sent
from tests.support.virtual import nanonis_settings

RETRACT = {"retract": "z+"}
APPROACH = "AutoApproach.OnOffSet"


def extended(instrument: NanonisInstrument) -> float:
    status = instrument.status()
    assert status.approached
    return extension(status.z, status.z_range)


def steps(controller: VirtualController) -> list[tuple[int, int]]:
    moves = [values for _, values in sent(controller, "Motor.StartMove")]
    return [(values["direction"], values["steps"]) for values in moves]


@pytest.mark.parametrize(
    ("lands", "taken", "ends"),
    [("near_landing", 2, 0.72), ("far_landing", 1, 0.8)],
    ids=["near", "far"],
)
def test_a_landing_outside_the_window_is_adjusted_by_single_steps_away(
    lands: str, taken: int, ends: float
) -> None:
    notes: list[str] = []
    landing = Fault(fault=lands, command=APPROACH, nth=2)
    with lab(landing, notes=notes, coarse=RETRACT) as (instrument, controller):
        instrument.verify_motor()
        instrument.approach()
        instrument.withdraw()
        controller.executed.clear()
        instrument.approach()
        assert steps(controller) == [(4, 1)] * taken
        assert extended(instrument) == pytest.approx(ends, abs=0.02)
        assert [text for text in notes if "a step away" in text]
        # In the air for every step: withdrawn before it, and looked at after it.
        acts = ("Motor.StartMove", "ZCtrl.Withdraw", APPROACH)
        names = [name for name, _ in sent(controller, *acts)]
        assert names == [APPROACH, *["ZCtrl.Withdraw", "Motor.StartMove", APPROACH] * taken]
        assert controller.microscope.fault == ""


def test_after_a_change_of_the_area_too() -> None:
    landing = Fault(fault="near_landing", command=APPROACH)
    with lab(landing, coarse=RETRACT) as (instrument, controller):
        instrument.move_area(Direction.X_PLUS)
        assert steps(controller)[-1] == (4, 1)
        assert 0.1 < extended(instrument) < 0.95


@pytest.mark.parametrize("lands", ["near_landing", "far_landing"])
@pytest.mark.parametrize("coarse", [{}, RETRACT], ids=["no motor", "not verified"])
def test_without_a_verified_direction_it_is_noted_and_nothing_is_stepped(
    lands: str, coarse: dict[str, str]
) -> None:
    notes: list[str] = []
    with lab(
        Fault(fault=lands, command=APPROACH), notes=notes, coarse=coarse
    ) as (instrument, controller):  # fmt: skip
        instrument.withdraw()
        instrument.approach()
        assert instrument.status().approached
        assert not sent(controller, "Motor.StartMove")
        assert ["not adjusted: real.nanonis.coarse.retract" in text for text in notes] == [True]


def test_a_window_that_is_off_changes_nothing() -> None:
    notes: list[str] = []
    landing = Fault(fault="near_landing", command=APPROACH, nth=2)
    with lab(landing, notes=notes, coarse=RETRACT, z_window=None) as (instrument, controller):
        instrument.verify_motor()
        instrument.approach()
        instrument.withdraw()
        controller.executed.clear()
        instrument.approach()
        assert not steps(controller)
        assert not notes


@pytest.mark.parametrize("wired", ["z+", "z-"])
def test_where_a_wrong_step_fits_below_the_tip_the_direction_is_verified(wired: str) -> None:
    controller = new_controller(retract=wired)
    with lab(controller=controller, coarse=RETRACT) as (instrument, _):
        instrument.withdraw()
        controller.let_approach_land(0.38)
        controller.executed.clear()
        if wired == "z+":
            instrument.approach()
            assert extended(instrument) == pytest.approx(0.72, abs=0.02)
            instrument.retract()  # which takes a direction that was verified
        else:
            with pytest.raises(UnsafeToContinue, match="NEARER"):
                instrument.approach()
            assert steps(controller) == [(4, 1)]
            assert not instrument.status().approached
        assert controller.microscope.fault == ""


def test_a_rewired_motor_is_found_by_one_step() -> None:
    with lab(coarse=RETRACT) as (instrument, controller):
        instrument.verify_motor()
        instrument.approach()
        instrument.withdraw()
        controller._coarse._away = -1
        controller.let_approach_land(0.38)
        controller.executed.clear()
        with pytest.raises(UnsafeToContinue, match="and away from the sample"):
            instrument.approach()
        assert steps(controller) == [(4, 1)]
        assert not instrument.status().approached


def test_steps_that_lead_nowhere_are_bounded_and_end_with_the_tip_withdrawn() -> None:
    landings = [Fault(fault="near_landing", command=APPROACH, nth=2, every=True)]
    with lab(*landings, coarse=RETRACT) as (instrument, controller):
        instrument.verify_motor()
        instrument.approach()
        instrument.withdraw()
        controller.executed.clear()
        with pytest.raises(UnsafeToContinue, match="after 3 single steps away: does the coarse"):
            instrument.approach()
        assert steps(controller) == [(4, 1)] * 3
        assert not instrument.status().approached


def test_adjustments_near_the_extended_end_are_bounded_and_harmless() -> None:
    notes: list[str] = []
    landings = [Fault(fault="far_landing", command=APPROACH, every=True)]
    with lab(*landings, notes=notes, coarse=RETRACT) as (instrument, controller):
        instrument.verify_motor()
        controller.executed.clear()
        instrument.approach()
        assert steps(controller) == [(4, 1)] * 3
        assert instrument.status().approached
        assert "also after 3 single steps away" in notes[-1]


def test_a_rewired_motor_near_the_surface_is_stopped_at_once() -> None:
    landing = Fault(fault="near_landing", command=APPROACH, nth=2)
    with lab(landing, coarse=RETRACT) as (instrument, controller):
        instrument.verify_motor()
        instrument.approach()
        instrument.withdraw()
        controller._coarse._away = -1
        controller.executed.clear()
        with pytest.raises(UnsafeToContinue, match="touches the sample after 1 steps"):
            instrument.approach()
        assert steps(controller) == [(4, 1)]
        assert sent(controller, "Motor.StopMove")
        controller.execute("Motor.StartMove", {"direction": 5, "steps": 9, "group": 0, "wait": 1})


@pytest.mark.parametrize("typed", ["z+", "z-"])
def test_no_direction_is_verified_where_a_wrong_step_would_not_fit_below_the_tip(
    typed: str,
) -> None:
    landing = Fault(fault="near_landing", command=APPROACH)
    with lab(landing, coarse={"retract": typed}) as (instrument, controller):
        instrument.withdraw()
        instrument.approach()
        for act in (instrument.verify_motor, lambda: instrument.move_area(Direction.X_PLUS)):
            with pytest.raises(UnsafeToContinue, match="would not fit below the tip"):
                act()
        assert not sent(controller, "Motor.StartMove")


@pytest.mark.parametrize(
    "error", [BadReply, OutcomeUnknown], ids=["before the approach", "after the landing"]
)
def test_a_height_that_is_no_number_moves_no_motor(
    monkeypatch: pytest.MonkeyPatch, error: type[InstrumentError]
) -> None:
    with lab(coarse=RETRACT) as (instrument, controller):
        instrument.verify_motor()
        controller.executed.clear()
        execute = controller.execute

        def answered(name: str, values: dict[str, Any], *more: Any) -> dict[str, Any]:
            reply = execute(name, values, *more)
            unknown = error is BadReply or sent(controller, "AutoApproach.OnOffGet")
            return {"z": math.nan} if name == "ZCtrl.ZPosGet" and unknown else reply

        monkeypatch.setattr(controller, "execute", answered)
        with pytest.raises(error, match="no finite number"):
            instrument.approach()
        assert not steps(controller)
        monkeypatch.undo()


def test_an_extension_that_is_no_number_is_not_within_any_window() -> None:
    assert end_near(math.nan, (0.0, 1.0)) == "retracted"
    assert [end_near(at, (0.1, 0.9)) for at in (0.1, 0.9, 0.09, 0.91)] == [
        None, None, "retracted", "extended"
    ]  # fmt: skip


def found(controller: VirtualController, **settings: object) -> Finding | None:
    """Finding about the z window in a check of this controller."""
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        real = nanonis_settings(ports=server.ports, **settings)
        findings = inspect(real, EnvConfig()).findings
    return next((each for each in findings if each.what == "z window"), None)


def drifted(pm_per_s: float, seconds: float) -> VirtualController:
    config = SimulatorConfig(**{**CALM.model_dump(), "z_drift_pm_per_s": pm_per_s})
    microscope = SimulatedMicroscope(config, seed=2)
    microscope.wait(seconds)
    return VirtualController(microscope, time_scale=0)


def test_check_reports_where_the_tip_is_and_refuses_the_end_where_it_would_crash() -> None:
    within, off = found(new_controller()), found(new_controller(), z_window=None)
    assert within is not None
    assert (within.text.endswith("within real.z_window"), within.trouble) == (True, False)
    assert off is None
    near, far = found(drifted(1.0, 235_000)), found(drifted(-1.0, 55_000))
    assert near is not None
    assert far is not None
    assert (near.trouble, far.trouble) == (True, False)
    assert "step away by hand" in near.text
    assert "approach again" in far.text
    controller = new_controller()
    controller.execute("ZCtrl.Withdraw", {"wait": 1, "timeout": -1})
    withdrawn = found(controller)
    assert withdrawn is not None
    assert "40% to 95%" in withdrawn.text
