"""A run to be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spm_gym.config import load_config
from tests.support.invented_runs import InventedRun


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InventedRun]:
    """A run that has started, with the settings of a real one."""
    with InventedRun(tmp_path, load_config(None, ["operation.scans=100"]).to_yaml()) as run:
        run.enter_area()
        yield run
