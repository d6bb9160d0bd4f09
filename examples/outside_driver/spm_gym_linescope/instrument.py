"""A linescope as an `Instrument` of spm-gym."""

from __future__ import annotations

import atexit
import json
import math
import time
from collections.abc import Callable

import numpy as np

from spm_gym.atomic_file import written_whole
from spm_gym.config import RealConfig
from spm_gym.config.json_file import read_json
from spm_gym.errors import Aborted, CommandFailed, ContactLost, InstrumentError, LimitExceeded
from spm_gym.instrument.driver import DriverContext
from spm_gym.instrument.limits import check_bias, check_setpoint, check_speed
from spm_gym.types import Conditioning, Dip, Direction, Frame, Pulse, Scan, Status
from spm_gym_linescope.line import Line
from spm_gym_linescope.protocol import VERSION, line, numbers, read_row
from spm_gym_linescope.settings import LinescopeConfig

NM, PA = 1e-9, 1e-12
_KEPT = ("bias", "setpoint", "speed")
_CHECKS: dict[str, Callable[..., None]] = {
    "bias": check_bias,
    "setpoint": check_setpoint,
    "speed": check_speed,
}


class LinescopeInstrument:
    """A scanning tunnelling microscope behind a linescope.

    Args:
        line_to_it: Carries every request.
        real: The settings of the microscope.
        context: The run on whose behalf it works.
    """

    def __init__(self, line_to_it: Line, real: RealConfig, context: DriverContext) -> None:
        self._line = line_to_it
        self._real = real
        self._own = real.section(LinescopeConfig)
        self._context = context
        self._before: dict[str, float] | None = None

    def open(self) -> None:
        """Connect, keep the operator's settings, and set those of imaging.

        Raises:
            LimitExceeded: What would be in force lies outside the limits; nothing was changed.
            InstrumentError: It cannot be reached or used.
        """
        before = self._operators_settings()
        imaging = self._real.imaging
        required = before | {"speed": imaging.speed_nm_per_s * NM}
        if imaging.bias_V is not None:
            required["bias"] = imaging.bias_V
        if imaging.setpoint_pA is not None:
            required["setpoint"] = imaging.setpoint_pA * PA
        # What the settings leave to the operator is in force as well, so it has to be allowed too.
        for name, value in required.items():
            _CHECKS[name](value, self._real.limits)
        if self._context.kept is not None:
            with written_whole(self._context.kept) as beside:
                beside.write_text(json.dumps(before) + "\n", encoding="utf-8")
        self._take_over(before)
        for name, value in required.items():
            self._set(name, value)

    def open_to_restore(self) -> None:
        """Connect for `close` alone, which puts back what a run that was killed has kept.

        No limit is asked for: the tip is to go away from the surface, whatever is in force.
        """
        self._take_over(self._operators_settings())

    def status(self) -> Status:
        """Read the present state."""
        return ask_status(self._line)

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        """Scan a frame, line by line.

        Raises:
            ContactLost: The tip is withdrawn.
            LimitExceeded: The frame is turned, a preview, or out of reach.
            Aborted: The run is asked for something else; the scan was stopped.
            InstrumentError: Any other failure.
        """
        if frame.angle:
            raise LimitExceeded(f"a linescope turns no frame, asked for {frame.angle:g} rad")
        if frame.lines != frame.pixels:
            raise LimitExceeded(
                f"a linescope's lines lie as close as its pixels: {frame.lines} lines of "
                f"{frame.pixels} pixels are refused"
            )
        lines = math.ceil(fraction * frame.lines)
        status = self.status()
        z = np.full(frame.shape, np.nan, np.float32)
        # A row is answered when it has been scanned: forward and backward at the speed that is set.
        row_s = 2 * frame.size / (self._real.imaging.speed_nm_per_s * NM)
        self._line.ask(line("scan", frame.x, frame.y, frame.size, frame.pixels, lines))
        for row in range(lines):
            if self._context.abort():
                self._line.ask("stop")
                raise Aborted("the scan was stopped: the run is asked for something else")
            (word,) = self._line.ask(line("row", row), takes=2 * row_s)
            z[row] = read_row(word, frame.pixels)
        return Scan(frame, z, status.z_range, status.bias, status.setpoint, status.time)

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        """Move to a place (m) and condition the probe there.

        Raises:
            ContactLost: The tip is withdrawn, or the surface lost; nothing was done.
            OutcomeUnknown: It was sent, and its reply never came.
            InstrumentError: Any other failure.
        """
        if not self.status().approached:
            raise ContactLost("the tip is withdrawn: approach first")
        self._line.ask(line("move", x, y), takes=self._own.act_s)
        if isinstance(action, Dip):
            request = line("dip", action.depth, action.bias, action.width)
        elif isinstance(action, Pulse):
            request = line("pulse", action.bias, action.width)
        else:
            return
        self._line.ask(request, takes=action.width + self._own.act_s, act=True)

    def approach(self) -> None:
        """Let the linescope approach."""
        self._line.ask("approach", takes=self._own.approach_s, act=True)

    def withdraw(self) -> None:
        """Withdraw the tip; once more does no harm, so it counts as no act."""
        self._line.ask("withdraw", takes=self._own.act_s)

    def retract(self) -> None:
        """Withdraw, and step away from the sample."""
        self._line.ask(line("retract", self._own.steps), takes=self._own.approach_s, act=True)

    def move_area(self, direction: Direction) -> None:
        """Withdraw, step to a fresh approach area, and approach there."""
        request = line("area", direction.value, self._own.steps)
        self._line.ask(request, takes=2 * self._own.approach_s, act=True)

    def lend(self, work: Callable[[], None]) -> None:
        """Refuse, as the driver says of itself.

        Raises:
            CommandFailed: Always; nothing was done.
        """
        raise CommandFailed("a linescope stays with the program that it began with")

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def reconnect(self) -> None:
        """Connect again, and stop a scan that may still be running."""
        self._line.close()
        self._line.connect()
        self._line.ask("stop")

    def close(self) -> None:
        """Leave the safe condition, whatever state the connection is in; legal twice.

        Raises:
            InstrumentError: It was not reached; says what is missing.
        """
        before = self._before
        if before is None:
            self._line.close()
            return
        missing = [what for what, step in self._steps(before) if not self._done(step)]
        self._line.close()
        self._before = None
        atexit.unregister(self.close)
        if missing:
            raise InstrumentError(
                f"THE LINESCOPE IS NOT IN THE SAFE CONDITION, look at it: {', '.join(missing)}"
            )
        if self._context.kept is not None:
            self._context.kept.unlink(missing_ok=True)
        tip = "tip withdrawn" if self._real.withdraw_on_exit else "tip left as it is"
        self._context.notify(f"instrument: scan stopped, {tip}, settings restored")

    def _steps(self, before: dict[str, float]) -> list[tuple[str, Callable[[], object]]]:
        """List what belongs to the safe condition, in the order in which the tip is safest."""
        steps: list[tuple[str, Callable[[], object]]] = [
            ("scan not stopped", lambda: self._line.ask("stop"))
        ]
        if self._real.withdraw_on_exit:
            steps.append(("tip not withdrawn", self.withdraw))
        steps.append(("settings not restored", lambda: self._restore(before)))
        return steps

    def _restore(self, before: dict[str, float]) -> None:
        # No bias that the limits forbid while a tip is at the surface: it would go into the sample.
        if self.status().approached:
            check_bias(before["bias"], self._real.limits)
        for name, value in before.items():
            self._set(name, value)

    def _done(self, step: Callable[[], object]) -> bool:
        """Whether a step was done, at the second attempt over a new connection."""
        for _ in range(2):
            try:
                self._line.connect()
                step()
                return True
            except InstrumentError as error:
                self._context.notify(f"instrument: {error}")
                self._line.close()
        return False

    def _take_over(self, before: dict[str, float]) -> None:
        """From here on, something has to be put back; also if the program just ends."""
        self._before = before
        atexit.register(self.close)

    def _operators_settings(self) -> dict[str, float]:
        """The operator's settings; those that a run has kept which was killed, if there are any."""
        greet(self._line)
        kept = self._context.kept
        if kept is None or not kept.is_file():
            return {name: self._get(name) for name in _KEPT}
        try:
            before = {name: float(read_json(kept)[name]) for name in _KEPT}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InstrumentError(
                f"the settings kept in {kept} are damaged ({error}): set bias, setpoint and speed "
                "by hand, and remove the file"
            ) from error
        self._context.notify(f"settings of an earlier part of the run taken from {kept}")
        self._line.ask("stop")
        return before

    def _get(self, name: str) -> float:
        return numbers(self._line.ask(line("get", name)), 1)[0]

    def _set(self, name: str, value: float) -> None:
        self._line.ask(line("set", name, value), takes=self._own.act_s)
        if not math.isclose(self._get(name), value, rel_tol=1e-6):
            raise InstrumentError(f"the linescope keeps another {name} than {value:g}")


def greet(to_it: Line) -> bool:
    """Connect and see that this is a linescope; whether it simulates its sample."""
    to_it.connect()
    name, version, sample = [*to_it.ask("hello"), "", "", ""][:3]
    if (name, version) != ("linescope", VERSION):
        raise InstrumentError(f"this is {name} {version}, not a linescope {VERSION}")
    return sample == "simulated"


def ask_status(to_it: Line) -> Status:
    """Read the present state."""
    x, y, z, low, high, bias, setpoint, current, approached, now = numbers(to_it.ask("status"), 10)
    return Status(x, y, z, (low, high), bias, setpoint, current, bool(approached), now)
