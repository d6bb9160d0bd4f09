"""The tunnel junction: current by bias and height (pure functions)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.instrument.sim.probe import Probe

Array = NDArray[np.float64]

BARRIER_EV = 4.0
"""Of a clean tip over clean silver: somewhat less than the mean of the work functions."""

TIP_SPREAD_EV = 0.3
PATCH_SPREAD_EV = 0.15
LOWERED_BY_MOLECULE_EV = (1.0, 2.0)
PATCH = 5e-9
"""Side of a patch of the sample with a barrier of its own, m."""

CURVATURE_EV_PER_V2 = 0.2
"""Of I(V) of a gap of 0.6 nm, times the barrier (Simmons)."""

_RESONANCE_V = (0.4, 1.6)
_RESONANCE_WIDTH_V = 0.08
_RESONANCE_SHARE = 0.8
_LOWEST_EV = 0.5
_DECAY_PER_ROOT_EV = 5.123e9
""" sqrt(2 m eV) / h-bar, 1/m."""

_MOST = 200.0
"""Exponent beyond which every current is more than any preamplifier shows."""


class Junction(NamedTuple):
    """What lies between a tip and a place of the sample.

    Attributes:
        bias: At which the feedback holds the setpoint, V.
        setpoint: A.
        barrier: Its height, eV.
        resonance: Bias from which an orbital of a molecule at the tip takes part, V; 0: none.
        raised: How much higher an unstable tip is in its second form, m.
        limit: Largest current that the preamplifier shows, A.
    """

    bias: float
    setpoint: float
    barrier: float
    resonance: float
    raised: float
    limit: float

    @property
    def decay(self) -> float:
        """Of the current with height: I falls as exp(-2 decay z), 1/m."""
        return float(_DECAY_PER_ROOT_EV * np.sqrt(self.barrier))

    def current(self, bias: Array, rise: Array) -> Array:
        """What the preamplifier shows, A.

        Args:
            bias: V.
            rise: Height above where the feedback would hold the tip, m.
        """
        share = self._shape(bias) / abs(self._shape(np.asarray(self.bias or 1.0)))
        fall = np.exp(np.minimum(-2 * self.decay * rise, _MOST))
        return np.clip(abs(self.setpoint) * share * fall, -self.limit, self.limit)

    def _shape(self, bias: Array) -> Array:
        ohmic = bias * (1 + CURVATURE_EV_PER_V2 / self.barrier * bias**2)
        if not self.resonance:
            return ohmic
        beyond = (np.abs(bias) - self.resonance) / _RESONANCE_WIDTH_V
        return np.asarray(ohmic * (1 + _RESONANCE_SHARE / (1 + np.exp(-beyond))))


def junction(
    probe: Probe,
    state: HiddenState,
    patch: tuple[int, ...],
    bias: float,
    setpoint: float,
    limit: float,
) -> Junction:
    """The junction of a probe over a patch; the same ones have the same, whenever one looks.

    Args:
        probe: The tip.
        state: Its class.
        patch: Numbers, none of them negative, that name a patch of the sample.
        bias: V.
        setpoint: A.
        limit: Of the preamplifier, A.
    """
    tip = np.random.default_rng(np.frombuffer(probe.apexes.tobytes(), np.uint32))
    sample = np.random.default_rng(list(patch))
    barrier = BARRIER_EV + TIP_SPREAD_EV * tip.standard_normal()
    barrier += PATCH_SPREAD_EV * sample.standard_normal()
    resonance = 0.0
    if state.contaminated:
        barrier -= tip.uniform(*LOWERED_BY_MOLECULE_EV)
        resonance = tip.uniform(*_RESONANCE_V)
    barrier = max(float(barrier), _LOWEST_EV)
    return Junction(bias, setpoint, barrier, resonance, probe.raised, limit)
