"""The way back to a safe state: after losses, interrupts, kills and outages."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from spm_gym.errors import (
    CommandFailed,
    ConnectionLost,
    InstrumentError,
    LimitExceeded,
    OutcomeUnknown,
    TimedOut,
)
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.instrument.nanonis.driver import connect
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.faults import Fault
from spm_gym.servers.nanonis.server import VirtualNanonis
from spm_gym.types import Direction
from tests.support.nanonis_lab import (
    CALM,
    HERE,
    lab,
    new_controller,
    sent,
)
from tests.support.virtual import nanonis_settings, silent
from tests.support.waiting import PATIENCE_S


def drop(command: str, nth: int = 1) -> Fault:
    return Fault(fault="drop", command=command, nth=nth, when="after")


def test_the_motor_is_stopped_after_a_lost_step() -> None:
    lost = pytest.raises(OutcomeUnknown, match=r"Motor\.StartMove")
    with lab(drop("Motor.StartMove"), coarse={"retract": "z+"}) as (instrument, controller), lost:
        instrument.move_area(Direction.X_PLUS)
    assert len(sent(controller, "Motor.StartMove")) == 1
    assert len(sent(controller, "Motor.StopMove")) == 1


def test_a_shutdown_that_was_interrupted_can_be_repeated() -> None:
    with lab(imaging={"bias_V": 2.0}) as (instrument, controller):
        restore = instrument._side.call

        def interrupt(name: str, **rest: Any) -> dict[str, Any]:
            if name == "Bias.Set":
                raise KeyboardInterrupt
            return restore(name, **rest)

        instrument._side.call = interrupt  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            instrument.close()
        assert controller.microscope.bias == 2.0
        instrument._side.call = restore  # type: ignore[method-assign]
        instrument.close()
        assert controller.microscope.bias == 1.0


def test_what_a_killed_run_has_left_moving_is_stopped_by_the_next(tmp_path: Path) -> None:
    before, heard, kept = tmp_path / "before.json", [], ""

    class Deaf(VirtualController):
        """Remembers what it is told while a run connects."""

        def execute(self, *command: Any, **options: Any) -> Any:
            heard.append(command[0])
            return super().execute(*command, **options)

    for killed in (False, True):
        heard.clear()
        controller = Deaf(SimulatedMicroscope(CALM, seed=2), time_scale=0)
        with VirtualNanonis(controller, ports=(0, 0)) as server:
            config = nanonis_settings(ports=server.ports, timeout_s=PATIENCE_S)
            if killed:
                before.write_text(kept)
            instrument = connect(config, silent(before))
            kept = before.read_text()
            assert ({"Motor.StopMove", "AutoApproach.OnOffSet"} <= set(heard)) is killed
            instrument.close()


def test_a_silent_controller_does_not_keep_the_operator_waiting_for_every_step() -> None:
    silent = Fault(fault="late", command="Scan.Action", every=True, seconds=1.0)
    with lab(silent, outage_s=2.0, withdraw_timeout_s=0.2) as (instrument, _):
        for connection in (instrument._main, instrument._side):
            connection.timeout = 0.2
        with pytest.raises(InstrumentError, match=r"NOT IN THE SAFE .*scan not stopped") as caught:
            instrument.close()
        assert str(caught.value).count("no reply") == 1


def test_an_outage_is_waited_for_at_shutdown_and_in_a_run() -> None:
    controller = new_controller()
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        ports = server.ports
        instrument = connect(nanonis_settings(ports=ports, outage_s=PATIENCE_S), silent())
    servers = []

    def repair_later() -> threading.Timer:
        timer = threading.Timer(
            1.0, lambda: servers.append(VirtualNanonis(controller, ports=ports))
        )
        timer.start()
        return timer

    first = repair_later()
    with pytest.raises(ConnectionLost):
        instrument.status()
    instrument.reconnect()
    assert instrument.status().approached
    first.join()
    servers.pop().close()
    second = repair_later()
    instrument.close()
    assert not controller.microscope.status().approached
    second.join()
    servers.pop().close()


def test_no_setting_can_make_a_shutdown_fail_silently() -> None:
    with pytest.raises(ValidationError, match="withdraw_timeout_s"):
        nanonis_settings(withdraw_timeout_s=3e6)
    with lab() as (instrument, _):
        own = instrument.config.nanonis.model_copy(update={"withdraw_timeout_s": 3e6})
        instrument.config = instrument.config.model_copy(update={"nanonis": own})
        with pytest.raises(InstrumentError, match=r"NOT IN THE SAFE CONDITION.* tip not withdrawn"):
            instrument.close()


def test_no_coarse_step_unless_the_retract_direction_is_known() -> None:
    with lab() as (instrument, controller):
        with pytest.raises(LimitExceeded, match=r"real\.nanonis\.coarse\.retract"):
            instrument.move_area(Direction.X_PLUS)
        assert not controller.executed


def test_the_tip_stays_at_the_surface_if_so_configured() -> None:
    with lab(withdraw_on_exit=False) as (instrument, controller):
        instrument.scan(HERE)
    assert controller.microscope.status().approached
    assert not sent(controller, "ZCtrl.Withdraw")


def test_a_port_that_serves_another_program_is_said_to() -> None:
    controller = new_controller()
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        first, second = (
            Connection("127.0.0.1", server.ports[0], patience) for patience in (PATIENCE_S, 0.3)
        )
        first.connect()
        assert first.call("Bias.Get") == {"bias": 1.0}
        second.connect()
        with pytest.raises(TimedOut, match="another program may be using this port"):
            second.call("Bias.Get")
        first.close()


def test_what_was_never_opened_is_closed_without_a_command() -> None:
    controller = new_controller()
    fault = Fault(fault="error", command="Signals.NamesGet", every=True)
    with VirtualNanonis(controller, ports=(0, 0), faults=[fault]) as server:
        with pytest.raises(CommandFailed, match=r"Signals\.NamesGet"):
            connect(nanonis_settings(ports=server.ports), silent())
        assert not sent(controller, "TipShaper.Start", "Scan.FrameDataGrab", "Motor.StartMove")
