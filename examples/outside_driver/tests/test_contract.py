"""The linescope passes the suite that spm-gym's own drivers pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from spm_gym_linescope.driver import DRIVER

from spm_gym.config import RealConfig
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.driver import Capabilities, DriverContext
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.testing import AbortSwitch, InstrumentContract
from spm_gym.types import Status


class TestLinescope(InstrumentContract):
    @pytest.fixture
    def instrument(self, real: RealConfig, abort: AbortSwitch) -> Iterator[Instrument]:
        context = DriverContext(notify=lambda text: None, abort=abort)
        with closing(DRIVER.connect(real, context)) as instrument:
            yield Guard(instrument, real.limits)

    @pytest.fixture
    def capabilities(self, real: RealConfig) -> Capabilities:
        return DRIVER.capabilities(real)

    @pytest.fixture
    def status(self, microscope: SimulatedMicroscope) -> Callable[[], Status]:
        return microscope.status
