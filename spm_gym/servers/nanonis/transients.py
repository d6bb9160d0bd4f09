"""Signals during pulses and dips, for the oscilloscopes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spm_gym.instrument.sim.junction import Junction

Array = NDArray[np.float64]

_SATURATED_S, _PROMPT_S = 5e-3, 0.5e-3
"""Recovery times of the preamplifier from the end of its range, and from within it."""

_LOOP_S = 10e-3
"""Response time of the feedback."""

_LEAST = 1e-15


@dataclass(frozen=True, slots=True)
class Transient:
    """Course of bias, height and current during an act.

    Attributes:
        started: Start on the controller's clock, s.
        junction: Junction before the act.
        times: Times since the start, ascending, s; bias and rise are straight lines in between.
        bias: Bias, V.
        rise: Height above where the feedback held the tip, m.
    """

    started: float
    junction: Junction
    times: Array
    bias: Array
    rise: Array

    @property
    def end(self) -> float:
        """End on the controller's clock, s."""
        return self.started + float(self.times[-1])

    def bias_at(self, times: Array, level: float) -> Array:
        """Return the bias at times of the controller's clock, V; ``level`` before and after."""
        return self._while_it_lasts(times, self.bias, level)

    def rise_at(self, times: Array) -> Array:
        """Return the height above where the feedback held the tip, m; 0 before and after."""
        return self._while_it_lasts(times, self.rise, 0.0)

    def current_at(self, times: Array, level: float) -> Array:
        """Return the current, A; ``level`` before and, after the recovery, afterwards."""
        bias = np.interp(times - self.started, self.times, self.bias)
        rise = np.interp(times - self.started, self.times, self.rise)
        during = self.junction.current(bias, rise)
        last = float(self.junction.current(self.bias[-1:], self.rise[-1:])[0])
        slow = abs(last) >= self.junction.limit
        since = np.maximum(times - self.end, 0.0)
        after = level + (last - level) * np.exp(-since / (_SATURATED_S if slow else _PROMPT_S))
        return np.where(times < self.started, level, np.where(times < self.end, during, after))

    def _while_it_lasts(self, times: Array, values: Array, otherwise: float) -> Array:
        found = np.interp(times - self.started, self.times, values)
        return np.where((times >= self.started) & (times < self.end), found, otherwise)


def pulse(started: float, junction: Junction, bias: float, width: float, held: bool) -> Transient:
    """Make the course of a bias pulse.

    Args:
        started: Start on the controller's clock, s.
        junction: Junction before the pulse.
        bias: Bias, V.
        width: Duration, s.
        held: Whether the feedback is held.
    """
    times = np.linspace(0.0, width, 64)
    rise = np.zeros(len(times))
    if not held:
        # The feedback retracts the tip until the setpoint flows again at the new bias.
        flows = float(np.abs(junction.current(np.array([bias]), np.zeros(1)))[0])
        away = np.log(max(flows / max(abs(junction.setpoint), _LEAST), 1.0)) / (2 * junction.decay)
        rise = away * -np.expm1(-times / _LOOP_S)
    return Transient(started, junction, times, np.full(len(times), bias), rise)


def ramps(
    started: float, junction: Junction, legs: Iterable[tuple[float, float, float]]
) -> Transient:
    """Make the course of straight legs; the bias jumps at the start of a leg.

    Args:
        started: Start on the controller's clock, s.
        junction: Junction before the first leg.
        legs: Duration, s, bias, V, and height at the end, m, of each leg.
    """
    # Two knots at the same time let the bias jump there.
    knots = [(0.0, junction.bias, 0.0)]
    for takes, bias, rise in legs:
        now, _, before = knots[-1]
        knots += [(now, bias, before), (now + takes, bias, rise)]
    times, volts, heights = np.array(knots).T
    return Transient(started, junction, times, volts, heights)
