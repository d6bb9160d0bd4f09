"""Backward images: the same surface as forward, but not the same numbers."""

from __future__ import annotations

import numpy as np

from spm_gym.servers.nanonis.acquisition import Image
from spm_gym.types import BoolArray

_JUMPS = 0.01
"""Probability in each pixel that an unstable tip changes its form."""

_RAISED = (0.25e-10, 0.9e-10)
"""By how much its second form is higher, m."""


def retrace(
    forward: Image, unstable: BoolArray, hysteresis: float, noise: float, rng: np.random.Generator
) -> Image:
    """Make the backward image of a scan, in the orientation of the forward image.

    Args:
        forward: Heights (lines, pixels), m; NaN where nothing was scanned.
        unstable: Lines in which the tip was unstable, and so different on the way back.
        hysteresis: Lag of the piezo in the middle of a line, as a share of the line.
        noise: Noise of the heights, m.
        rng: Random numbers.
    """
    lines, pixels = forward.shape
    along = (np.arange(pixels) + 0.5) / pixels
    # A piezo has no lag where it turns, and most of it half way.
    lagging = np.clip(
        np.arange(pixels) + hysteresis * pixels * 4 * along * (1 - along), 0, pixels - 1
    )
    left = np.minimum(lagging.astype(np.intp), max(pixels - 2, 0))
    right = np.minimum(left + 1, pixels - 1)
    share = lagging - left
    z = (1 - share) * forward[:, left] + share * forward[:, right]
    z += noise * rng.standard_normal(forward.shape)
    second = np.cumsum(rng.random(forward.shape) < _JUMPS, axis=1) % 2
    z += (rng.uniform(*_RAISED, (lines, 1)) * second) * unstable[:, None]
    found: Image = z.astype(np.float32)
    return found
