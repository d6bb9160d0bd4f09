"""Runs by the commands, and what their journals hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spm_gym.cli import main

LIVELY = ["simulator.tip_change_rate=0.1", "env.regions.area_nm=150",
          "operation.condition_after=3"]  # fmt: skip
"""A world in which probes become bad, and areas are soon used up."""


def summary(capsys: pytest.CaptureFixture[str], run: str = "run") -> dict[str, Any]:
    """Counts of a run as `spm-gym journal` prints them."""
    capsys.readouterr()
    main(["journal", run, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found
