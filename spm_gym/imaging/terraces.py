"""Compiled fit of the flat levels of a surface: a common slope and an offset each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.imaging.robust import (
    LINES,
    core,
    count_below,
    differences_of_columns,
    noise_between_rows,
    straightened,
)
from spm_gym.jit import compiled

FloatArray = NDArray[np.float64]
Moments = tuple[float, float, float, float, float, float, float, float, float]

PM = 1e-12
FEWEST_PIXELS = 16

SUBSTRATE_SHARE = 0.15
"""Share of the flat pixels that the substrate has at least."""

LEVEL_SHARE = 0.02
"""Share of the flat pixels that makes a level; all levels help to find the slope."""

VALLEY = 0.5
"""Density of pixels between two levels, in that of the lesser one, at most."""

STEEP = 3.0
"""Difference to a neighbour, in that of two noisy pixels, from which on neither is flat."""

FINEST = 1.0 * PM
"""What is taken for that at least, m."""

LEAST_NOISE = 5 / 3 * PM
"""Noise that is assumed at least, m: with it `WIDE` is the paper's threshold."""

WIDE, NARROW = 3.0, 1.5
"""Half-widths of a level in its noise: to catch all of it, then to leave out molecules' feet."""

GAIN = 1.8
"""Over-relaxation for `NARROW`: 1 / (1 - 2 k phi(k) / (2 Phi(k) - 1)) with k = 1.5."""

ROUGHLY, SETTLED = 0.3, 0.1
"""Change of the plane across the image, in the noise, that ends the iteration."""

MAX_ITERATIONS = 10
MOST_LEVELS = 12
MOST_BINS = 2**14
FEW_POINTS, FEW_ROWS = 2**10, 2**4


@compiled
def first_tilt(z: FloatArray) -> tuple[float, float, float]:
    """Most frequent slopes, m per pixel, and noise, m."""
    per_row, noise = noise_between_rows(z, min(LINES, z.shape[1]))
    per_col, _ = core(differences_of_columns(z))
    return per_row, per_col, noise


@compiled
def fit_terraces(
    z: FloatArray, per_row: float, per_col: float, noise: float
) -> tuple[float, float, float, FloatArray]:
    """Plane of the substrate (offset, slopes) and the heights of all levels above it.

    Args:
        z: (H, W), m, with at least `FEWEST_PIXELS` numbers; NaN elsewhere.
        per_row: As found by `first_tilt`, like the others.
        per_col: The same.
        noise: The same.
    """
    points, number = _flat_parts(z, per_row, per_col, noise)
    noise = max(noise, LEAST_NOISE)
    # Whole rows, as they are faster, and enough of them for the slope.
    apart = float(max(1, min(int(number / FEW_POINTS + 0.5), z.shape[0] // FEW_ROWS)))
    slopes = 0.0, 0.0
    for _ in range(2):
        before = slopes
        levels = _peaks(points, slopes, noise)
        counts = np.empty(levels.size)
        way = apart, WIDE * noise, 1.0, ROUGHLY * noise
        slopes = _settle(points, slopes, levels, counts, way)
        change = abs(slopes[0] - before[0]) * points.shape[0]
        # A poor first tilt smears the peaks, and the small ones are lost.
        if change + abs(slopes[1] - before[1]) * points.shape[1] <= noise:
            break
    way = apart, NARROW * noise, GAIN, ROUGHLY * noise
    slopes = _settle(points, slopes, levels, counts, way)
    way = 1.0, NARROW * noise, GAIN, SETTLED * noise
    down, along = _settle(points, slopes, levels, counts, way)
    lowest_large = levels[_substrate(counts)]
    for one in range(levels.size):
        levels[one] -= lowest_large
    return lowest_large, per_row + down, per_col + along, levels


@compiled
def _substrate(counts: FloatArray) -> int:
    """Which level is the lowest of the large ones."""
    total, largest = 0.0, 0.0
    for one in range(counts.size):
        total += counts[one]
        largest = max(largest, counts[one])
    first = 0
    while counts[first] < min(SUBSTRATE_SHARE * total, largest):
        first += 1
    return first


@compiled
def _flat_parts(
    z: FloatArray, per_row: float, per_col: float, noise: float
) -> tuple[FloatArray, int]:
    """Heights without the tilt, NaN where the neighbours do not fit it; and how many do.

    Both neighbours in the line, but only one line: telegraph noise moves parts of lines.
    """
    rows, cols = z.shape
    flat = np.empty((rows, cols))
    steep = STEEP * max(np.sqrt(2.0) * noise, FINEST)
    nothing, steps = np.empty(cols), np.empty(cols + 1)
    for col in range(cols):
        nothing[col] = np.nan
    # The border has no neighbour that could be steep.
    steps[0], steps[cols] = 0.0, 0.0
    for row in range(rows):
        here, there = z[row], flat[row]
        above = z[row - 1] if row > 0 else nothing
        below = z[row + 1] if row + 1 < rows else nothing
        left, right, inner = here[:-1], here[1:], steps[1:]
        for col in range(cols - 1):
            inner[col] = abs(right[col] - left[col] - per_col)
        for col in range(cols):
            fits = abs(here[col] - above[col] - per_row) <= steep
            fits |= abs(below[col] - here[col] - per_row) <= steep
            fits &= (steps[col] <= steep) & (inner[col] <= steep)
            there[col] = here[col] - per_row * row - per_col * col if fits else np.nan
    number = count_below(flat.ravel(), np.inf)
    if number < FEWEST_PIXELS:
        for row in range(rows):
            for col in range(cols):
                flat[row, col] = z[row, col] - per_row * row - per_col * col
        number = count_below(flat.ravel(), np.inf)
    return flat, number


@compiled
def _settle(
    points: FloatArray,
    slopes: tuple[float, float],
    levels: FloatArray,
    counts: FloatArray,
    way: tuple[float, float, float, float],
) -> tuple[float, float]:
    """Better slopes; better levels and their numbers of points in place.

    Args:
        points: Heights (rows, columns); NaN is none.
        slopes: Down the rows and along them.
        levels: Heights, ascending.
        counts: As many.
        way: Every how many-th row is taken, half-width of a level, over-relaxation, and the change
            of the plane across the points that ends it.
    """
    apart, width, gain, settled = way
    down, along = slopes
    shifts = np.empty(levels.size)
    for _ in range(MAX_ITERATIONS):
        slopes = down, along
        more = _common_slope(points, int(apart), slopes, levels, width, shifts, counts)
        down += gain * more[0]
        along += gain * more[1]
        for one in range(levels.size):
            levels[one] += gain * shifts[one]
        if abs(more[0]) * points.shape[0] + abs(more[1]) * points.shape[1] < settled:
            break
    return down, along


@compiled
def _common_slope(
    points: FloatArray,
    apart: int,
    slopes: tuple[float, float],
    levels: FloatArray,
    width: float,
    shifts: FloatArray,
    counts: FloatArray,
) -> tuple[float, float]:
    """Least squares for one slope and an offset per level over the points near the levels.

    Fills in the changes of the levels and their numbers of points.

    Returns:
        Change of the slopes.
    """
    means = np.empty((levels.size, 2))
    rr, rc, cc, rz, cz = 0.0, 0.0, 0.0, 0.0, 0.0
    for one in range(levels.size):
        low, high = -width, width
        if one > 0:
            low = max(low, (levels[one - 1] - levels[one]) / 2)
        if one + 1 < levels.size:
            high = min(high, (levels[one + 1] - levels[one]) / 2)
        n, r, c, z, r2, c2, r_c, r_z, c_z = _moments(points, apart, slopes, levels[one], low, high)
        counts[one] = n
        per = 1 / max(n, 1.0)
        means[one, 0], means[one, 1], shifts[one] = r * per, c * per, z * per
        rr += r2 - r * r * per
        cc += c2 - c * c * per
        rc += r_c - r * c * per
        rz += r_z - r * z * per
        cz += c_z - c * z * per
    determinant = rr * cc - rc * rc
    if determinant == 0 or determinant < 1e-9 * rr * cc:
        return 0.0, 0.0
    more_down = (rz * cc - cz * rc) / determinant
    more_along = (cz * rr - rz * rc) / determinant
    for one in range(levels.size):
        shifts[one] -= means[one, 0] * more_down + means[one, 1] * more_along
    return more_down, more_along


@compiled
def _moments(
    points: FloatArray,
    apart: int,
    slopes: tuple[float, float],
    level: float,
    low: float,
    high: float,
) -> Moments:
    """Sums of 1, r, c, z, rr, cc, rc, rz, cz over the points so far above a level."""
    rows, cols = points.shape
    down, along = slopes
    sums = np.zeros((2, cols))
    heights, down_heights = sums[0], sums[1]
    n, r, c, r2, c2, r_c = 0, 0, 0, 0, 0, 0
    for row in range(0, rows, apart):
        found, base, far = points[row], level + down * row, float(row)
        n_here, c_here, c2_here = 0, 0, 0
        for col in range(cols):
            off = found[col] - base - along * col
            inside = (off > low) & (off <= high)
            n_here += inside
            c_here += col if inside else 0
            c2_here += col * col if inside else 0
            off = off if inside else 0.0
            heights[col] += off
            down_heights[col] += far * off
        n += n_here
        c += c_here
        c2 += c2_here
        r += row * n_here
        r2 += row * row * n_here
        r_c += row * c_here
    z, r_z, c_z = 0.0, 0.0, 0.0
    for col in range(cols):
        z += heights[col]
        c_z += col * heights[col]
        r_z += down_heights[col]
    return float(n), float(r), float(c), z, float(r2), float(c2), float(r_c), r_z, c_z


@compiled
def _peaks(points: FloatArray, slopes: tuple[float, float], noise: float) -> FloatArray:
    """Heights, ascending, of the peaks in the distribution of heights."""
    heights, lowest, highest = straightened(points, slopes[0], slopes[1])
    bin_width = max(noise, (highest - lowest) / MOST_BINS)
    bins = int((highest - lowest) / bin_width) + 1
    marked = _summits(_near(heights, lowest, bin_width, bins))
    levels = np.empty(MOST_LEVELS + 1)
    n = 0
    for k in range(marked.size):
        if marked[k]:
            levels[n] = lowest + (k - 0.5) * bin_width
            if bin_width > noise:  # the middle of such a bin may be far from all that is in it
                levels[n] = _mean_near(heights, levels[n], 1.5 * bin_width)
            n += 1
    return levels[:n]


@compiled
def _mean_near(heights: FloatArray, level: float, reach: float) -> float:
    """Mean of the heights within reach of a level; the level itself if there are none."""
    total, count = 0.0, 0
    for n in range(heights.size):
        if abs(heights[n] - level) <= reach:
            total += heights[n] - level
            count += 1
    return level + total / max(count, 1)


@compiled
def _near(heights: FloatArray, lowest: float, bin_width: float, bins: int) -> NDArray[np.int64]:
    """Numbers of heights in three bins, all of a level; beyond the ends there is nothing."""
    places = np.empty(heights.size, dtype=np.int64)
    per_bin, nowhere = 1 / bin_width, bins + 4
    for n in range(heights.size):
        height = heights[n]
        places[n] = int((height - lowest) * per_bin) + 2 if height == height else nowhere
    counts = np.zeros(nowhere + 1, dtype=np.int64)
    for n in range(heights.size):
        counts[places[n]] += 1
    for k in range(bins + 2):
        counts[k] += counts[k + 1] + counts[k + 2]
    return counts[: bins + 2]


@compiled
def _summits(near: NDArray[np.int64]) -> NDArray[np.int64]:
    """Mark by 1 the highest summit, and the next ones if valleys part them from those marked."""
    summits = np.empty(near.size, dtype=np.int64)
    number, top, total = 0, 0, 0.0
    for k in range(near.size):
        total += near[k] / 3
        top = k if near[k] > near[top] else top
    for k in range(1, near.size - 1):
        summits[number] = k
        high = near[k] >= LEVEL_SHARE * total
        number += high & (near[k] >= near[k - 1]) & (near[k] > near[k + 1])
    marked = np.zeros(near.size, dtype=np.int64)
    marked[top] = 1
    for _ in range(min(number, MOST_LEVELS)):
        best = 0
        for one in range(number):
            best = one if near[summits[one]] > near[summits[best]] else best
        marked[summits[best]] |= _is_parted(near, marked, summits[best])
        number -= 1
        summits[best] = summits[number]
    return marked


@compiled
def _is_parted(near: NDArray[np.int64], marked: NDArray[np.int64], summit: int) -> bool:
    """Whether a valley lies between this summit and the next marked one on either side."""
    for side in range(2):
        step, k = 2 * side - 1, summit
        while 0 <= k < near.size and near[k] >= VALLEY * near[summit]:
            if marked[k]:
                return False
            k += step
    return True
