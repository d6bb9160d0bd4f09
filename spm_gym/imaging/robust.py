"""How noisy a topography is, whatever stands on its surface."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.types import FloatImage

FloatArray = NDArray[np.floating[Any]]

_OF_A_NORMAL_CUT_AT_2_SIGMA = 0.8796
_OF_THE_30_TO_70_PERCENT_RANGE = 1.0488
_ENOUGH_FOR_A_FIRST_GUESS = 1024


def noise(z: FloatImage) -> float:
    """Estimate the rms noise of a topography from the differences of neighbouring lines.

    White noise and offsets of whole lines both count; a tilt, steps and molecules do not, as long
    as a good part of the surface is flat.

    Args:
        z: (H, W), m; tilted or level; NaN where nothing was scanned.

    Returns:
        Noise, m; 0 if no two neighbouring lines were scanned.
    """
    between = np.diff(np.asarray(z, dtype=np.float64), axis=0)
    return noise_of_differences(between, core(between)[1])


def noise_of_differences(between: FloatArray, spread: float) -> float:
    """Noise from the differences of neighbouring lines and the spread of their core.

    Blunt probes leave hardly anything flat, but smooth hills without second differences; telegraph
    noise spoils second differences more often than first ones. Neither can lessen the noise.
    """
    smooth = core(np.diff(between, axis=0))[1]
    first = spread / float(np.sqrt(2))
    return min(first, smooth / float(np.sqrt(6))) if smooth > 0 else first


def core(values: FloatArray) -> tuple[float, float]:
    """Centre and standard deviation of the core of a distribution with heavy tails.

    Mean and deviation are taken again and again within two standard deviations. NaN is left out;
    (0, 0) without any number.
    """
    found = values.ravel()
    finite = np.isfinite(found)
    if not finite.all():
        found = found[finite]
    if found.size == 0:
        return 0.0, 0.0
    centre, deviation = _first_guess(found)
    for _ in range(8):
        inside = found[np.abs(found - centre) <= 2 * deviation]
        if inside.size < 8:
            break
        before = deviation
        centre = float(inside.mean())
        deviation = float(inside.std()) / _OF_A_NORMAL_CUT_AT_2_SIGMA
        if abs(before - deviation) <= 0.03 * before:
            break
    return centre, deviation


def _first_guess(values: FloatArray) -> tuple[float, float]:
    some = np.sort(values[:: max(1, values.size // _ENOUGH_FOR_A_FIRST_GUESS)])
    low, middle, high = (some[int(share * (some.size - 1))] for share in (0.3, 0.5, 0.7))
    return float(middle), float(high - low) / _OF_THE_30_TO_70_PERCENT_RANGE
