"""Images copied from a replay buffer in one pass: selected, flipped and moved."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.jit import compiled


def gather(
    stored: NDArray[np.float16],
    rows: NDArray[np.int64],
    flips: NDArray[np.int64],
    offsets: NDArray[np.int64],
    out: NDArray[np.float16],
) -> None:
    """Copy images, flip them, then move them; the edge is repeated where the image ends.

    Args:
        stored: (M, 1, H, W), contiguous.
        rows: (N,), indices of the images to copy.
        flips: (2, N); whether each is flipped up-down, and left-right.
        offsets: (2, N); rows and columns by which each is moved up, and left.
        out: (N, 1, H, W), contiguous; receives them.
    """
    # The compiler knows no float16, and copying needs only the bits.
    _gather(stored[:, 0].view(np.uint16), rows, flips, offsets, out[:, 0].view(np.uint16))


@compiled
def _gather(
    stored: NDArray[np.uint16],
    rows: NDArray[np.int64],
    flips: NDArray[np.int64],
    offsets: NDArray[np.int64],
    out: NDArray[np.uint16],
) -> None:
    # The columns of a row are the same for all rows of an image: worked out once, then looked up.
    height, width = out.shape[1:]
    columns = np.empty(width, np.int64)
    for image in range(len(rows)):
        for x in range(width):
            column = min(max(x + offsets[1, image], 0), width - 1)
            columns[x] = width - 1 - column if flips[1, image] else column
        for y in range(height):
            row = min(max(y + offsets[0, image], 0), height - 1)
            line = stored[rows[image], height - 1 - row if flips[0, image] else row]
            for x in range(width):
                out[image, y, x] = line[columns[x]]
