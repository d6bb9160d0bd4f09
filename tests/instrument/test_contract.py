"""What every microscope must do; passes on the simulator and, over TCP, on the virtual Nanonis.

On a real controller, with the tip approached on a clean place that may be spoilt:

    SPM_GYM_REAL=host:port,port pytest tests/instrument/test_contract.py -k real

scans and moves within 50 nm of the centre, withdraws and approaches; with SPM_GYM_REAL_ACTS=1 it
also sends a pulse and a dip, and with SPM_GYM_REAL_COARSE=z+ (or z-: away from the sample) it
changes the approach area.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from spm_gym.config import RealConfig, SimulatorConfig
from spm_gym.errors import ContactLost, InstrumentError
from spm_gym.imaging import level
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.nanonis.driver import connect
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.server import VirtualNanonis
from spm_gym.types import Dip, Direction, Frame, Pulse, Stall
from tests.support.virtual import nanonis_settings, silent

NM = 1e-9
CALM = SimulatorConfig(
    rough_fraction=0.0, tip_change_rate=0.0, contact_loss_rate=0.0, crash_rate=0.0
)
QUICK = {"coarse": {"retract": "z+"}}
ACTS, COARSE = (os.environ.get(f"SPM_GYM_REAL_{name}", "") for name in ("ACTS", "COARSE"))


def on_the_real_one() -> Iterator[Instrument]:
    address = os.environ.get("SPM_GYM_REAL")
    if not address:
        pytest.skip("no controller was named: SPM_GYM_REAL=host:port,port")
    host, _, ports = address.rpartition(":")
    config = RealConfig(
        host=host,
        ports=tuple(int(port) for port in ports.split(",")),
        coarse={"retract": COARSE or None},
    )
    instrument = connect(config)
    if not instrument.status().approached:  # the last test withdrew the tip
        instrument.approach()
    yield Guard(instrument, config.limits)
    instrument.close()


def on_the_virtual_one() -> Iterator[Instrument]:
    controller = VirtualController(SimulatedMicroscope(CALM, seed=5), time_scale=0)
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        config = nanonis_settings(ports=server.ports, **QUICK)
        instrument = connect(config, silent())
        yield Guard(instrument, config.limits)
        instrument.close()


@pytest.fixture(params=["simulated", "virtual", "real"])
def instrument(request: pytest.FixtureRequest) -> Iterator[Instrument]:
    if request.param == "simulated":
        yield SimulatedMicroscope(CALM, seed=5)
    else:
        yield from {"virtual": on_the_virtual_one, "real": on_the_real_one}[request.param]()


@pytest.fixture
def acting(instrument: Instrument, request: pytest.FixtureRequest) -> Instrument:
    if "real" in request.node.name and not ACTS:
        pytest.skip("SPM_GYM_REAL_ACTS=1 allows pulses and dips")
    return instrument


def frame(x: float = 0.0, y: float = 0.0) -> Frame:
    return Frame(x * NM, y * NM, 10 * NM, 64)


def test_status_makes_sense(instrument: Instrument) -> None:
    status = instrument.status()
    low, high = status.z_range
    assert status.approached
    assert low < status.z < high
    assert 0 < abs(status.current) < 100 * abs(status.setpoint)
    assert status.bias != 0


def test_a_scan_is_whole_and_within_the_z_range(instrument: Instrument) -> None:
    scan = instrument.scan(frame(20, -30))
    assert scan.frame == frame(20, -30)
    assert (scan.z.shape, scan.z.dtype) == ((64, 64), np.float32)
    assert np.isfinite(scan.z).all()
    assert scan.z_range is not None
    assert scan.z_range[0] < scan.z.min() < scan.z.max() < scan.z_range[1]
    status = instrument.status()
    assert (scan.bias, scan.setpoint) == (status.bias, status.setpoint)


@pytest.mark.parametrize(("fraction", "lines"), [(0.0, 0), (0.25, 16), (0.3, 20), (1.0, 64)])
def test_a_partial_scan_has_its_first_lines(
    instrument: Instrument, fraction: float, lines: int
) -> None:
    z = instrument.scan(frame(), fraction).z
    assert np.isfinite(z[:lines]).all()
    assert np.isnan(z[lines:]).all()


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_is_a_fraction(instrument: Instrument, fraction: float) -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        instrument.scan(frame(), fraction)


def test_the_same_place_looks_the_same_and_the_next_one_is_shifted(instrument: Instrument) -> None:
    instrument.scan(frame(), 0.25)
    first = level(instrument.scan(frame()).z)
    again = level(instrument.scan(frame()).z)
    shifted = level(instrument.scan(Frame(2.5 * NM, 0, 10 * NM, 64)).z)
    assert np.corrcoef(first.ravel(), again.ravel())[0, 1] > 0.9
    overlap = np.corrcoef(first[:, 16:].ravel(), shifted[:, :-16].ravel())[0, 1]
    assert overlap > 0.7


def test_the_top_of_the_image_lies_at_the_largest_y(instrument: Instrument) -> None:
    here = level(instrument.scan(frame()).z)
    above = level(instrument.scan(Frame(0, 2.5 * NM, 10 * NM, 64)).z)
    assert np.corrcoef(here[:-16].ravel(), above[16:].ravel())[0, 1] > 0.7


def test_a_stall_moves_the_tip_and_leaves_it_in_contact(instrument: Instrument) -> None:
    instrument.condition(Stall(), 15 * NM, 5 * NM)
    status = instrument.status()
    assert status.approached
    assert (status.x, status.y) == pytest.approx((15 * NM, 5 * NM), abs=0.5 * NM)


@pytest.mark.parametrize("act", [Dip(2.5 * NM), Pulse(-8.0)])
def test_an_act_leaves_its_mark_where_it_was_done(acting: Instrument, act: Dip | Pulse) -> None:
    place = frame(40, 40)
    acting.scan(place, 0.25)
    before = level(acting.scan(place).z)
    acting.condition(act, place.x, place.y)
    assert acting.status().approached
    after = level(acting.scan(place).z)
    changed = np.abs(after - before)
    assert changed[20:44, 20:44].max() > 150e-12
    assert acting.status().bias == pytest.approx(acting.scan(frame(), 0).bias)


def test_withdraw_is_legal_twice_and_approach_undoes_it(instrument: Instrument) -> None:
    for _ in range(2):
        instrument.withdraw()
        status = instrument.status()
        assert not status.approached
        assert status.z == pytest.approx(status.z_range[1], rel=0.02)
    with pytest.raises(ContactLost):
        instrument.scan(frame())
    with pytest.raises(ContactLost):
        instrument.condition(Pulse(2.5), 0, 0)
    instrument.approach()
    assert instrument.status().approached
    assert np.isfinite(instrument.scan(frame()).z).all()


def test_a_change_of_area_ends_at_the_centre_of_another_surface(
    instrument: Instrument, request: pytest.FixtureRequest
) -> None:
    if "real" in request.node.name and not COARSE:
        pytest.skip("SPM_GYM_REAL_COARSE allows coarse moves")
    before = level(instrument.scan(frame()).z)
    instrument.move_area(Direction.X_PLUS)
    status = instrument.status()
    assert status.approached
    assert (status.x, status.y) == pytest.approx((0, 0), abs=0.5 * NM)
    after = level(instrument.scan(frame()).z)
    assert abs(np.corrcoef(before.ravel(), after.ravel())[0, 1]) < 0.5


def test_it_goes_on_after_a_reconnect(instrument: Instrument) -> None:
    instrument.reconnect()
    assert instrument.status().approached
    assert np.isfinite(instrument.scan(frame()).z).all()


def test_what_is_out_of_reach_is_an_error(instrument: Instrument) -> None:
    with pytest.raises(InstrumentError):
        instrument.scan(Frame(2e-6, 0, 10 * NM, 64))
    with pytest.raises(InstrumentError):
        instrument.condition(Stall(), 0, -2e-6)


def test_close_is_legal_twice(instrument: Instrument) -> None:
    instrument.close()
    instrument.close()
