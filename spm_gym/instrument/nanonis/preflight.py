"""A look at a controller before a run: reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from spm_gym.config import EnvConfig, RealConfig
from spm_gym.config.real import NanonisConfig
from spm_gym.errors import InstrumentError
from spm_gym.instrument.driver import Finding, Inspection
from spm_gym.instrument.nanonis.connection import Connection, Controller
from spm_gym.instrument.nanonis.in_force import (
    check_limits_in_force,
    check_safe_tip,
    safe_tip_threshold,
)
from spm_gym.instrument.nanonis.ownership import in_use
from spm_gym.instrument.nanonis.reading import (
    ask_release,
    height_channel,
    holds_tip,
    is_on,
    is_virtual,
    read_bias,
    read_setpoint,
    read_status,
    read_z,
    read_z_range,
)
from spm_gym.instrument.nanonis.settings import Settings
from spm_gym.instrument.z_window import Window, described, end_near, extension, in_danger
from spm_gym.scale import NM, PA


def inspect(real: RealConfig, env: EnvConfig, kept: Path | None = None) -> Inspection:
    """Connect and read everything that a run relies on.

    Args:
        real: The settings of the microscope.
        env: The settings of the environment.
        kept: Where the run that is to begin keeps the operator's settings: if it is there, the run
            goes on after a kill, and its own scan may still be running.

    Raises:
        InstrumentError: The controller cannot be reached, or does not say its release.
    """
    own = real.nanonis
    controller = Connection(own.host, own.ports[0], own.timeout_s)
    try:
        controller.connect()
        controller.release = ask_release(controller, own)
        bias, setpoint = _imaging_values(controller, real, kept)
        findings = [
            *_side_connection(own),
            *_read(controller, real, env, kept),
            *_in_force(controller, real, bias, setpoint),
            *_settings(real, env),
        ]
        return Inspection(findings, bias, setpoint, is_virtual(controller))
    finally:
        controller.close()


def _imaging_values(
    controller: Controller, real: RealConfig, kept: Path | None
) -> tuple[float, float]:
    """Bias (V) and setpoint (A) that images will have."""
    imaging = real.imaging
    bias = controller.call("Bias.Get")["bias"] if imaging.bias_V is None else imaging.bias_V
    if imaging.setpoint_pA is not None:
        return bias, imaging.setpoint_pA * PA
    if real.nanonis.approach_setpoint_pA is not None and kept is not None and kept.is_file():
        # A kill may have left that of the approach; the run goes back to the operator's.
        return bias, Settings.load(kept, controller.release).setpoint["setpoint"]
    return bias, controller.call("ZCtrl.SetpntGet")["setpoint"]


def _in_force(
    controller: Controller, real: RealConfig, bias: float, setpoint: float
) -> Iterator[Finding]:
    imaging = real.imaging
    whose = [
        "as the operator has set it" if own is None else "of the settings"
        for own in (imaging.bias_V, imaging.setpoint_pA)
    ]
    text = (
        f"bias {bias:g} V ({whose[0]}), setpoint {setpoint / PA:g} pA ({whose[1]}), "
        f"{imaging.speed_nm_per_s:g} nm/s"
    )

    def allowed() -> str:
        check_limits_in_force(bias, setpoint, real)
        if holds_tip(controller):
            # What the settings replace is in force until then, with the tip at the surface.
            check_limits_in_force(read_bias(controller), read_setpoint(controller), real)
        return text

    yield _finding("imaging", allowed)

    def safe_tip() -> str:
        own = real.nanonis.shaping.safe_tip_nA
        threshold = safe_tip_threshold(controller) if own is None else own * NM
        check_safe_tip(threshold, setpoint, real)
        if threshold is None:
            return "off"
        whose = "as the operator has set it" if own is None else "of the settings"
        return f"withdraws the tip above {threshold / NM:.4g} nA ({whose})"

    yield _finding("safe tip", safe_tip)


def _side_connection(own: NanonisConfig) -> Iterator[Finding]:
    # A second client on a port is accepted and never served: only a reply shows that it is free.
    side = Connection(own.host, own.ports[1], own.timeout_s)

    def ask() -> str:
        side.connect()
        side.call("Scan.StatusGet")
        return f"{own.host} ports {own.ports[0]} and {own.ports[1]} answer"

    try:
        yield _finding("connection", ask)
    finally:
        side.close()


def _read(
    controller: Controller, real: RealConfig, env: EnvConfig, kept: Path | None
) -> Iterator[Finding]:
    call = controller.call
    owner = in_use(call("Scan.PropsGet")["comment"], kept)
    if owner:
        yield Finding("controller", owner, trouble=True)
    yield Finding("release", f"R{controller.release}")
    yield _status(controller, real.approach_at_start)
    if real.z_window is not None:
        yield _z_window(controller, real.z_window)
    yield _range(controller, env)
    yield _finding("height signal", partial(_channel, controller, real.nanonis.channel))
    yield _finding("tip shaper", lambda: _values(call("TipShaper.PropsGet")))
    # The scan of a run that was killed goes on by itself, and is stopped when the run does.
    resumes = kept is not None and kept.is_file()
    yield _finding(
        "scan", lambda: _values(call("Scan.FrameGet")) + "; " + _scanning(controller, resumes)
    )


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


def _z_window(controller: Controller, window: Window) -> Finding:
    name = "z window"
    try:
        extended = extension(read_z(controller), read_z_range(controller))
        approached = holds_tip(controller)
    except InstrumentError as error:
        return Finding(name, str(error), trouble=True)
    if not approached:
        least, most = window
        return Finding(
            name, f"an approach is to end with the z piezo {least:.0%} to {most:.0%} extended"
        )
    if end_near(extended, window) is None:
        return Finding(name, f"z piezo {extended:.1%} extended, within real.z_window")
    if not in_danger(extended, window):
        return Finding(name, f"{described(extended, window)}: a run would approach again")
    # Nobody has verified the coarse motor yet, and here a step in the wrong direction would crash.
    text = f"{described(extended, window)}: step away by hand, and approach"
    return Finding(name, text, trouble=True)


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


def _channel(controller: Controller, name: str) -> str:
    return f"{name!r} is channel {height_channel(controller, name)}"


def _scanning(controller: Controller, resumes: bool) -> str:
    running = controller.call("Scan.StatusGet")["running"]
    if is_on(running) and not resumes:
        raise InstrumentError("a scan is running: stop it first")
    return "no scan is running"


def _settings(real: RealConfig, env: EnvConfig) -> Iterator[Finding]:
    if real.nanonis.coarse.retract is not None:
        yield Finding("coarse motor", f"{real.nanonis.coarse.retract} is taken to retract the tip")
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
