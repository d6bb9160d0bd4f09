"""The seam between the commands and an instrument driver, ours or that of another package.

A driver is an object that fulfils `Driver`. Ours are in a table (`spm_gym.assembly.drivers`); other
packages declare theirs as an entry point of the group ``spm_gym.instruments``, named as the setting
``real.driver`` shall choose it. The command line puts the guard around whatever a driver connects
to, so a driver compares nothing with the limits but what is set at its instrument already.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol

from spm_gym.config import EnvConfig, RealConfig
from spm_gym.config.real import DriverSettings
from spm_gym.errors import CommandFailed
from spm_gym.instrument.contract import Instrument

SETTINGS_BEFORE = "settings_before.json"
"""File in a run's directory where a driver keeps the operator's settings until it has put them
back."""

_MISSING = {
    "status": "cannot tell bias, setpoint, current, height, or whether the tip is at the surface: "
    "what is set there, the settings have to say, and real.z_window is not kept",
    "withdraw": "cannot withdraw the tip: at the end, on a pause and on a stop it stays where it "
    "is",
    "retract": "cannot step away from the sample: a crash is recovered from without a coarse step, "
    "or ends the run",
    "coarse_motion": "makes no coarse step: a run ends when the approach area is used up",
    "previews": "cannot scan fewer lines than pixels: preview scans are refused",
    "abort": "cannot end a scan or an approach early: a pause or a stop waits for it",
    "restore": "keeps no settings of the operator: what it changes stays changed",
    "rehearse": "cannot show commands without sending them: --dry-run is refused",
    "lend": "cannot hand the tip over: operation.when_good has to be scan",
    "signals": "reads no signals by their names: operation.interlocks is refused",
    "verify_motor": "cannot verify the direction of the coarse motor: --verify-motor is refused",
    "log_commands": "keeps no log of its commands: --log-commands is refused",
}


@dataclass(frozen=True)
class Capabilities:
    """The abilities of a driver with the settings in force; those that are not claimed it lacks.

    Attributes:
        status: Tell bias, setpoint, current and height, and whether the tip is at the surface.
        withdraw: Withdraw the tip.
        retract: Step away from the sample after a crash.
        coarse_motion: Change the approach area.
        previews: Scan frames with fewer lines than pixels.
        abort: End a scan or an approach when the run is asked for something else.
        restore: Keep the operator's settings during a run and put them back, also afterwards.
        rehearse: Show commands instead of sending them.
        lend: Let a program have the tip with the operator's settings in force, and take it back
            (`Instrument.lend`); and leave it at the surface on closing if
            `DriverContext.leave_tip` says so.
        signals: Read signals by their names; the instrument then is a `SignalReader`.
        verify_motor: Find out that the coarse motor leads away from the sample; the instrument
            then is a `MotorVerifier`.
        log_commands: Log every command that is sent, with its answer.
        reasons: Why something is missing, by its name above; such as the setting that allows it.
    """

    status: bool = False
    withdraw: bool = False
    retract: bool = False
    coarse_motion: bool = False
    previews: bool = False
    abort: bool = False
    restore: bool = False
    rehearse: bool = False
    lend: bool = False
    signals: bool = False
    verify_motor: bool = False
    log_commands: bool = False
    reasons: Mapping[str, str] = field(default_factory=dict, hash=False)

    def missing(self) -> dict[str, str]:
        """List what the driver cannot do, with what follows from that, as the end of a sentence."""
        return {
            each.name: self.why_not(each.name)
            for each in fields(self)
            if each.name in _MISSING and not getattr(self, each.name)
        }

    def why_not(self, name: str) -> str:
        """Say what follows from a capability that is missing, and why it is."""
        reason = self.reasons.get(name)
        return _MISSING[name] + (f" ({reason})" if reason else "")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and whether a run would be refused because of it."""

    what: str
    text: str
    trouble: bool = False


@dataclass(frozen=True, slots=True)
class Inspection:
    """The results of a look at a microscope.

    Attributes:
        findings: In the order in which they are to be read.
        bias: That images will have, V; NaN if nobody can tell.
        setpoint: That images will have, A; NaN if nobody can tell.
        simulated: Whether the sample is known to be simulated.
    """

    findings: list[Finding]
    bias: float = math.nan
    setpoint: float = math.nan
    simulated: bool = False


@dataclass(frozen=True)
class DriverContext:
    """The run on whose behalf a driver works.

    Attributes:
        kept: File for the operator's settings while the run has changed them; None keeps none. If
            it is there, an earlier part of the run was killed and could not put them back: they are
            taken from it, and not from the instrument.
        notify: Takes sentences for the operator.
        note: Takes sentences for the record, such as what somebody else has changed.
        abort: Is asked during a scan or an approach whether to end it, by `spm_gym.errors.Aborted`.
        leave_tip: Is asked on closing whether the tip stays at the surface for the operator,
            whatever ``real.withdraw_on_exit`` says.
    """

    kept: Path | None = None
    notify: Callable[[str], None] = print
    note: Callable[[str], None] = print
    abort: Callable[[], bool] = lambda: False
    leave_tip: Callable[[], bool] = lambda: False


class Driver(Protocol):
    """Connects to one kind of instrument. A subclass overrides the first three methods at least.

    Attributes:
        settings: Class of the settings below ``real.<name of the driver>``; inside the driver,
            ``real.section(...)`` gives them.
    """

    settings: type[DriverSettings]

    @abstractmethod
    def capabilities(self, real: RealConfig) -> Capabilities:
        """Say what the driver can do with these settings; asks nobody."""
        ...

    @abstractmethod
    def connect(self, real: RealConfig, context: DriverContext) -> Instrument:
        """Connect, keep the operator's settings, set bias, setpoint and speed of ``real.imaging``.

        Its `close` leaves the safe condition, whatever state the connection is in: scan and motor
        stopped, the tip withdrawn if ``real.withdraw_on_exit`` (unless it is to be left, see
        `DriverContext.leave_tip`), the settings put back; and raises
        if one of them could not be done.

        Raises:
            InstrumentError: It cannot be reached or used; then everything is as it was.
        """
        ...

    @abstractmethod
    def preflight(self, real: RealConfig, env: EnvConfig, kept: Path | None) -> Inspection:
        """Look at the instrument as a run would need it; moves and changes nothing.

        Args:
            real: The settings of the microscope.
            env: The settings of the environment, such as the size of the approach area.
            kept: As `DriverContext.kept`: if it is there, a run goes on that was killed.

        Raises:
            InstrumentError: It does not answer.
        """
        ...

    def rehearse(
        self, real: RealConfig, simulated: Instrument, show: Callable[[str], None]
    ) -> Instrument:
        """Connect to nothing: every command is shown, and answered from a simulated microscope.

        Args:
            real: The settings of the microscope.
            simulated: Answers.
            show: Takes a line for every command.

        Raises:
            CommandFailed: The driver cannot do that.
        """
        raise CommandFailed(f"this driver {_MISSING['rehearse']}")

    def restore(self, real: RealConfig, kept: Path, notify: Callable[[str], None]) -> None:
        """Leave the instrument as a run that was killed would have left it.

        Args:
            real: The settings of that run.
            kept: Where it has kept the operator's settings.
            notify: Takes sentences for the operator.

        Raises:
            InstrumentError: It cannot be reached, or the safe condition not be had.
        """
        raise CommandFailed(f"this driver {_MISSING['restore']}")

    def log_commands(
        self, real: RealConfig, file: Path, notify: Callable[[str], None]
    ) -> AbstractContextManager[None]:
        """Log every command that this process sends within the block, with its answer.

        A log that cannot be written must neither end nor delay anything but itself.

        Args:
            real: The settings of the microscope.
            file: Of the log; goes on if it is there.
            notify: Takes the sentence that the log has ended early, on whichever thread.

        Raises:
            CommandFailed: The driver cannot do that.
            UsageError: The file is there, and no such log.
        """
        raise CommandFailed(f"this driver {_MISSING['log_commands']}")


class SignalReader(Instrument, Protocol):
    """An instrument that reads signals by their names."""

    def read_signals(self, names: Sequence[str]) -> list[float]:
        """Read the present values, in the units of the signals; moves nothing.

        Raises:
            InstrumentError: There is none of such a name, or any other failure.
        """
        ...


class MotorVerifier(Instrument, Protocol):
    """An instrument that can find out where its coarse motor leads."""

    def verify_motor(self) -> None:
        """Find out that the coarse motor leads away from the sample; leaves the tip withdrawn.

        Raises:
            UnsafeToContinue: It does not.
            InstrumentError: Any other failure.
        """
        ...
