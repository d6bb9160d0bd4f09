"""What a simulated microscope is in the middle of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.instrument.sim.probe import Probe
from spm_gym.instrument.sim.running_scan import Accident


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
    x: float = 0.0
    y: float = 0.0
    time: float = 0.0
    moved: tuple[float, float, float] = (0.0, 0.0, -math.inf)
    approached: bool = True
    shifted: bool = False
    landed: float = 0.0
    pulsed: bool = False
    fault: Literal["", Accident] = ""
