"""A linescope that stands ready, with a calm sample."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("spm_gym.testing")

from spm_gym_linescope.bench import Bench  # noqa: E402
from spm_gym_linescope.server import LinescopeServer  # noqa: E402

from spm_gym.config import RealConfig, SimulatorConfig, load_config  # noqa: E402
from spm_gym.instrument.sim.simulated import SimulatedMicroscope  # noqa: E402

CALM = SimulatorConfig(
    rough_fraction=0.0, tip_change_rate=0.0, contact_loss_rate=0.0, crash_rate=0.0
)


@pytest.fixture
def microscope() -> SimulatedMicroscope:
    """The microscope that the linescope drives."""
    return SimulatedMicroscope(CALM, seed=5)


@pytest.fixture
def real(microscope: SimulatedMicroscope) -> Iterator[RealConfig]:
    """Settings for a linescope that listens."""
    with LinescopeServer(Bench(microscope)) as server:
        port = server.server_address[1]
        # Before the thread, which would keep pytest from ending if the driver is not installed.
        settings = load_config(None, ["real.driver=linescope", f"real.linescope.port={port}"])
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield settings.real
        server.shutdown()
        thread.join()
