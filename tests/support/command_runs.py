"""Runs by the commands, and what their journals hold."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
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


def lab_training(path: str) -> list[str]:
    """Write images of a lab, and give the quickest training that goes through all stages."""
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32)).astype(np.uint8)
    np.savez(path, images=images, label=np.arange(60) % 2)
    settings = ["classifier.start=pretrained", "classifier.pretraining_epochs=1",
                "classifier.epochs=1", "classifier.refuse_poor=false", "env.pixels=32"]  # fmt: skip
    return ["classifier", "--data", path, "--set", *settings]
