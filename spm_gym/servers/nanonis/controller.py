"""Virtual controller without sockets: it takes commands and returns values."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from spm_gym.errors import InstrumentError
from spm_gym.instrument.nanonis.commands import Command, commands
from spm_gym.instrument.nanonis.wire import (
    WireError,
    decode_request,
    encode_error,
    encode_reply,
)
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.bench import Bench, ClientGone, Handler, Module, Refused
from spm_gym.servers.nanonis.clock import Clock
from spm_gym.servers.nanonis.coarse import Retract, VirtualCoarseMotion
from spm_gym.servers.nanonis.defaults import INDEXES
from spm_gym.servers.nanonis.marks import Marks
from spm_gym.servers.nanonis.oscilloscope import Oscilloscopes
from spm_gym.servers.nanonis.positioning import Positioning
from spm_gym.servers.nanonis.scanning import Scanning
from spm_gym.servers.nanonis.session import SessionFolder
from spm_gym.servers.nanonis.settings import ControllerSettings
from spm_gym.servers.nanonis.spectra import BiasSpectroscopy, ZSpectroscopy
from spm_gym.servers.nanonis.tip import TipConditioning
from spm_gym.servers.nanonis.utilities import Utilities
from spm_gym.servers.nanonis.z_controller import ZController

__all__ = ["ClientGone", "Refused", "VirtualController"]

_LOG = logging.getLogger(__name__)
_REMEMBERED = 10_000
_DEVICES = 16
"""Number of modulators, of demodulators, and of outputs."""

_MAY_BE_INFINITE = ("BiasSpectr.TimingSet", "ZSpectr.TimingSet")
"""Commands with a slew rate, which is infinite where it is not limited."""

_OPENS = ("Open", "Run")
"""Commands that start a module that is not running."""

_LAZY = ("Scan.WaitEndOfScan", "Scan.WaitEndOfLine", "Scan.StatusGet")
"""Commands that need no lines of a running scan: rendered all together they cost less."""


class VirtualController:
    """Nanonis controller with a simulated microscope.

    Several threads may call `execute` at the same time, one for each port; a command that waits
    does not block the others.

    Attributes:
        microscope: The simulated microscope; only the controller may act on it.
        executed: The last commands and their arguments.
        session: Folder of saved scans.

    Args:
        microscope: Simulates the physics.
        release: Release of the software that is imitated.
        time_scale: How much faster than real time everything runs; 0: waiting takes no time, and
            the clock moves only when a command waits.
        retract: Which direction of the z motor takes the tip away from the sample.
        session: Folder for saved scans, made when the first is saved; clients may choose a folder
            below it. None: one in the system's temporary folder, made at its first use.
        zero_filled: Whether the live buffer of a scan holds zeros, not NaN, where nothing has been
            scanned yet.
        without: Modules that are not running, such as "TipShaper": their commands are refused until
            a command opens or runs them, if there is such a command.

    Raises:
        ValueError: The time scale or the direction is impossible, or there is no such module.
    """

    def __init__(
        self,
        microscope: SimulatedMicroscope,
        release: int = 14718,
        time_scale: float = 1.0,
        retract: Retract = "z+",
        session: Path | None = None,
        zero_filled: bool = False,
        without: Collection[str] = (),
    ) -> None:
        self.release = release
        self.microscope = microscope
        self.executed: deque[tuple[str, dict[str, Any]]] = deque(maxlen=_REMEMBERED)
        self._commands = commands(release)
        self._closed = {_module(name, release) for name in without}
        self._bench = bench = Bench(
            microscope, Clock(time_scale), ControllerSettings(release), release
        )
        self.session = SessionFolder(session)
        self._z = ZController(bench)
        self._scanning = Scanning(bench, self._z, self.session, zero_filled)
        self._coarse = VirtualCoarseMotion(bench, self._z, retract)
        self._positioning = Positioning(bench, self._scanning)
        modules: list[Module] = [
            self._scanning,
            self._scanning.signals,
            self._z,
            self._coarse,
            self._positioning,
            TipConditioning(bench, self._z, self._scanning),
            BiasSpectroscopy(bench, self._z, self._scanning),
            ZSpectroscopy(bench, self._z, self._scanning),
            Oscilloscopes(bench, self._z, self._scanning.signals),
            Marks(),
            Utilities(bench, self.session),
        ]
        self._handlers: dict[str, Handler] = {}
        for module in modules:
            self._handlers.update(module.handlers())

    def execute(
        self,
        name: str,
        values: Mapping[str, Any],
        is_gone: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """Carry out one command, and wait until it is done if it is one that waits.

        Args:
            name: Name of the command.
            values: Its arguments.
            is_gone: Tells whether the client has left; called again and again while waiting.

        Returns:
            The return values.

        Raises:
            Refused: There is no such command, or it cannot be carried out.
            ClientGone: The client has left; what was started goes on.
        """
        command = self._commands.get(name)
        if command is None:
            raise Refused(f"the command {name!r} does not exist in release R{self.release}")
        arguments = _arguments(command, values)
        self._check_running(name)
        with self._bench.condition:
            self._bench.caller.is_gone = is_gone
            self.executed.append((name, arguments))
            try:
                if name not in _LAZY:
                    self._update(stops=name == "Scan.Action")
                return dict(self._answer(command, arguments))
            except InstrumentError as error:
                raise Refused(f"{name}: {error}") from error
            finally:
                # The safe tip acts after every command, refused ones included.
                if self._z.trips() and self._bench.settings.of("SafeTip.Props").get(
                    "auto_pause_scan"
                ):
                    self._scanning.pause()
                self._bench.condition.notify_all()

    def reply(self, name: str, body: bytes, is_gone: Callable[[], bool] = lambda: False) -> bytes:
        """Carry out a request as it came over the wire, and return the whole message of its reply.

        Args:
            name: Of the command.
            body: Of the request.
            is_gone: As of `execute`.

        Raises:
            ClientGone: The client has left; what was started goes on.
        """
        command = self._commands.get(name)
        # Errors are an error block alone, without return values: a client finds out by the size.
        if command is None:
            return encode_error(name, f"the command {name!r} does not exist")
        try:
            values = decode_request(command, body)
            return encode_reply(command, self.execute(name, values, is_gone))
        except (Refused, WireError) as error:
            return encode_error(name, str(error))
        except ClientGone:
            raise
        except Exception as error:
            _LOG.exception("%s failed", name)
            return encode_error(name, f"internal error: {error}")

    def inject(self, what: Literal["lost contact", "crash"]) -> None:
        """Cause an accident now, if the tip is in contact."""
        with self._bench.condition:
            self._update()
            if self._z.in_contact:
                self.microscope.inject(what)

    def let_approach_hang(self) -> None:
        """Make every further automatic approach run until it is stopped."""
        with self._bench.condition:
            self._coarse.stuck = True

    def let_approach_miss(self) -> None:
        """Make the next automatic approach end with no surface in reach."""
        with self._bench.condition:
            self._coarse.false_landings += 1

    def let_approach_land(self, extension: float) -> None:
        """Make the next automatic approach end with the z piezo extended by this share."""
        with self._bench.condition:
            self._coarse.extension = extension

    def _check_running(self, name: str) -> None:
        module, _, verb = name.partition(".")
        if verb in _OPENS:
            self._closed.discard(module)
        if module in self._closed:
            raise Refused(f"Cannot access the {module} module, make sure it is running")

    def _answer(self, command: Command, arguments: dict[str, Any]) -> Mapping[str, Any]:
        handler = self._handlers.get(command.name)
        if handler is not None:
            return handler(**arguments) or {}
        # Most settings have no effect here, but a Get returns them as on a controller.
        if command.name.endswith("Set"):
            self._bench.settings.set(command, arguments)
            return {}
        return self._bench.settings.get(command, arguments)

    def _update(self, stops: bool = False) -> None:
        if not stops:  # what stops a scan renders no more of it than was done
            self._scanning.update()
        for module in (self._z, self._coarse, self._positioning):
            module.update()
        busy = self._scanning.advancing or self._coarse.busy or self._positioning.moving
        # While nothing runs, the microscope's clock follows the controller's, so that creep fades.
        if self._bench.clock.runs and not busy:
            idle = self._bench.now - self.microscope.status().time
            self.microscope.wait(max(idle, 0.0))


def modules(release: int) -> list[str]:
    """List the modules of a release: the first parts of its commands' names."""
    return sorted({name.partition(".")[0] for name in commands(release)})


def _module(name: str, release: int) -> str:
    """Find a module by its name, in capital or small letters.

    Raises:
        ValueError: There is no such module.
    """
    known = {module.lower(): module for module in modules(release)}
    if name.lower() not in known:
        raise ValueError(
            f"there is no module {name!r} in release R{release}; there are "
            f"{', '.join(known.values())}"
        )
    return known[name.lower()]


def _arguments(command: Command, values: Mapping[str, Any]) -> dict[str, Any]:
    """Check arguments, and round them as the wire would have done.

    Raises:
        Refused: An argument is missing, unknown or not finite.
    """
    names = {field.name for field in command.request}
    missing = names - values.keys() - {f.name for f in command.request if f.optional}
    if missing or values.keys() - names:
        raise Refused(f"{command.name} takes {sorted(names)}, not {sorted(values)}")
    arguments = {field.name: values.get(field.name, 0) for field in command.request}
    for key in INDEXES:
        if not 1 <= arguments.get(key, 1) <= _DEVICES:
            raise Refused(f"{command.name}: there is no {key} {arguments[key]}")
    for field in command.request:
        if field.type == "f32" and not field.array:
            arguments[field.name] = float(np.float32(arguments[field.name]))
        if field.type in ("f32", "f64") and command.name not in _MAY_BE_INFINITE:
            value = arguments[field.name]
            # NumPy takes ten times as long for a single number.
            finite = math.isfinite(value) if isinstance(value, float) else np.isfinite(value).all()
            if not finite:
                raise Refused(f"{command.name}: {field.name} = {value} is not finite")
    return arguments
