"""A virtual Nanonis for other people's clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis import VirtualController, VirtualNanonis
from tests.conformance.conversation import HOST, RELEASE
from tests.support.waiting import PATIENCE_S

CALM = SimulatorConfig(
    rough_fraction=0, tip_change_rate=0, contact_loss_rate=0, crash_rate=0, creep_fraction=0
)
"""Nothing happens by accident."""


@pytest.fixture
def simulator() -> SimulatorConfig:
    """Of which microscope; a test may take another."""
    return CALM


@pytest.fixture
def release() -> int:
    """Of the controller's software; a test may take another."""
    return RELEASE


@pytest.fixture
def controller(tmp_path: Path, simulator: SimulatorConfig, release: int) -> VirtualController:
    """A controller for which nobody has to wait."""
    microscope = SimulatedMicroscope(simulator, seed=3)
    return VirtualController(microscope, release, time_scale=0, session=tmp_path / "session")


@pytest.fixture
def ports(controller: VirtualController) -> Iterator[tuple[int, ...]]:
    """Where it can be reached."""
    with VirtualNanonis(controller, ports=(0, 0, 0, 0), host=HOST) as server:
        yield server.ports


@pytest.fixture
def witness(ports: tuple[int, ...]) -> Iterator[Connection]:
    """Our own connection, on the last port."""
    connection = Connection(HOST, ports[-1], timeout=PATIENCE_S, release=RELEASE)
    connection.connect()
    yield connection
    connection.close()
