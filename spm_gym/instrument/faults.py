"""Simulated microscope with injected faults, for trials of unattended operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NoReturn

import numpy as np
from pydantic import Field

from spm_gym.config.operation import FaultConfig
from spm_gym.errors import ConnectionLost, OutcomeUnknown
from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.instrument.sim.running_scan import Accident
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.plain_state import restore_generator, restored
from spm_gym.types import Conditioning, Direction, Frame, Scan, Status

_SPAWN_KEY = (0xFA,)
"""Differs from those of the microscope, since both may have the same seed."""

_MISSING_SHARE = (0.05, 0.6)
_DEBRIS_NM = (0.6, 1.8)
"""Heights of debris, more than a clean terrace with molecules has."""

ScanFault = Literal["lost contact", "crash", "connection", "missing lines", "debris"]


@dataclass(frozen=True, slots=True)
class _FaultState:
    """State as `FaultyMicroscope.get_state` gives it."""

    microscope: dict[str, Any]
    rng: dict[str, Any]
    scans: Annotated[int, Field(ge=0)]
    broken: bool


class FaultyMicroscope:
    """Simulated microscope with faults; fulfils `Instrument` and `Restartable`.

    A scan without a fault is that of the microscope, bit for bit. While the connection is broken,
    all methods except `reconnect`, `wait` and `close` raise `ConnectionLost`.

    Attributes:
        microscope: The microscope itself.

    Args:
        microscope: The microscope itself; its sample gets the rough regions.
        config: Kinds and rates of faults.
        seed: Seed of the faults; the sample follows from the microscope's seed.
    """

    def __init__(self, microscope: SimulatedMicroscope, config: FaultConfig, seed: int) -> None:
        self.microscope = microscope
        self.config = config
        self._schedule: dict[int, ScanFault] = {due.scan: due.fault for due in config.schedule}
        _roughen(microscope, config.rough_region)
        self._reset(seed)

    def restart(self, seed: int) -> None:
        """Start again, connected, with microscope and faults drawn from the seed."""
        self.microscope.restart(seed)
        self._reset(seed)

    def _reset(self, seed: int) -> None:
        self._rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=_SPAWN_KEY))
        self._scans = 0
        self._broken = False

    @property
    def truth(self) -> HiddenState:
        """Hidden state of the probe, for labels, oracle and tests only."""
        return self.microscope.truth

    def status(self) -> Status:
        """Read the present state.

        Raises:
            ConnectionLost: The connection is broken.
        """
        self._check_connection()
        return self.microscope.status()

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        """Move to the frame and record its first ``fraction`` of lines.

        Raises:
            ConnectionLost: The connection breaks before or in the middle of it, or is broken.
            InstrumentError: As on the microscope.
            ValueError: The fraction is not within 0 to 1.
        """
        self._check_connection()
        self._scans += 1
        # Always three numbers: a scheduled fault must not change when the random ones come.
        kind, where, extent = self._rng.random(3)
        fault = self._schedule.get(self._scans) or self._random_fault(kind)
        # Requests that the microscope refuses must reach it unchanged.
        lines = math.ceil(fraction * frame.lines) if 0 < fraction <= 1 else 0
        if lines and (fault == "lost contact" or fault == "crash"):
            return self._interrupted(frame, lines, int(where * lines), fault)
        if lines and fault == "connection":
            self._cut_off(frame, int(where * lines), extent < 0.5)
        if fault == "debris":
            # As far as the frame reaches and somewhat further.
            self.microscope.surface.strew(frame.x, frame.y, frame.size, _DEBRIS_NM, self._rng)
        scan = self.microscope.scan(frame, fraction)
        return _incomplete(scan, lines, where, extent) if fault == "missing lines" else scan

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        """Condition the probe at x, y (m).

        Raises:
            ConnectionLost: Nothing was done.
            OutcomeUnknown: It was done, and the connection broke.
            InstrumentError: As on the microscope.
        """
        self._act("conditioning", lambda: self.microscope.condition(action, x, y))

    def approach(self) -> None:
        """Bring the tip into contact; raises what `condition` does."""
        self._act("the approach", self.microscope.approach)

    def withdraw(self) -> None:
        """Take the tip away from the surface; raises what `condition` does."""
        self._act("withdrawing", self.microscope.withdraw)

    def retract(self) -> None:
        """Take the tip further away; raises what `condition` does."""
        self._act("retracting", self.microscope.retract)

    def move_area(self, direction: Direction) -> None:
        """Move to the neighbouring approach area; raises what `condition` does."""
        self._act("the coarse move", lambda: self.microscope.move_area(direction))

    def lend(self, work: Callable[[], None]) -> None:
        """Let ``work`` be done; nothing goes wrong on purpose meanwhile.

        Raises:
            ConnectionLost: The connection is broken.
        """
        self._check_connection()
        self.microscope.lend(work)

    def wait(self, seconds: float) -> None:
        """Let the clock run, connected or not."""
        self.microscope.wait(seconds)

    def reconnect(self) -> None:
        """Restore a broken connection.

        Raises:
            ConnectionLost: The outage lasts.
        """
        if self._broken and self._rng.random() < self.config.outage:
            raise ConnectionLost("the connection cannot be made again yet")
        self._broken = False
        self.microscope.reconnect()

    def close(self) -> None:
        """Close the microscope."""
        self.microscope.close()

    def get_state(self) -> dict[str, Any]:
        """Return all that is needed to continue bit for bit; plain data."""
        return {
            "microscope": self.microscope.get_state(),
            "rng": self._rng.bit_generator.state,
            "scans": self._scans,
            "broken": self._broken,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that `get_state` gave.

        Raises:
            StateError: It is not such a state.
        """
        kept = restored(_FaultState, state)
        self.microscope.set_state(kept.microscope)
        restore_generator(self._rng, kept.rng)
        self._scans, self._broken = kept.scans, kept.broken

    def _random_fault(self, kind: float) -> ScanFault | None:
        """Choose the fault of a scan by a number from 0 to 1."""
        config = self.config
        rates: tuple[tuple[ScanFault, float], ...] = (
            ("lost contact", config.lost_contact),
            ("crash", config.crash),
            ("connection", config.connection),
            ("missing lines", config.missing_lines),
        )
        for fault, rate in rates:
            if kind < rate:
                return fault
            kind -= rate
        return None

    def _interrupted(self, frame: Frame, lines: int, at: int, accident: Accident) -> Scan:
        """Take a scan with an accident before line ``at``."""
        running = self.microscope.begin_scan(frame)
        running.advance(at)
        if not self.microscope.fault:
            self.microscope.inject(accident)
        running.advance(lines)
        return running.scan()

    def _cut_off(self, frame: Frame, lines: int, early: bool) -> NoReturn:
        """Break the connection before the scan or when some of its lines are done."""
        if early:
            self._broken = True
            raise ConnectionLost("the connection broke before the scan started")
        self.microscope.begin_scan(frame).advance(lines)
        self._broken = True
        raise ConnectionLost(f"the connection broke after {lines} of {frame.lines} lines")

    def _act(self, name: str, act: Callable[[], None]) -> None:
        self._check_connection()
        breaks, early = self._rng.random(2)
        if breaks >= self.config.connection:
            act()
        elif early < 0.5:
            # Two cases that a caller must tell apart: nothing was done, or nobody knows.
            self._broken = True
            raise ConnectionLost(f"the connection broke before {name} was started")
        else:
            act()
            self._broken = True
            raise OutcomeUnknown(f"the connection broke before the reply to {name} came")

    def _check_connection(self) -> None:
        if self._broken:
            raise ConnectionLost("the connection is broken: reconnect first")


def _roughen(microscope: SimulatedMicroscope, share: float) -> None:
    """Cover an additional share of every approach area with patches of debris."""
    if share == 0:
        return
    state, config = microscope.get_state(), microscope.config
    rough = 1 - (1 - config.rough_fraction) * (1 - share)
    microscope.config = config.model_copy(update={"rough_fraction": rough})
    # Restoring the state makes the surfaces again, now with the new share.
    microscope.set_state(state)


def _incomplete(scan: Scan, lines: int, where: float, extent: float) -> Scan:
    """Remove a block of lines, placed and sized by numbers from 0 to 1, from a scan."""
    least, most = _MISSING_SHARE
    gone = round((least + extent * (most - least)) * lines)
    first = int(where * (lines - gone + 1))
    z = scan.z.copy()
    z[first : first + gone] = np.nan
    return replace(scan, z=z)
