"""Runs to be spoilt, made once a module, and a folder of its own for every test that asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from spm_gym.cli import main, train
from tests.support.foreign import SMOKE


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of train.py, and beside it its weights; tests work on copies."""
    run = tmp_path_factory.mktemp("trained") / "run"
    weights = str(run.parent / "a.safetensors")
    options = ["--steps", "60", "--run-dir", str(run), "--output", weights]
    assert train.main(["--config", SMOKE, *options]) == 0
    return run


@pytest.fixture(scope="session")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of spm-gym run; tests work on copies."""
    run = tmp_path_factory.mktemp("operated") / "run"
    settings = ["operation.condition_after=2", "operation.learn=false", "agent.buffer_steps=100"]
    options = ["--scans", "12", "--run-dir", str(run), "--set", *settings]
    assert main(["run", *options, "simulator.tip_change_rate=0.5"]) == 0
    return run
