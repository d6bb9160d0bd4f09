"""Parts of a controller's live buffer that have not been scanned yet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unscanned_as_nan(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make NaN of rows that are exactly 0 throughout, and of zeros behind the last height.

    Args:
        z: Heights (H, W) scanned downwards and forward, m; changed in place.
    """
    # Some controllers fill the buffer with zeros and write NaN to files only. Noise makes no row of
    # measured heights exactly 0 throughout; single zeros are left, since they may be heights.
    z[~z.any(axis=1)] = np.nan
    scanned = np.flatnonzero(~np.isnan(z) & (z != 0))
    if scanned.size:
        z.flat[scanned[-1] + 1 :] = np.nan
    return z
