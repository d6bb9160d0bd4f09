"""Mistakes about sample, settings, motor or company are stopped in time, with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.misjudgements import ACCEPTED, MISTAKES, try_mistake

CELLS = [
    ("bare metal", "run"),
    ("bare metal", "train"),
    ("another molecule", "evaluate"),
    ("0 V", "run"),
    ("setpoint x 40", "evaluate"),
    ("classifier of AUC 0.77", "run"),
    ("wrong motor direction", "train"),
    ("wrong motor direction", "run"),
    ("Safe Tip below the setpoint", "train"),
    ("bias and setpoint changed in mid-run", "run"),
    ("bias and setpoint changed in mid-run", "evaluate"),
    ("a second program", "run"),
]
"""Each mistake that is not also tested nearer to where it is found; benchmarks try all of them."""


@pytest.mark.slow
@pytest.mark.parametrize(("mistake", "command"), CELLS)
def test_a_mistake_ends_the_command_within_its_budget(
    mistake: str, command: str, tmp_path: Path
) -> None:
    cell = try_mistake(MISTAKES[mistake], command, tmp_path)
    assert not cell.faults


@pytest.mark.slow
def test_anybody_insists_is_stopped_by_the_budget(tmp_path: Path) -> None:
    cell = try_mistake(ACCEPTED["bias of the other sign, accepted by name"], "run", tmp_path)
    assert not cell.faults
    assert 0 < cell.acts <= 40
