"""Previews as images: the rows between their lines are interpolated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.types import Frame


def interpolate_lines(z: NDArray[np.float32], pixels: int) -> NDArray[np.float32]:
    """Fill the rows between the lines of previews, linearly, so that they are read as images are.

    Above the first and below the last line the nearest one is repeated. A full scan comes out as
    it is.

    Args:
        z: Raw heights (..., lines, pixels), m; NaN where nothing was scanned.
        pixels: Rows of the images, a multiple of the lines.

    Returns:
        (..., pixels, pixels); a row is scanned where both lines beside it are.

    Raises:
        ValueError: The lines do not divide the rows.
    """
    lines = z.shape[-2]
    if not lines or pixels % lines:
        raise ValueError(
            f"{lines} lines cannot be spread over {pixels} rows: they must divide them"
        )
    if lines == pixels:
        return z
    rows = np.arange(pixels)
    recorded = rows[Frame(0, 0, 1, pixels, lines=lines).rows]
    place = np.interp(rows, recorded, np.arange(lines))
    above = place.astype(np.intp)
    # A row with a line is that line alone: a weight of 0 would not undo a NaN beside it.
    below = np.ceil(place).astype(np.intp)
    part = (place - above).astype(np.float32)[:, None]
    upper = z[..., above, :]
    # Infinite heights count as not scanned, and so does the NaN that becomes of them.
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(upper + part * (z[..., below, :] - upper), np.float32)
