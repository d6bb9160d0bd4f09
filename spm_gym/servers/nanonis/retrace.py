"""What a scan shows on the way back: the same surface, not the same numbers."""

from __future__ import annotations

import numpy as np

from spm_gym.servers.nanonis.acquisition import Image
from spm_gym.types import BoolArray

_JUMPS = 0.01
"""Probability for each pixel that an unstable tip changes its form."""

_RAISED = (0.25e-10, 0.9e-10)


def retrace(
    forward: Image, unstable: BoolArray, hysteresis: float, noise: float, rng: np.random.Generator
) -> Image:
    """Heights as they are recorded on the way back, in the orientation of those on the way there.

    Args:
        forward: Heights (lines, pixels), m; NaN where nothing was scanned.
        unstable: In which lines the tip was unstable: it does not do the same twice.
        hysteresis: Lag of the piezo in the middle of a line, as a share of the line.
        noise: Of the heights, m.
        rng: Chance.
    """
    lines, pixels = forward.shape
    along = (np.arange(pixels) + 0.5) / pixels
    # A piezo has no lag where it turns, and most half way.
    seen = np.clip(np.arange(pixels) + hysteresis * pixels * 4 * along * (1 - along), 0, pixels - 1)
    left = np.minimum(seen.astype(np.intp), max(pixels - 2, 0))
    right = np.minimum(left + 1, pixels - 1)
    share = seen - left
    z = (1 - share) * forward[:, left] + share * forward[:, right]
    z += noise * rng.standard_normal(forward.shape)
    second = np.cumsum(rng.random(forward.shape) < _JUMPS, axis=1) % 2
    z += (rng.uniform(*_RAISED, (lines, 1)) * second) * unstable[:, None]
    found: Image = z.astype(np.float32)
    return found
