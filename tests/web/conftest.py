"""A run in the middle of conditioning, and its live page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.invented_runs import InventedRun
from tests.support.watching import leave, lively, watched

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InventedRun]:
    with lively(tmp_path) as run:
        yield run


@pytest.fixture
def address(run: InventedRun, page: Page) -> Iterator[str]:
    with watched(run.journal.run) as address:
        yield address
        leave(page)
