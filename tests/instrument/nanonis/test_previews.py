"""Previews over the Nanonis protocol: the buffer, the time, and the image to the last bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.errors import BadReply, ContactLost, InstrumentError, TipCrashed
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.types import Dip, Pulse
from tests.support.nanonis_lab import CALM, HERE, NM, lab, sent

PREVIEW = replace(HERE, lines=16)
LIVELY = SimulatorConfig(
    contact_loss_rate=0.1, crash_rate=0.1, tip_change_rate=0.3, rough_fraction=0.2
)


def session(instrument: Instrument, steps: int = 30) -> list[Any]:
    """Previews and full scans in turn, whole and partial, with acts in between."""
    rng, found = np.random.default_rng(7), []
    for _ in range(steps):
        x, y = rng.uniform(-50, 50, 2) * NM
        lines, fraction = int(rng.choice([4, 8, 16, 32, 64])), float(rng.choice([0.25, 0.5, 1.0]))
        act = rng.choice([Dip(1.8 * NM), Pulse(-4.0)])
        try:
            scan = instrument.scan(replace(HERE, x=x, y=y, angle=0.3, lines=lines), fraction)
            found.append(scan.z)
            instrument.condition(act, x, y)
        except (ContactLost, TipCrashed) as error:
            found.append(type(error))
            instrument.withdraw()
            instrument.approach()
    return found


@pytest.mark.parametrize("world", [CALM, LIVELY], ids=["calm", "lively"])
def test_a_session_is_the_same_over_tcp_as_in_process(world: SimulatorConfig) -> None:
    controller = VirtualController(SimulatedMicroscope(world, seed=2), time_scale=0)
    with lab(controller=controller, imaging={"speed_nm_per_s": 80.0}) as (instrument, _):
        over_tcp = session(instrument)
    in_process = session(SimulatedMicroscope(world, seed=2))
    assert len(over_tcp) == len(in_process)
    for one, other in zip(over_tcp, in_process, strict=True):
        same = one is other if isinstance(one, type) else np.array_equal(one, other, equal_nan=True)
        assert same


def test_the_buffer_is_set_when_lines_change_and_only_then() -> None:
    with lab() as (instrument, controller):
        for frame in (PREVIEW, PREVIEW, HERE, HERE, PREVIEW):
            assert instrument.scan(frame).z.shape == frame.shape
        buffers = [(v["pixels"], v["lines"]) for _, v in sent(controller, "Scan.BufferSet")]
        assert buffers == [(64, 16), (64, 64), (64, 16)]
        for _, frame in sent(controller, "Scan.FrameSet"):
            assert (frame["width"], frame["height"]) == pytest.approx((10 * NM, 10 * NM))


def test_a_preview_takes_a_quarter_of_the_time() -> None:
    with lab() as (instrument, controller):
        for frame, seconds in ((HERE, 16.0), (PREVIEW, 4.0)):
            before = controller.microscope.status().time
            instrument.scan(frame)
            assert controller.microscope.status().time - before == pytest.approx(seconds)


def test_the_operators_lines_are_put_back() -> None:
    with lab() as (instrument, controller):
        instrument.scan(PREVIEW)
        assert controller.execute("Scan.BufferGet", {})["lines"] == 16
    buffer = controller.execute("Scan.BufferGet", {})
    assert buffer["lines"] == buffer["pixels"] != 16


def test_other_lines_than_those_that_were_set_are_not_scanned() -> None:
    with lab() as (instrument, controller):
        real = controller.execute

        def stubborn(name: str, values: Any, *rest: Any) -> dict[str, Any]:
            if name == "Scan.BufferSet":
                values = {**values, "lines": values["pixels"]}
            return real(name, values, *rest)

        controller.execute = stubborn  # type: ignore[method-assign]
        with pytest.raises(InstrumentError, match="scans 64 lines of 64 pixels instead of 16 of"):
            instrument.scan(PREVIEW)
        assert not sent(controller, "Scan.Action")
        controller.execute = real  # type: ignore[method-assign]


def test_data_of_another_shape_are_not_taken() -> None:
    with lab() as (instrument, controller):
        real = controller.execute

        def whole(name: str, values: Any, *rest: Any) -> dict[str, Any]:
            reply = real(name, values, *rest)
            if name == "Scan.FrameDataGrab":
                reply = {**reply, "data": np.repeat(reply["data"], 4, axis=0)}
            return reply

        controller.execute = whole  # type: ignore[method-assign]
        with pytest.raises(BadReply, match=r"\(64, 64\) pixels of 'Z \(m\)' instead of \(16, 64\)"):
            instrument.scan(PREVIEW)
        controller.execute = real  # type: ignore[method-assign]


def test_lines_that_do_not_divide_the_pixels_are_not_sent() -> None:
    with lab() as (instrument, controller):
        with pytest.raises(ValueError, match="must divide its pixels"):
            instrument.scan(replace(HERE, lines=24))
        assert not sent(controller, "Scan.BufferSet", "Scan.FrameSet", "Scan.Action")
