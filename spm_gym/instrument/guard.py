"""Guard around a microscope: limits are checked before anything is sent, every act is recorded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from spm_gym.config.real import LimitsConfig
from spm_gym.errors import InstrumentError, LimitExceeded, OutcomeUnknown
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.limits import check_action, check_frame, check_place
from spm_gym.instrument.validation import (
    validate_act,
    validate_answered,
    validate_direction,
    validate_duration,
    validate_scan,
    validate_status,
)
from spm_gym.types import Conditioning, Dip, Direction, Frame, Pulse, Scan, Stall, Status

_HOUR_S = 3600.0
_DAY_S = 86_400.0

Record = Callable[[dict[str, Any]], None]


class Guard:
    """Instrument that refuses requests outside its limits; fulfils `Instrument`.

    Nothing is ever clamped: a request is carried out unchanged, or refused before anything is sent.
    Before every act on the probe or on the coarse motor its intent is recorded, with height and
    current, and after it the result: "done", "refused" (nothing was sent), "failed", or "unknown".
    An act that cannot be recorded is not carried out, except a withdrawal.

    Args:
        instrument: Carries out the requests.
        limits: Limits of the requests; None for a microscope that cannot be harmed.
        record: Called with the intents and results.
        history: Earlier records, so that budgets outlive the program.
        clock: Seconds since the start of the computer, for budgets by time.
        allowed: Pulses, dips and stalls that may be done; None for all within the limits, empty
            for none at all, as in a survey.
    """

    def __init__(
        self,
        instrument: Instrument,
        limits: LimitsConfig | None,
        record: Record = lambda entry: None,
        history: Iterable[dict[str, Any]] = (),
        # Not the time of day: setting that must neither give actions back nor take them away.
        clock: Callable[[], float] = time.monotonic,
        allowed: Collection[Conditioning] | None = None,
    ) -> None:
        self.instrument = instrument
        self.limits = limits
        self._record = record
        self._clock = clock
        self._allowed = allowed
        self._started = clock()
        self._acts = 0
        self._in_area = 0
        self._times: list[float] = []
        self._area_changes: list[float] = []
        for entry in history:
            self._count_earlier(entry)

    def status(self) -> Status:
        """Read the present state.

        Raises:
            BadReply: The answer is impossible.
        """
        status = self.instrument.status()
        validate_status(status)
        return status

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        """Scan a frame.

        Raises:
            LimitExceeded: The frame is too small, too large, or reaches too far out.
            ValueError: It is not a frame, or the fraction is not within 0 to 1.
            BadReply: The answer is not a possible scan of that frame.
        """
        validate_scan(frame, fraction)
        if self.limits is not None:
            check_frame(frame, self.limits)
        scan = self.instrument.scan(frame, fraction)
        validate_answered(scan, frame)
        return scan

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        """Condition the probe.

        Raises:
            LimitExceeded: The action is not allowed, it or the place is out of bounds, or a budget
                is spent.
            ValueError: The action is not one, or a parameter is not a number.
        """
        validate_act(action, x, y)
        # Here too, although masks and surveys leave them out: the last place before the wire.
        if self._allowed is not None and action not in self._allowed:
            why = (
                f"{action} is not one of env.allowed_actions"
                if self._allowed
                else "the probe is not to be conditioned (operation.conditioning = false)"
            )
            raise LimitExceeded(f"{type(action).__name__.lower()} refused: {why}")
        if self.limits is not None:
            check_place(x, y, self.limits)
            check_action(action, self.limits)
            if not isinstance(action, Stall):
                # Spent before the act: one that fails may have reached the probe all the same.
                self._spend(self.limits)
        self._act(
            {"act": type(action).__name__.lower(), **_numbers(action), "x": x, "y": y},
            lambda: self.instrument.condition(action, x, y),
        )

    def approach(self) -> None:
        """Approach."""
        self._act({"act": "approach"}, self.instrument.approach)

    def withdraw(self) -> None:
        """Withdraw, even if that cannot be recorded."""
        try:
            self._act({"act": "withdraw"}, self.instrument.withdraw)
        except InstrumentError:
            raise
        except Exception:
            # A full disk, for example. The tip in contact is the greater danger.
            self.instrument.withdraw()
            raise

    def retract(self) -> None:
        """Withdraw and step away."""
        self._act({"act": "retract"}, self.instrument.retract)

    def move_area(self, direction: Direction) -> None:
        """Change the approach area, which has a full budget of actions.

        Raises:
            LimitExceeded: The daily budget of changes is spent.
            ValueError: It is not a direction.
        """
        validate_direction(direction)
        if self.limits is not None:
            self._spend_area(self.limits)
        entry = {"act": "move area", "direction": direction.value}
        self._act(entry, lambda: self.instrument.move_area(direction))
        self._in_area = 0

    def lend(self, work: Callable[[], None]) -> None:
        """Let somebody else use the instrument during ``work``; what they do, no limit bounds."""
        # One act with its intent and result, as others: after a kill in the middle of it nobody
        # knows how far the work has come, and it is not started a second time.
        self._act({"act": "hand over"}, lambda: self.instrument.lend(work))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        validate_duration("a wait", seconds)
        self.instrument.wait(seconds)

    def reconnect(self) -> None:
        """Connect again, and record the status of the instrument."""
        self.instrument.reconnect()
        self._record({"time": time.time(), "act": "reconnect", "result": "done", **self._status()})

    def close(self) -> None:
        """Close the connection to the instrument."""
        self.instrument.close()

    def _act(self, entry: dict[str, Any], act: Callable[[], None]) -> None:
        self._acts += 1
        entry = {"number": self._acts, **entry}
        if self.limits is not None:
            entry["monotonic"] = self._clock()
        self._record({"time": time.time(), **entry, "result": "intended", **self._status()})
        # Until it is known better: Ctrl-C in the middle of an act leaves its outcome open.
        result, reason = "unknown", "interrupted"
        try:
            act()
            result, reason = "done", ""
        except OutcomeUnknown as error:
            reason = str(error)
            raise
        except LimitExceeded as error:
            result, reason = "refused", str(error)
            raise
        except InstrumentError as error:
            result, reason = "failed", str(error)
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise
        finally:
            status: dict[str, Any] = {}
            try:
                if result == "done":
                    status = self._status()
            finally:  # even if reading the status fails, the act is recorded as done
                end = {**entry, "result": result, "reason": reason}
                self._record({"time": time.time(), **end, **status})

    def _status(self) -> dict[str, Any]:
        """Read height and current for the record; a failure is recorded, not raised."""
        try:
            status = self.status()
        except InstrumentError as error:
            return {"status_error": str(error)}
        return {"z": status.z, "current": status.current, "approached": status.approached}

    def _count_earlier(self, entry: dict[str, Any]) -> None:
        self._acts = max(self._acts, entry.get("number", 0))
        # Intents count, not results: a program that was killed in mid-act has recorded no result.
        if entry["act"] in ("pulse", "dip") and entry["result"] == "intended":
            self._times.append(self._at_the_latest(entry.get("monotonic")))
            self._in_area += 1
        if entry["act"] == "move area" and entry["result"] == "intended":
            self._area_changes.append(self._at_the_latest(entry.get("monotonic")))
        if entry["act"] == "move area" and entry["result"] == "done":
            self._in_area = 0

    def _at_the_latest(self, recorded: float | None) -> float:
        """Convert the time of an act of an earlier program to the present clock."""
        # Both clocks count from the start of the computer. A time in the future dates from before
        # the last start, so it counts as zero. An act without a time may have been done just now.
        # Thus an act may count for longer than its hour or day, but never for less.
        if recorded is None or not math.isfinite(recorded):
            return self._started
        return recorded if recorded <= self._started else 0.0

    def _spend(self, limits: LimitsConfig) -> None:
        """Count an action against the budgets, unless one of them is spent."""
        hourly, now = limits.actions_per_hour, self._clock()
        # Not in order if the computer was started in between.
        self._times = [then for then in self._times if then > now - _HOUR_S]
        if hourly is not None and len(self._times) >= hourly:
            raise LimitExceeded(
                f"{len(self._times)} actions in the last hour; allowed are {hourly} "
                "(real.limits.actions_per_hour)"
            )
        if self._in_area >= limits.actions_per_area:
            raise LimitExceeded(
                f"{self._in_area} actions in this approach area; allowed are "
                f"{limits.actions_per_area} (real.limits.actions_per_area)"
            )
        self._times.append(now)
        self._in_area += 1

    def _spend_area(self, limits: LimitsConfig) -> None:
        """Count a change of the approach area against its budget, unless that is spent."""
        daily, now = limits.areas_per_day, self._clock()
        self._area_changes = [then for then in self._area_changes if then > now - _DAY_S]
        if daily is not None and len(self._area_changes) >= daily:
            raise LimitExceeded(
                f"{len(self._area_changes)} changes of the approach area within 24 hours; allowed "
                f"are {daily} (real.limits.areas_per_day)"
            )
        self._area_changes.append(now)


def _numbers(action: Conditioning) -> dict[str, float]:
    if isinstance(action, Dip):
        return {"depth": action.depth, "bias": action.bias, "width": action.width}
    if isinstance(action, Pulse):
        return {"bias": action.bias, "width": action.width}
    return {}
