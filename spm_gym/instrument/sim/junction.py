"""Tunnel junction: current by bias and height (pure functions)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.instrument.sim.probe import Probe

Array = NDArray[np.float64]

BARRIER_EV = 4.0
"""Of a clean tip over clean silver: the work functions lowered by the image potential."""

TIP_SPREAD_EV = 0.3
PATCH_SPREAD_EV = 0.15
LOWERED_BY_MOLECULE_EV = (1.0, 2.0)
PATCH = 5e-9
"""Side of a patch of the sample with its own barrier, m."""

CURVATURE_EV_PER_V2 = 0.2
"""Of I(V) of a gap of 0.6 nm, times the barrier (Simmons, J. Appl. Phys. 34, 1793, 1963)."""

_RESONANCE_V = (0.4, 1.6)
_RESONANCE_WIDTH_V = 0.08
_RESONANCE_SHARE = 0.8
_LOWEST_EV = 0.5
_DECAY_PER_ROOT_EV = 5.123e9
"""sqrt(2 m eV) / h-bar, 1/m."""

_MOST = 200.0
"""Exponent beyond which every current exceeds the range of any preamplifier."""


class Junction(NamedTuple):
    """Tunnel junction between a tip and a place of the sample.

    Attributes:
        bias: Bias at which the feedback holds the setpoint, V.
        setpoint: Current that the feedback holds, A.
        barrier: Height of the barrier, eV.
        resonance: Bias from which an orbital of a molecule at the tip contributes, V; 0: none.
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
        """Decay constant of the wave functions, 1/m: the current falls as exp(-2 decay z)."""
        return float(_DECAY_PER_ROOT_EV * np.sqrt(self.barrier))

    def current(self, bias: Array, rise: Array) -> Array:
        """Compute the current that the preamplifier shows, A.

        Args:
            bias: Bias, V.
            rise: Height above where the feedback would hold the tip, m.
        """
        # At zero bias the feedback holds nothing; 1 V stands in to keep the ratio finite.
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
    """Make the junction of a probe over a patch; the same probe and patch give the same junction.

    Args:
        probe: The tip.
        state: Its class.
        patch: Seed of the patch, as from `patch_at`; no number is negative.
        bias: Bias at which the feedback holds the setpoint, V.
        setpoint: Current that the feedback holds, A.
        limit: Largest current that the preamplifier shows, A.
    """
    # Barriers follow from tip and place alone: a spectrum that is taken twice shows the same curve.
    # The apexes themselves are the seed: a probe needs no number of its own.
    tip = np.random.default_rng(np.frombuffer(probe.apexes.tobytes(), np.uint32))
    sample = np.random.default_rng(list(patch))
    barrier = BARRIER_EV + TIP_SPREAD_EV * tip.standard_normal()
    barrier += PATCH_SPREAD_EV * sample.standard_normal()
    resonance = 0.0
    if state.contaminated:
        # A molecule at the tip is known by a low apparent barrier and by its orbitals in I(V).
        barrier -= tip.uniform(*LOWERED_BY_MOLECULE_EV)
        resonance = tip.uniform(*_RESONANCE_V)
    barrier = max(float(barrier), _LOWEST_EV)
    return Junction(bias, setpoint, barrier, resonance, probe.raised, limit)


def patch_at(area: tuple[int, int], x: float, y: float) -> tuple[int, ...]:
    """Return numbers that identify the patch at a place (m) of an approach area."""
    cell = (math.floor(x / PATCH), math.floor(y / PATCH))
    # Seeds must not be negative.
    return tuple(2 * abs(number) + (number < 0) for number in (*area, *cell))
