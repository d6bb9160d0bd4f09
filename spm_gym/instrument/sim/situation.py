"""What a simulated microscope is in the middle of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AllowInfNan, Field

from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.instrument.sim.probe import Probe
from spm_gym.instrument.sim.running_scan import Accident
from spm_gym.instrument.sim.sample import Changed

_FURTHEST = 1e-3
_LATEST = 1e10
Length = Annotated[float, Field(ge=-_FURTHEST, le=_FURTHEST)]
Time = Annotated[float, Field(ge=0, le=_LATEST)]
Ended = Annotated[float, AllowInfNan(True), Field(le=_LATEST)]
"""When something ended; for ever ago if it never was."""


@dataclass(slots=True)
class Situation:
    """Where the tip is and what has befallen it; everything a restart resets.

    Attributes:
        state: Class of the probe.
        probe: The probe itself.
        away: Whether an unstable probe is in its second form.
        area: Number of the approach area along x and y.
        x: Of the tip, m.
        y: Of the tip, m.
        time: On the microscope's clock, s.
        moved: Way of the last move along x and y, m, and when it ended, s.
        approached: Whether the feedback holds the tip at the surface.
        shifted: Whether the area was changed since the last approach.
        landed: When the tip was last approached, s.
        pulsed: Whether there was a pulse and no shallow dip since.
        fault: What has befallen the tip.
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
    pulsed: bool = False
    fault: Literal["", Accident] = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a simulated microscope goes on from, as `SimulatedMicroscope.get_state` gives it.

    Attributes:
        seed: Of the world.
        bias: Sample bias, V.
        setpoint: Tunnelling current held by the feedback, A.
        situation: What it is in the middle of.
        fate: State of the generator of changes of probe and sample.
        noise: State of the generator of noise.
        jumps: State of the generator of jumps of an unstable probe.
        surfaces: What has changed in every approach area that it has been to.
    """

    seed: Annotated[int, Field(ge=0)]
    bias: float
    setpoint: float
    situation: Situation
    fate: dict[str, Any]
    noise: dict[str, Any]
    jumps: dict[str, Any]
    surfaces: list[Changed]
