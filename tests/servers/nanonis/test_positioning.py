"""Moves of the virtual controller: piezo, coarse motor, approach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spm_gym.instrument.sim.piezo import CREEP_OVER_S
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from tests.support.settings_pages import (
    CALM,
    X_PLUS,
    Z_MINUS,
    Z_PLUS,
    CommandPanel,
    frame,
)


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
