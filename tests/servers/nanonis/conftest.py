"""A virtual controller behind a panel of its commands, or on ports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.faults import Fault
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.byte_client import Client, Serve
from tests.support.settings_pages import (
    CommandPanel,
    frame,
)


@pytest.fixture
def panel() -> CommandPanel:
    return CommandPanel()


@pytest.fixture
def running() -> CommandPanel:
    """With a clock that runs, and a scan of 160 s in progress."""
    panel = CommandPanel(time_scale=1.0)
    panel("Scan.SpeedSet", 8e-9, 8e-9, 1.0, 1.0, 1, 1.0)
    panel.start(frame())
    return panel


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers; end them at last."""
    servers = []

    def begin(faults: Sequence[Fault] = (), ports: int = 2, **options: Any) -> VirtualNanonis:
        calm = SimulatorConfig(tip_change_rate=0, contact_loss_rate=0, crash_rate=0)
        controller = VirtualController(
            SimulatedMicroscope(calm, seed=5), **{"time_scale": 0, **options}
        )
        servers.append(VirtualNanonis(controller, [0] * ports, faults=faults))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


@pytest.fixture
def client(serve: Serve) -> Iterator[Client]:
    with Client(serve().ports[0]) as client:
        yield client
