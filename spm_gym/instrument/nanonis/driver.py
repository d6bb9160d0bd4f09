"""The driver of a Nanonis controller."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spm_gym.config import EnvConfig, RealConfig
from spm_gym.config.real import DriverSettings, NanonisConfig
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.driver import Capabilities, Driver, DriverContext, Inspection
from spm_gym.instrument.nanonis.command_log import CLIENT, commands_logged
from spm_gym.instrument.nanonis.commands import RELEASES
from spm_gym.instrument.nanonis.connection import Connection, Controller
from spm_gym.instrument.nanonis.instrument import NanonisInstrument
from spm_gym.instrument.nanonis.preflight import inspect

MakeRehearsal = Callable[[Instrument, int, Literal["z+", "z-"], Callable[[str], None]], Controller]


def connect(real: RealConfig, context: DriverContext | None = None) -> NanonisInstrument:
    """Connect to the controller of these settings and prepare it for imaging.

    Raises:
        InstrumentError: It cannot be reached or does not answer as it should.
    """
    instrument = NanonisInstrument(*_connections(real.nanonis), real, context)
    _open(instrument)
    return instrument


def restore(real: RealConfig, kept: Path, notify: Callable[[str], None] = print) -> None:
    """Leave the controller as a run that was killed would have left it; see `Driver.restore`."""
    instrument = NanonisInstrument(*_connections(real.nanonis), real, DriverContext(kept, notify))
    try:
        instrument.open_to_restore()
    finally:
        instrument.close()


@dataclass(frozen=True)
class NanonisDriver(Driver):
    """Drives a Nanonis controller over TCP.

    Attributes:
        rehearsal: Makes what stands in for a connection: it shows every command, and answers as a
            controller of this release, whose motor retracts in this direction, would do over a
            simulated microscope. It is handed in, since servers stand above drivers.
    """

    rehearsal: MakeRehearsal
    settings: type[DriverSettings] = NanonisConfig

    def capabilities(self, real: RealConfig) -> Capabilities:
        """Say what can be done: all, but coarse steps only in a direction that is known."""
        steps = real.nanonis.coarse.retract is not None
        why = {} if steps else dict.fromkeys(_STEPS, "real.nanonis.coarse.retract is not set")
        return Capabilities(
            status=True, withdraw=True, retract=steps, coarse_motion=steps, previews=True,
            abort=True, restore=True, rehearse=True, lend=True, signals=True,
            verify_motor=steps, log_commands=True, reasons=why,
        )  # fmt: skip

    def connect(self, real: RealConfig, context: DriverContext) -> Instrument:
        """Connect; see `connect`."""
        return connect(real, context)

    def preflight(self, real: RealConfig, env: EnvConfig, kept: Path | None) -> Inspection:
        """Look; see `inspect`."""
        return inspect(real, env, kept)

    def rehearse(
        self, real: RealConfig, simulated: Instrument, show: Callable[[str], None]
    ) -> Instrument:
        """Play the controller; the newest release and z+, where the settings leave them open."""
        own = real.nanonis
        channel = self.rehearsal(
            simulated, own.release or RELEASES[-1], own.coarse.retract or "z+", show
        )
        silent = DriverContext(notify=lambda text: None, note=lambda text: None)
        instrument = NanonisInstrument(channel, channel, real, silent, sleep=lambda seconds: None)
        _open(instrument)
        return instrument

    def restore(self, real: RealConfig, kept: Path, notify: Callable[[str], None]) -> None:
        """Restore; see `restore`."""
        restore(real, kept, notify)

    def log_commands(
        self, real: RealConfig, file: Path, notify: Callable[[str], None]
    ) -> AbstractContextManager[None]:
        """Log; see `commands_logged`."""
        own = real.nanonis
        endpoint = f"{own.host}:{','.join(map(str, own.ports))}"
        return commands_logged(CLIENT, file, "client", endpoint, notify)


_STEPS = ("retract", "coarse_motion", "verify_motor")


def _connections(own: NanonisConfig) -> tuple[Connection, Connection]:
    """The two that a run needs: a port serves its commands strictly one after the other."""
    main, side = own.ports[:2]
    return Connection(own.host, main, own.timeout_s), Connection(own.host, side, own.timeout_s)


def _open(instrument: NanonisInstrument) -> None:
    try:
        instrument.open()
    except BaseException:
        instrument.close()
        raise
