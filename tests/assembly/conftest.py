"""Virtual controllers in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.virtual import virtual_nanonis


@pytest.fixture(scope="module")
def ports() -> Iterator[list[int]]:
    """Of a controller for tests that leave its surface as it is."""
    with virtual_nanonis("--seed", "11") as ports:
        yield ports


@pytest.fixture
def fresh_ports() -> Iterator[list[int]]:
    """Of a controller for one test: each run conditions where the one before has left its marks."""
    with virtual_nanonis("--seed", "11") as ports:
        yield ports
