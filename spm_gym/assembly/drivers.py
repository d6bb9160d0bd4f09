"""The microscope of the settings through its driver: ours, or one that another package brings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from spm_gym.assembly.simulator import build_microscope, world_seed
from spm_gym.config import Config, ConfigError, RealConfig
from spm_gym.config.drivers import load_outside_driver
from spm_gym.errors import LimitExceeded, UsageError
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.deepspm.driver import DeepSPMDriver
from spm_gym.instrument.driver import Capabilities, Driver, DriverContext
from spm_gym.instrument.guard import Guard, Record
from spm_gym.instrument.limits import check_action, check_frame
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.driver import NanonisDriver
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.instrument.z_window import Window
from spm_gym.scale import NM
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.rehearsal import Rehearsal
from spm_gym.types import Conditioning, Frame

COMMANDS = "commands.jsonl"
"""Name of a log of commands that was given none."""


def find_driver(real: RealConfig) -> Driver:
    """Find the driver that the settings choose.

    Raises:
        ConfigError: It is not installed, or cannot be used.
    """
    # Ours first: no package can take the place of a driver by having its name.
    ours = _OURS.get(real.driver)
    if ours is not None:
        return ours
    found: Driver = load_outside_driver(real.driver)
    return found


def capabilities(real: RealConfig) -> Capabilities:
    """Say what the chosen driver can do with these settings.

    Raises:
        ConfigError: It is not installed, or cannot be used.
    """
    return find_driver(real).capabilities(real)


def kept_window(real: RealConfig) -> Window | None:
    """Give the window that the z piezo is kept in; None if there is none, or the driver cannot.

    Raises:
        ConfigError: It is not installed, or cannot be used.
    """
    able = capabilities(real)
    return real.z_window if able.status and able.withdraw else None


def connect_microscope(
    config: Config,
    context: DriverContext | None = None,
    record: Record = lambda entry: None,
    history: Iterable[dict[str, Any]] = (),
) -> Guard:
    """Connect to the real microscope of these settings, within their limits.

    Args:
        config: All settings.
        context: The run on whose behalf; None prints.
        record: Takes an entry before and after every act.
        history: What was recorded before.

    Raises:
        LimitExceeded: An action or the image of the settings lies outside the limits.
        ConfigError: There is no such driver.
        InstrumentError: The microscope cannot be reached or used.
    """
    check_limits(config)
    # The guard is put here, not in the drivers: one from another package is limited like ours.
    instrument = find_driver(config.real).connect(config.real, context or DriverContext())
    return Guard(instrument, config.real.limits, record, history, allowed=allowed_acts(config))


def rehearse_microscope(config: Config, show: Callable[[str], None]) -> Guard:
    """Show every command instead of sending it; the replies come from a simulated microscope.

    Raises:
        ConfigError: The driver cannot do that.
    """
    able = capabilities(config.real)
    if not able.rehearse:
        raise ConfigError(
            f"setting real.driver = {config.real.driver}: this driver {able.why_not('rehearse')}"
        )
    check_limits(config)
    simulated = build_microscope(config, world_seed(config.seed))
    instrument = find_driver(config.real).rehearse(config.real, simulated, show)
    # Limits hold in a rehearsal as well, or it would show commands that are never sent.
    return Guard(instrument, config.real.limits, allowed=allowed_acts(config))


def allowed_acts(config: Config) -> tuple[Conditioning, ...] | None:
    """List the pulses, dips and stalls that the settings allow; None for all within the limits."""
    env = config.env
    if not config.operation.conditioning:
        return ()
    if env.allowed_actions is None:
        return None
    return tuple(action.conditioning for action in env.actions if env.may_choose(action))


def log_commands(
    given: str | None, config: Config, folder: Path, notify: Callable[[str], None]
) -> AbstractContextManager[None]:
    """Log every command to the real microscope within a block, if that was asked for.

    Args:
        given: The option's file; "" is ``commands.jsonl`` in the folder, None asks for no log.
        config: All settings.
        folder: Of the run.
        notify: Takes the sentence that the log has ended early, on whichever thread.

    Raises:
        UsageError: The file is there, and no such log.
    """
    if given is None:
        return nullcontext()
    file = Path(given) if given else folder / COMMANDS
    return find_driver(config.real).log_commands(config.real, file, notify)


def refuse_without_log(given: str | None, config: Config, dry_run: bool = False) -> None:
    """Refuse ``--log-commands`` where nothing is sent, or by a driver that keeps no log.

    Raises:
        UsageError: Names what is in the way.
    """
    if given is None:
        return
    if config.run.microscope != "real":
        raise UsageError("--log-commands goes with --env real: a simulated microscope gets none")
    if dry_run:
        raise UsageError("--log-commands with --dry-run: nothing is sent; leave one of them out")
    able = capabilities(config.real)
    if not able.log_commands:
        raise UsageError(f"--log-commands: {config.real.driver} {able.why_not('log_commands')}")


def check_limits(config: Config) -> None:
    """See that actions and images of the settings lie within the limits of the real microscope.

    Raises:
        LimitExceeded: One does not.
    """
    env = config.env
    # The image at the corner of the area reaches furthest; its limits are those of all others.
    furthest = (env.regions.area_nm - env.extent_nm) / 2 * NM
    angle = math.radians(env.angle_deg)
    frame = Frame(furthest, furthest, env.image_nm * NM, env.pixels, angle)
    check_frame(frame, config.real.limits)
    if env.preview_lines is not None:
        check_frame(replace(frame, lines=env.preview_lines), config.real.limits)
    # All of them now: a run shall not end at midnight with an action that it was never allowed.
    for action in filter(config.env.may_choose, config.env.actions):
        try:
            check_action(action.conditioning, config.real.limits)
        except LimitExceeded as error:
            raise LimitExceeded(f"action {action.name!r}: {error}") from error


def _rehearsed(
    simulated: Instrument, release: int, retract: Literal["z+", "z-"], show: Callable[[str], None]
) -> Controller:
    assert isinstance(simulated, SimulatedMicroscope)
    # Nobody waits for a scan of which only the commands are of interest.
    controller = VirtualController(simulated, time_scale=0, release=release, retract=retract)
    return Rehearsal(controller, show)


# The rehearsal is handed in: it plays a server, and drivers must not know the servers.
_OURS: dict[str, Driver] = {"nanonis": NanonisDriver(_rehearsed), "deepspm": DeepSPMDriver()}
