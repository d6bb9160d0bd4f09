"""The tests that every instrument has to pass, for the drivers of other packages too.

Needs pytest, which spm-gym itself does not. For failures that show their values, register this
module before it is imported, in ``conftest.py``::

    pytest.register_assert_rewrite("spm_gym.testing")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from spm_gym.errors import Aborted, ContactLost, InstrumentError
from spm_gym.imaging import level
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.driver import Capabilities
from spm_gym.scale import NM
from spm_gym.types import Dip, Direction, FloatImage, Frame, Pulse, Stall, Status


class AbortSwitch:
    """Asks a scan or an approach to end while it is on."""

    def __init__(self) -> None:
        self.on = False

    def __call__(self) -> bool:
        """Tell whether the run is asked for something else."""
        return self.on


def frame(x_nm: float = 0.0, y_nm: float = 0.0) -> Frame:
    """Make a frame of 10 nm, 64 x 64 pixels, around a place near the centre."""
    return Frame(x_nm * NM, y_nm * NM, 10 * NM, 64)


def correlation(one: FloatImage, other: FloatImage) -> float:
    """Correlate the heights of two images."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


class InstrumentContract:
    """Everything that the commands rely on, test by test.

    A subclass, whose name begins with ``Test``, has the fixture `instrument`: it connects as
    the driver does, yields ``Guard(instrument, real.limits)`` with the tip at the surface of a
    sample that may be spoilt, without accidents of its own, and closes it. The tests work within
    50 nm of the centre. What the driver says that it cannot do has to be refused.

    Attributes:
        may_act: Whether pulses and dips may be sent.
        may_step: Whether the coarse motor may be moved.
    """

    may_act: ClassVar[bool] = True
    may_step: ClassVar[bool] = True

    @pytest.fixture
    def capabilities(self) -> Capabilities:
        """Capabilities of the driver; to be overridden where they are fewer than all."""
        return Capabilities(
            status=True, withdraw=True, retract=True, coarse_motion=True, previews=True,
            abort=True, restore=True, rehearse=True, lend=True, signals=True, verify_motor=True,
        )  # fmt: skip

    @pytest.fixture
    def abort(self) -> AbortSwitch:
        """To be given to the driver as `DriverContext.abort` by a fixture `instrument` that can."""
        return AbortSwitch()

    @pytest.fixture
    def status(self) -> Callable[[], Status] | None:
        """Give a look at the instrument by another way than the driver, which is closed by then."""
        return None

    @pytest.fixture
    def acting(self, instrument: Instrument) -> Instrument:
        """The instrument, where pulses and dips may be sent."""
        if not self.may_act:
            pytest.skip("pulses and dips are not allowed here")
        return instrument

    @pytest.fixture
    def stepping(self, instrument: Instrument) -> Instrument:
        """The instrument, where the coarse motor may be moved."""
        if not self.may_step:
            pytest.skip("coarse moves are not allowed here")
        return instrument

    def test_status_makes_sense(self, instrument: Instrument, capabilities: Capabilities) -> None:
        status = instrument.status()
        if not capabilities.status:
            return
        low, high = status.z_range
        assert status.approached
        assert low < status.z < high
        assert 0 < abs(status.current) < 100 * abs(status.setpoint)
        assert status.bias != 0

    def test_a_scan_is_whole_and_within_the_z_range(self, instrument: Instrument) -> None:
        scan = instrument.scan(frame(20, -30))
        assert scan.frame == frame(20, -30)
        assert scan.z.shape == (64, 64)
        assert scan.z.dtype == np.float32
        assert np.isfinite(scan.z).all()
        assert scan.z_range is not None
        assert scan.z_range[0] < scan.z.min() < scan.z.max() < scan.z_range[1]
        status = instrument.status()
        assert (scan.bias, scan.setpoint) == (status.bias, status.setpoint)

    @pytest.mark.parametrize(("fraction", "lines"), [(0.0, 0), (0.25, 16), (0.3, 20), (1.0, 64)])
    def test_a_partial_scan_has_its_first_lines(
        self, instrument: Instrument, fraction: float, lines: int
    ) -> None:
        z = instrument.scan(frame(), fraction).z
        assert np.isfinite(z[:lines]).all()
        assert np.isnan(z[lines:]).all()

    @pytest.mark.parametrize("lines", [8, 16, 32])
    def test_a_preview_has_few_lines_over_the_whole_frame(
        self, instrument: Instrument, capabilities: Capabilities, lines: int
    ) -> None:
        preview = replace(frame(), lines=lines)
        if not capabilities.previews:
            with pytest.raises(InstrumentError):
                instrument.scan(preview)
            # Nothing was sent, so nothing is in the way of the next scan.
            assert np.isfinite(instrument.scan(frame()).z).all()
            return
        instrument.scan(frame())  # to settle there
        whole = instrument.scan(frame()).z
        scan = instrument.scan(preview)
        assert scan.frame == preview
        assert scan.z.shape == (lines, 64)
        assert scan.z.dtype == np.float32
        assert np.isfinite(scan.z).all()
        # Correlated with the same rows of a full scan, and not with as many of its first lines.
        found, there, elsewhere = map(level, (scan.z, whole[preview.rows], whole[:lines]))
        assert correlation(found, there) > max(0.5, correlation(found, elsewhere))
        assert instrument.scan(frame()).z.shape == (64, 64)

    def test_a_partial_preview_has_its_first_lines(
        self, instrument: Instrument, capabilities: Capabilities
    ) -> None:
        if capabilities.previews:
            z = instrument.scan(replace(frame(), lines=16), 0.25).z
            assert np.isfinite(z[:4]).all()
            assert np.isnan(z[4:]).all()

    @pytest.mark.parametrize("lines", [0, -1, 24, 128, 16.0, float("nan")])
    def test_lines_that_do_not_divide_the_pixels_are_refused(
        self, instrument: Instrument, lines: Any
    ) -> None:
        with pytest.raises((ValueError, InstrumentError)):
            instrument.scan(replace(frame(), lines=lines))

    @pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
    def test_a_fraction_is_a_fraction(self, instrument: Instrument, fraction: float) -> None:
        with pytest.raises(ValueError, match="0 to 1"):
            instrument.scan(frame(), fraction)

    def test_the_same_place_gives_the_same_image_and_the_next_one_is_shifted(
        self, instrument: Instrument
    ) -> None:
        instrument.scan(frame(), 0.25)
        # After a partial scan, which takes the creep of the move to this place, as in a run.
        first = level(instrument.scan(frame()).z)
        again = level(instrument.scan(frame()).z)
        shifted = level(instrument.scan(frame(2.5)).z)
        assert np.corrcoef(first.ravel(), again.ravel())[0, 1] > 0.9
        assert np.corrcoef(first[:, 16:].ravel(), shifted[:, :-16].ravel())[0, 1] > 0.7

    def test_the_top_of_the_image_lies_at_the_largest_y(self, instrument: Instrument) -> None:
        # A driver that turns rows over would act at the mirrored place, and no other test would
        # notice.
        here = level(instrument.scan(frame()).z)
        above = level(instrument.scan(frame(0, 2.5)).z)
        assert np.corrcoef(here[:-16].ravel(), above[16:].ravel())[0, 1] > 0.7

    def test_a_scan_ends_early_if_the_run_is_asked_for_something_else(
        self, instrument: Instrument, capabilities: Capabilities, abort: AbortSwitch
    ) -> None:
        abort.on = True
        if capabilities.abort:
            with pytest.raises(Aborted):
                instrument.scan(frame())
            abort.on = False
        assert np.isfinite(instrument.scan(frame()).z).all()

    def test_a_stall_leaves_the_tip_in_contact(
        self, instrument: Instrument, capabilities: Capabilities
    ) -> None:
        instrument.condition(Stall(), 15 * NM, 5 * NM)
        if capabilities.status:
            status = instrument.status()
            assert status.approached
            assert (status.x, status.y) == pytest.approx((15 * NM, 5 * NM), abs=0.5 * NM)

    @pytest.mark.parametrize("act", [Dip(2.5 * NM), Pulse(-8.0)])
    def test_an_act_leaves_its_mark_where_it_was_done(
        self, acting: Instrument, act: Dip | Pulse
    ) -> None:
        place = frame(40, 40)
        acting.scan(place, 0.25)
        before = level(acting.scan(place).z)
        acting.condition(act, place.x, place.y)
        assert acting.status().approached
        after = level(acting.scan(place).z)
        # In the middle of the image, where the act was done; the drift changes all of it.
        assert np.abs(after - before)[20:44, 20:44].max() > 150e-12
        assert acting.status().bias == pytest.approx(acting.scan(frame(), 0).bias)

    def test_withdraw_is_legal_twice_and_approach_undoes_it(
        self, instrument: Instrument, capabilities: Capabilities
    ) -> None:
        if not capabilities.withdraw:
            with pytest.raises(InstrumentError):
                instrument.withdraw()
            return
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
        self, stepping: Instrument, capabilities: Capabilities
    ) -> None:
        if not capabilities.coarse_motion:
            with pytest.raises(InstrumentError):
                stepping.move_area(Direction.X_PLUS)
            return
        before = level(stepping.scan(frame()).z)
        stepping.move_area(Direction.X_PLUS)
        status = stepping.status()
        assert status.approached
        assert (status.x, status.y) == pytest.approx((0, 0), abs=0.5 * NM)
        after = level(stepping.scan(frame()).z)
        assert abs(np.corrcoef(before.ravel(), after.ravel())[0, 1]) < 0.5

    def test_a_retracted_tip_can_approach_again(
        self, stepping: Instrument, capabilities: Capabilities
    ) -> None:
        if not capabilities.retract:
            with pytest.raises(InstrumentError):
                stepping.retract()
            return
        if capabilities.coarse_motion:
            stepping.move_area(Direction.X_PLUS)  # some verify the motor's direction first
        stepping.retract()
        assert not stepping.status().approached
        stepping.approach()
        assert stepping.status().approached

    def test_it_goes_on_after_a_reconnect(
        self, instrument: Instrument, capabilities: Capabilities
    ) -> None:
        instrument.reconnect()
        assert instrument.status().approached or not capabilities.status
        assert np.isfinite(instrument.scan(frame()).z).all()

    def test_what_is_out_of_reach_is_an_error(self, instrument: Instrument) -> None:
        with pytest.raises(InstrumentError):
            instrument.scan(Frame(2e-6, 0, 10 * NM, 64))
        with pytest.raises(InstrumentError):
            instrument.condition(Stall(), 0, -2e-6)

    def test_close_is_legal_twice_and_leaves_the_tip_withdrawn(
        self,
        instrument: Instrument,
        capabilities: Capabilities,
        status: Callable[[], Status] | None,
    ) -> None:
        # Twice: a ``with`` block and the end of the interpreter may both close it.
        instrument.close()
        instrument.close()
        if status is not None and capabilities.withdraw:
            assert not status().approached
