"""A look at a controller before a run: reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from spm_gym.config import EnvConfig, RealConfig
from spm_gym.instrument.base import InstrumentError
from spm_gym.instrument.nanonis.connection import Connection, Controller
from spm_gym.instrument.nanonis.reading import (
    ask_release,
    height_channel,
    read_status,
    read_z_range,
)

NM = 1e-9
PA = 1e-12


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and whether a run would fail because of it."""

    what: str
    text: str
    trouble: bool = False


def inspect(real: RealConfig, env: EnvConfig) -> list[Finding]:
    """Connect and read everything that a run relies on.

    Raises:
        InstrumentError: The controller cannot be reached, or does not tell its release.
    """
    controller = Connection(real.host, real.ports[0], real.timeout_s)
    try:
        controller.connect()
        controller.release = ask_release(controller, real)
        return [
            *_side_connection(real),
            *_read(controller, real, env),
            *_settings(real, env),
        ]
    finally:
        controller.close()


def _side_connection(real: RealConfig) -> Iterator[Finding]:
    side = Connection(real.host, real.ports[1], real.timeout_s)

    def ask() -> str:
        side.connect()
        side.call("Scan.StatusGet")
        return f"{real.host} ports {real.ports[0]} and {real.ports[1]} answer"

    try:
        yield _finding("connection", ask)
    finally:
        side.close()


def _read(controller: Controller, real: RealConfig, env: EnvConfig) -> Iterator[Finding]:
    call = controller.call
    yield Finding("release", f"R{controller.release}")
    yield _status(controller, real.approach_at_start)
    yield _range(controller, env)
    yield _finding("height signal", partial(_channel, controller, real.imaging.channel))
    yield _finding("tip shaper", lambda: _values(call("TipShaper.PropsGet")))
    yield _finding("safe tip", lambda: _values(call("SafeTip.PropsGet")))
    yield _finding("scan", lambda: _values(call("Scan.FrameGet")) + "; " + _scanning(controller))


def _status(controller: Controller, approach: bool) -> Finding:
    try:
        status = read_status(controller, read_z_range(controller))
    except InstrumentError as error:
        return Finding("status", str(error), trouble=True)
    low, high = (end / NM for end in status.z_range)
    then = "a run would approach automatically" if approach else "approach before a run"
    feedback = "on" if status.approached else f"off or the tip withdrawn: {then}"
    text = (
        f"bias {status.bias:g} V, setpoint {status.setpoint / PA:g} pA, current "
        f"{status.current / PA:.3g} pA, z {status.z / NM:.2f} nm of {low:g} to {high:g} nm, tip at "
        f"({status.x / NM:.1f}, {status.y / NM:.1f}) nm, feedback {feedback}"
    )
    return Finding("status", text, trouble=not (status.approached or approach))


def _range(controller: Controller, env: EnvConfig) -> Finding:
    try:
        piezo = controller.call("Piezo.RangeGet")
    except InstrumentError as error:
        return Finding("piezo range", str(error), trouble=True)
    ranges = f"{piezo['x'] / NM:.0f} x {piezo['y'] / NM:.0f} x {piezo['z'] / NM:.0f} nm"
    area = env.regions.area_nm
    if area * NM > min(piezo["x"], piezo["y"]) * (1 + 1e-6):
        text = f"{ranges}, smaller than env.regions.area_nm = {area:g}"
        return Finding("piezo range", text, trouble=True)
    return Finding("piezo range", f"{ranges}; used are {area:g} x {area:g} nm")


def _channel(controller: Controller, wanted: str) -> str:
    return f"{wanted!r} is channel {height_channel(controller, wanted)}"


def _scanning(controller: Controller) -> str:
    running = controller.call("Scan.StatusGet")["running"]
    if running:
        raise InstrumentError("a scan is running: stop it first")
    return "no scan is running"


def _settings(real: RealConfig, env: EnvConfig) -> Iterator[Finding]:
    if real.coarse.retract is None:
        yield Finding(
            "coarse motor",
            "real.coarse.retract is not set: a run ends when the approach area is used up",
        )
    else:
        yield Finding("coarse motor", f"{real.coarse.retract} is taken to retract the tip")
    if env.pixels % 16:
        text = f"env.pixels = {env.pixels} is no multiple of 16, which the controller needs"
        yield Finding("pixels", text, trouble=True)


def _finding(what: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(what, ask())
    except InstrumentError as error:
        return Finding(what, str(error), trouble=True)


def _values(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )
