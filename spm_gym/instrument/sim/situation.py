"""Where the tip of a simulated microscope is and what has happened to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AllowInfNan, Field

from spm_gym.errors import InstrumentError, TipWithdrawn
from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.instrument.sim.probe import Probe
from spm_gym.instrument.sim.running_scan import Accident
from spm_gym.instrument.sim.sample import Changed

_FURTHEST = 1e-3
_LATEST = 1e10
EXTENSION_AFTER_APPROACH = 0.8
"""Of the z piezo (paper, Methods)."""

_APPROACH_S = 60.0
_COARSE_MOVE_S = 30.0

Length = Annotated[float, Field(ge=-_FURTHEST, le=_FURTHEST)]
Time = Annotated[float, Field(ge=0, le=_LATEST)]
Extension = Annotated[float, Field(ge=0, le=1)]
Ended = Annotated[float, AllowInfNan(True), Field(le=_LATEST)]
"""When something ended; minus infinity if it never happened."""

_Time = TypeVar("_Time", float, NDArray[np.float64])


@dataclass(slots=True)
class Situation:
    """Where the tip is and what has happened to it; everything a restart resets.

    Attributes:
        state: Class of the probe.
        probe: The probe itself.
        away: Whether an unstable probe is in its second form.
        area: Index of the approach area along x and y.
        x: Position of the tip, m.
        y: Position of the tip, m.
        time: On the microscope's clock, s.
        moved: Displacement of the last move along x and y, m, and when it ended, s.
        approached: Whether the feedback holds the tip at the surface.
        shifted: Whether the area was changed since the last approach.
        landed: When the tip was last approached, s.
        extension: Share of its range by which the z piezo was extended then, without a tilt.
        pulsed: Whether there was a pulse and no shallow dip since.
        fault: Accident that the tip has not recovered from; "" if there is none.
    """

    state: HiddenState
    probe: Probe
    away: bool = False
    area: tuple[int, int] = (0, 0)
    x: Length = 0.0
    y: Length = 0.0
    time: Time = 0.0
    moved: tuple[Length, Length, Ended] = (0.0, 0.0, -math.inf)
    approached: bool = True
    shifted: bool = False
    landed: Time = 0.0
    extension: Extension = EXTENSION_AFTER_APPROACH
    pulsed: bool = False
    fault: Literal["", Accident] = ""

    def check_contact(self) -> None:
        """Refuse to go on without contact.

        Raises:
            TipWithdrawn: The tip is withdrawn.
        """
        if not self.approached:
            raise TipWithdrawn("the tip is withdrawn: approach first")

    def move_to(self, x: float, y: float, speed: float) -> bool:
        """Move the tip to x, y (m) at a speed (m/s).

        Returns:
            Whether it was not there already.
        """
        dx, dy = x - self.x, y - self.y
        if not (dx or dy):
            return False
        self.time += math.hypot(dx, dy) / speed
        self.moved = (dx, dy, self.time)
        self.x, self.y = x, y
        return True

    def land(self, reach: float, extension: float) -> None:
        """Approach.

        Args:
            reach: How far the xy piezo reaches from its centre, m.
            extension: Of the z piezo at the surface, a share of its range.
        """
        self.time += _APPROACH_S
        self.extension = extension
        self.approached = True
        self.fault = ""
        self.landed = self.time
        if self.shifted:
            self.shifted = False
            # Coarse steps and the return of the piezo to its centre leave as much creep as a move
            # over half of its range (paper, Methods: 120 s are waited after a coarse move).
            self.moved = (reach, reach, self.time)

    def withdraw(self) -> None:
        """Take the tip away from the surface; this also ends a crash."""
        self.approached = False
        self.fault = ""

    def shift_area(self, dx: int, dy: int) -> None:
        """Move coarsely by so many approach areas; the xy piezo returns to its centre.

        Raises:
            InstrumentError: The tip is not withdrawn.
        """
        if self.approached:
            raise InstrumentError("withdraw before a coarse move")
        self.area = (self.area[0] + dx, self.area[1] + dy)
        self.x = self.y = 0.0
        self.shifted = True
        self.time += _COARSE_MOVE_S * (abs(dx) + abs(dy))

    def height(
        self, x: float, y: float, slope: NDArray[np.float64], z_range: tuple[float, float]
    ) -> float:
        """Return the height (m) at which the feedback holds the tip above the bare substrate.

        Args:
            x: Place, m.
            y: Place, m.
            slope: Tilt of the sample along x and y.
            z_range: Of the z piezo, m.
        """
        low, high = z_range
        # Larger z is further from the sample: without a surface the feedback extends the piezo to
        # its lower end, and from a tip in the surface it retracts to the upper end.
        if self.fault:
            return low if self.fault == "lost contact" else high
        if not self.approached:
            return high
        surface = high - self.extension * (high - low) + slope[0] * x + slope[1] * y
        return float(min(max(surface, low), high))

    def rise(self, time: _Time, drift: float) -> _Time:
        """Return by how much the sample has come nearer since the last approach, m.

        Args:
            time: On the microscope's clock, s.
            drift: Of the sample along z, m/s.
        """
        if not self.approached or self.fault:
            return 0.0 * time
        return drift * (time - self.landed)

    def drifted_extension(self, drift: float, z_range: tuple[float, float]) -> float:
        """Return the share of the z range by which the surface lies below the upper end, now.

        It may have drifted out of 0 to 1, also while the tip was withdrawn.

        Args:
            drift: Of the sample along z, m/s.
            z_range: Of the z piezo, m.
        """
        return self.extension - drift * (self.time - self.landed) / (z_range[1] - z_range[0])

    def current(self, setpoint: float, largest: float) -> float:
        """Return the current that the preamplifier shows, A.

        Args:
            setpoint: Current that the feedback holds, A.
            largest: Largest current that the preamplifier shows, A.
        """
        if not self.approached or self.fault == "lost contact":
            return 0.0
        return largest if self.fault else setpoint


@dataclass(frozen=True, slots=True)
class Kept:
    """State of a simulated microscope, as `SimulatedMicroscope.get_state` gives it.

    Attributes:
        seed: Of surface, probe, noise and accidents.
        bias: Sample bias, V.
        setpoint: Tunnelling current held by the feedback, A.
        situation: Where the tip is and what has happened to it.
        fate: State of the generator of changes of probe and sample.
        noise: State of the generator of noise.
        jumps: State of the generator of jumps of an unstable probe.
        surfaces: Changes of every approach area that the tip has visited.
    """

    seed: Annotated[int, Field(ge=0)]
    bias: float
    setpoint: float
    situation: Situation
    fate: dict[str, Any]
    noise: dict[str, Any]
    jumps: dict[str, Any]
    surfaces: list[Changed]
