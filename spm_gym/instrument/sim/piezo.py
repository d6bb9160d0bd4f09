"""What the piezo adds to an image (pure functions): creep, drift, tilt."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.running_scan import Course
from spm_gym.types import Frame

CREEP_OVER_S = 120.0
"""Time after which a move is forgotten, s."""

_CREEP_ONSET_S = 1.0

Array = NDArray[np.float64]


def line_shift(course: Course, moved: tuple[float, float, float], config: SimulatorConfig) -> Array:
    """How far the tip is from where it should be in each line of a scan.

    Args:
        course: The scan.
        moved: The last move along both axes, m, and when it ended, s.
        config: Strength of creep and drift.

    Returns:
        Shift along both axes in order of acquisition, (2, pixels), m.
    """
    elapsed = course.line_time * np.arange(course.frame.pixels)
    dx, dy, when = moved
    since = course.started - when + elapsed
    left = 1 - np.log1p(since / _CREEP_ONSET_S) / np.log1p(CREEP_OVER_S / _CREEP_ONSET_S)
    creep = -config.creep_fraction * np.clip(left, 0, 1)
    drift = config.drift_pm_per_s * 1e-12 * elapsed
    return np.stack([creep * dx + drift, creep * dy + drift])


def tilt(frame: Frame, rows: slice, slope: Array) -> Array:
    """Height of a sloping plane over the centre of a frame in some of its rows, m."""
    middle = (frame.pixels - 1) / 2
    along = (np.arange(frame.pixels) - middle) * frame.pixel
    cos, sin = math.cos(frame.angle), math.sin(frame.angle)
    a, b = slope
    u, v = along[None, :], -along[rows, None]
    return np.asarray((a * cos + b * sin) * u + (b * cos - a * sin) * v)
