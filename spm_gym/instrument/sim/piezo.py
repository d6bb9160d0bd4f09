"""Creep and drift of the piezo during a scan (pure functions)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.running_scan import Course
from spm_gym.jit import compiled

CREEP_OVER_S = 120.0
"""Time after which a move is forgotten, s."""

_CREEP_ONSET_S = 1.0
_FOR_EVER_S = 1e9
"""Longest time since a move that is counted, s: keeps the creep of a first scan finite."""


def shift_of_lines(
    course: Course, moved: tuple[float, float, float], config: SimulatorConfig
) -> NDArray[np.float64]:
    """Compute how far the tip is from its nominal place in each line of a scan.

    Args:
        course: The scan.
        moved: The last move along both axes, m, and when it ended, s.
        config: Strength of creep and drift.

    Returns:
        Shift along both axes in order of acquisition, m (lines, 2).
    """
    dx, dy, when = moved
    return _shift(
        course.frame.lines, course.line_time, course.started - when, (dx, dy),
        config.creep_fraction, config.creep_time_s or 0.0, config.drift_pm_per_s * 1e-12,
    )  # fmt: skip


@compiled
def _shift(
    lines: int,
    line_time: float,
    since: float,
    moved: tuple[float, float],
    creep_fraction: float,
    creep_time: float,
    drift: float,
) -> NDArray[np.float64]:
    shift = np.empty((lines, 2))
    # Creep follows the logarithm of the time since the move. With a creep time, as fitted to a real
    # microscope, it goes on for ever; without one it ends after the wait of the paper, 120 s.
    whole = math.log1p(CREEP_OVER_S / _CREEP_ONSET_S)
    for line in range(lines):
        elapsed = line_time * line
        if creep_time > 0:
            creep = creep_fraction * math.log1p(min(since + elapsed, _FOR_EVER_S) / creep_time)
        else:
            left = 1 - math.log1p((since + elapsed) / _CREEP_ONSET_S) / whole
            creep = -creep_fraction * min(max(left, 0.0), 1.0)
        shift[line, 0] = creep * moved[0] + drift * elapsed
        shift[line, 1] = creep * moved[1] + drift * elapsed
    return shift
