from __future__ import annotations

import pytest

from spm_gym.errors import InstrumentError
from spm_gym.instrument.nanonis.driver import connect
from spm_gym.servers.nanonis.faults import Fault
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.fault_matrix import (
    FAULTS,
    PHASES,
    Cell,
    break_step,
    new_controller,
    play,
    possible,
    settings_on,
)

CELLS = [(fault, phase) for fault in FAULTS for phase in PHASES if possible(fault, phase)]
ACTS = ("dip", "pulse")
IMAGING = ("frame", "start scan", "scan", "data")
"""Phases in which a step with previews differs."""


def check(cell: Cell) -> None:
    assert not cell.unsafe
    assert not cell.admitted
    assert cell.acts <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "phase"), CELLS)
def test_every_fault_in_every_phase_ends_safely_and_no_act_is_repeated(
    fault: str, phase: str
) -> None:
    cell = break_step(fault, phase, seed=3)
    check(cell)
    if phase in IMAGING:
        check(break_step(fault, phase, seed=3, lines=16))
    if phase in ACTS and fault in (
        "late reply", "dropped before", "dropped after", "foreign reply", "short reply"
    ):  # fmt: skip
        assert cell.recorded == ("intended", "unknown")
        assert cell.went_on
        assert cell.acts == (fault != "dropped before")
    if fault == "split reply":
        assert cell.went_on
    if phase in ACTS and fault == "error block":
        assert cell.recorded == ("intended", "failed")
        assert not cell.went_on
        assert cell.acts == 0


@pytest.mark.parametrize("phase", ACTS)
def test_a_lost_reply_to_an_act_is_settled_by_looking(phase: str) -> None:
    cell = break_step("dropped after", phase)
    check(cell)
    assert cell.recorded == ("intended", "unknown")
    assert cell.went_on


def test_a_controller_that_is_gone_is_admitted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    controller = new_controller(seed=1)
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        config = settings_on(server.ports)
        instrument = connect(config.real)
    with pytest.raises(InstrumentError):
        instrument.status()
    with pytest.raises(InstrumentError, match=r"NOT IN THE SAFE CONDITION.*tip not withdrawn"):
        instrument.close()
    assert "withdrawn, settings restored" not in capsys.readouterr().out
    instrument.close()  # said once


def test_the_check_of_the_matrix_can_fail() -> None:
    """Negative control: a controller that refuses to withdraw is found out, and admits it."""
    rules = [Fault(fault="error", command="ZCtrl.Withdraw", every=True)]
    cell = play(1, rules, "dip 1.0 nm")
    assert cell.unsafe == ("tip not withdrawn",)
    assert cell.admitted
    rules = [Fault(fault="error", command="Bias.Set", nth=4, every=True)]  # three to get here
    cell = play(1, rules, "dip 1.0 nm")
    assert cell.unsafe == ("Bias.Get not restored",)
    assert cell.admitted
    # One that answers yes and does nothing is found out by reading back.
    rules = [Fault(fault="ignore", command="Bias.Set", nth=4, every=True)]
    cell = play(1, rules, "dip 1.0 nm")
    assert cell.unsafe == ("Bias.Get not restored",)
    assert cell.admitted
