"""Our simulator and our drivers pass the contract; on a real controller as well, if one is named.

On a real Nanonis, with the tip approached on a clean place that may be spoilt:

    SPM_GYM_REAL=host:port,port pytest tests/instrument/test_contract.py -k Real

scans and moves within 50 nm of the centre, withdraws and approaches; with SPM_GYM_REAL_ACTS=1 it
also sends a pulse and a dip, and with SPM_GYM_REAL_COARSE=z+ (or z-: away from the sample) it
changes the approach area.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from spm_gym.assembly.drivers import find_driver
from spm_gym.config import RealConfig, SimulatorConfig
from spm_gym.config.real import LimitsConfig
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.deepspm.client import DeepSPMInstrument
from spm_gym.instrument.deepspm.line import Timeouts
from spm_gym.instrument.driver import Capabilities, DriverContext
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.nanonis.driver import connect
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.deepspm import DeepSPMServer
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.server import VirtualNanonis
from spm_gym.testing import AbortSwitch, InstrumentContract
from spm_gym.types import Status
from tests.support.virtual import nanonis_settings
from tests.support.waiting import PATIENCE_S

CALM = SimulatorConfig(
    rough_fraction=0.0, tip_change_rate=0.0, contact_loss_rate=0.0, crash_rate=0.0
)
REAL, ACTS, COARSE = (
    os.environ.get(f"SPM_GYM_REAL{name}", "") for name in ("", "_ACTS", "_COARSE")
)


@pytest.fixture
def microscope() -> SimulatedMicroscope:
    return SimulatedMicroscope(CALM, seed=5)


def driven(real: RealConfig, abort: AbortSwitch) -> Iterator[Instrument]:
    context = DriverContext(notify=lambda text: None, note=lambda text: None, abort=abort)
    with closing(find_driver(real).connect(real, context)) as instrument:
        yield Guard(instrument, real.limits)


class TestSimulator(InstrumentContract):
    @pytest.fixture
    def instrument(self, microscope: SimulatedMicroscope) -> Instrument:
        return microscope

    @pytest.fixture
    def capabilities(self) -> Capabilities:
        return Capabilities(
            status=True, withdraw=True, retract=True, coarse_motion=True, previews=True
        )


class TestVirtualNanonis(InstrumentContract):
    @pytest.fixture
    def real(self, microscope: SimulatedMicroscope) -> Iterator[RealConfig]:
        controller = VirtualController(microscope, time_scale=0)
        with VirtualNanonis(controller, ports=(0, 0)) as server:
            yield nanonis_settings(ports=server.ports, coarse={"retract": "z+"})

    @pytest.fixture
    def instrument(self, real: RealConfig, abort: AbortSwitch) -> Iterator[Instrument]:
        yield from driven(real, abort)

    @pytest.fixture
    def capabilities(self, real: RealConfig) -> Capabilities:
        return find_driver(real).capabilities(real)

    @pytest.fixture
    def status(self, microscope: SimulatedMicroscope) -> Callable[[], Status]:
        return microscope.status


class TestDeepSPM(InstrumentContract):
    @pytest.fixture
    def instrument(self, microscope: SimulatedMicroscope) -> Iterator[Instrument]:
        waits = Timeouts(connect=PATIENCE_S, question=PATIENCE_S, pause=0.05)
        with (
            DeepSPMServer(microscope, port=0) as server,
            closing(
                DeepSPMInstrument(*server.address, bias=1.0, setpoint=25e-12, timeouts=waits)
            ) as client,
        ):
            yield Guard(client, LimitsConfig())

    @pytest.fixture
    def capabilities(self) -> Capabilities:
        real = RealConfig(driver="deepspm")
        return find_driver(real).capabilities(real)


@pytest.mark.skipif(not REAL, reason="no controller was named: SPM_GYM_REAL=host:port,port")
class TestReal(InstrumentContract):
    may_act, may_step = bool(ACTS), bool(COARSE)

    @pytest.fixture
    def real(self) -> RealConfig:
        host, _, ports = REAL.rpartition(":")
        return nanonis_settings(
            host=host,
            ports=tuple(int(port) for port in ports.split(",")),
            coarse={"retract": COARSE or None},
        )

    @pytest.fixture
    def capabilities(self, real: RealConfig) -> Capabilities:
        return find_driver(real).capabilities(real)

    @pytest.fixture
    def instrument(self, real: RealConfig, abort: AbortSwitch) -> Iterator[Instrument]:
        with closing(connect(real, DriverContext(abort=abort))) as instrument:
            if not instrument.status().approached:  # the last test has withdrawn the tip
                instrument.approach()
            yield Guard(instrument, real.limits)
