"""Fit of the flat levels of a surface: a common slope, and a height for each level (compiled)."""

from __future__ import annotations

from typing import NamedTuple

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
from spm_gym.scale import PM

FloatArray = NDArray[np.float64]
Moments = tuple[float, float, float, float, float, float, float, float, float]

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
"""Least value of that difference, m: noiseless images must have flat pixels too."""

LEAST_NOISE = 5 / 3 * PM
"""Least noise that is assumed, m: three times this is the threshold of the paper, 5 pm."""

WIDE, NARROW = 3.0, 1.5
"""Half-widths of a level in its noise: to catch all of it, then to leave out molecules' feet."""

GAIN = 1.8
"""Over-relaxation for `NARROW`: 1 / (1 - 2 k phi(k) / (2 Phi(k) - 1)) with k = 1.5."""

ROUGHLY, EXACTLY = 0.3, 0.1
"""Change of the plane across the image, in the noise, that ends the iteration."""

MAX_ITERATIONS = 10
MOST_LEVELS = 12
MOST_BINS = 2**14
FEW_POINTS, FEW_ROWS = 2**10, 2**4


class Refinement(NamedTuple):
    """Settings of `_refine`.

    Attributes:
        apart: Distance of the rows that are used, in rows.
        width: Half-width of a level, m.
        gain: Over-relaxation.
        tolerance: Change of the plane across the image that ends the iteration, m.
    """

    apart: int
    width: float
    gain: float
    tolerance: float


@compiled
def first_tilt(z: FloatArray) -> tuple[float, float, float]:
    """Estimate the most frequent slopes down and along the rows, m per pixel, and the noise, m."""
    per_row, noise = noise_between_rows(z, min(LINES, z.shape[1]))
    per_col, _ = core(differences_of_columns(z))
    return per_row, per_col, noise


@compiled
def fit_terraces(
    z: FloatArray, per_row: float, per_col: float, noise: float
) -> tuple[float, float, float, FloatArray]:
    """Fit the plane of the substrate (offset, slopes) and the heights of all levels above it.

    Args:
        z: (H, W), m, with at least `FEWEST_PIXELS` numbers; NaN elsewhere.
        per_row: Slope down the rows, m per pixel, as from `first_tilt`.
        per_col: Slope along the rows, m per pixel, as from `first_tilt`.
        noise: Noise of the image, m, as from `first_tilt`.
    """
    points, number = _flat_parts(z, per_row, per_col, noise)
    noise = max(noise, LEAST_NOISE)
    # Whole rows, as they are faster, and enough of them for the slope.
    apart = max(1, min(int(number / FEW_POINTS + 0.5), z.shape[0] // FEW_ROWS))
    slopes = 0.0, 0.0
    for _ in range(2):
        before = slopes
        levels = _peaks(points, slopes, noise)
        counts = np.empty(levels.size)
        wide = Refinement(apart, WIDE * noise, 1.0, ROUGHLY * noise)
        slopes = _refine(points, slopes, levels, counts, wide)
        change = abs(slopes[0] - before[0]) * points.shape[0]
        # A poor first tilt smears the peaks, and the small ones are lost.
        if change + abs(slopes[1] - before[1]) * points.shape[1] <= noise:
            break
    # Some rows first: they bring the slope near enough that all rows need few iterations.
    narrow = Refinement(apart, NARROW * noise, GAIN, ROUGHLY * noise)
    slopes = _refine(points, slopes, levels, counts, narrow)
    narrow = Refinement(1, NARROW * noise, GAIN, EXACTLY * noise)
    down, along = _refine(points, slopes, levels, counts, narrow)
    substrate = levels[_substrate(counts)]
    for level in range(levels.size):
        levels[level] -= substrate
    return substrate, per_row + down, per_col + along, levels


@compiled
def _substrate(counts: FloatArray) -> int:
    """Return the index of the lowest large level.

    Flat molecules can cover more of the image than the substrate does, but they lie above it.
    """
    total, largest = 0.0, 0.0
    for level in range(counts.size):
        total += counts[level]
        largest = max(largest, counts[level])
    lowest = 0
    # A few pixels in a pit or at a step edge do not make the substrate.
    while counts[lowest] < min(SUBSTRATE_SHARE * total, largest):
        lowest += 1
    return lowest


@compiled
def _flat_parts(
    z: FloatArray, per_row: float, per_col: float, noise: float
) -> tuple[FloatArray, int]:
    """Remove the tilt, and make NaN of pixels whose neighbours do not fit it.

    Returns:
        The heights, and how many of them are numbers.
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
            # Both neighbours in the line must fit but only one line: telegraph noise of an unstable
            # tip moves parts of lines, and nothing would be flat next to them.
            fits = abs(here[col] - above[col] - per_row) <= steep
            fits |= abs(below[col] - here[col] - per_row) <= steep
            fits &= (steps[col] <= steep) & (inner[col] <= steep)
            there[col] = here[col] - per_row * row - per_col * col if fits else np.nan
    number = count_below(flat.ravel(), np.inf)
    if number < FEWEST_PIXELS:
        # Nothing is flat: a plane through everything is better than none.
        for row in range(rows):
            for col in range(cols):
                flat[row, col] = z[row, col] - per_row * row - per_col * col
        number = count_below(flat.ravel(), np.inf)
    return flat, number


@compiled
def _refine(
    points: FloatArray,
    slopes: tuple[float, float],
    levels: FloatArray,
    counts: FloatArray,
    settings: Refinement,
) -> tuple[float, float]:
    """Refine the slopes; levels and their numbers of points are changed in place.

    Args:
        points: Heights (rows, columns); NaN where there is none.
        slopes: Down the rows and along them.
        levels: Heights, ascending.
        counts: Number of points of each level.
        settings: Which points count, and when to stop.
    """
    down, along = slopes
    shifts = np.empty(levels.size)
    for _ in range(MAX_ITERATIONS):
        slopes = down, along
        more = _common_slope(points, settings.apart, slopes, levels, settings.width, shifts, counts)
        # The cut at a level's width hides a part of every error; the gain makes up for it.
        down += settings.gain * more[0]
        along += settings.gain * more[1]
        for level in range(levels.size):
            levels[level] += settings.gain * shifts[level]
        change = abs(more[0]) * points.shape[0] + abs(more[1]) * points.shape[1]
        if change < settings.tolerance:
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
    """Fit one slope and an offset per level to the points near the levels by least squares.

    Fills in the changes of the levels and their numbers of points.

    Returns:
        Change of the slopes.
    """
    means = np.empty((levels.size, 2))
    rr, rc, cc, rz, cz = 0.0, 0.0, 0.0, 0.0, 0.0
    for level in range(levels.size):
        # Where two levels are near, each takes the points up to half way.
        low, high = -width, width
        if level > 0:
            low = max(low, (levels[level - 1] - levels[level]) / 2)
        if level + 1 < levels.size:
            high = min(high, (levels[level + 1] - levels[level]) / 2)
        n, r, c, z, r2, c2, r_c, r_z, c_z = _moments(
            points, apart, slopes, levels[level], low, high
        )
        counts[level] = n
        per = 1 / max(n, 1.0)
        means[level, 0], means[level, 1], shifts[level] = r * per, c * per, z * per
        rr += r2 - r * r * per
        cc += c2 - c * c * per
        rc += r_c - r * c * per
        rz += r_z - r * z * per
        cz += c_z - c * z * per
    determinant = rr * cc - rc * rc
    # All points in a line leave the slope across it open: keep what is known.
    if determinant == 0 or determinant < 1e-9 * rr * cc:
        return 0.0, 0.0
    more_down = (rz * cc - cz * rc) / determinant
    more_along = (cz * rr - rz * rc) / determinant
    for level in range(levels.size):
        shifts[level] -= means[level, 0] * more_down + means[level, 1] * more_along
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
    """Sum 1, r, c, z, rr, cc, rc, rz, cz over the points near a level.

    Args:
        points: Heights (rows, columns).
        apart: Distance of the rows that are used.
        slopes: Down the rows and along them.
        level: Height of the level.
        low: Lowest height above the level that counts.
        high: Highest height above the level that counts.
    """
    rows, cols = points.shape
    down, along = slopes
    sums = np.zeros((2, cols))
    heights, down_heights = sums[0], sums[1]
    # Integers are exact and fast; only heights need floating-point sums.
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
    """Find the peaks in the distribution of heights, ascending."""
    heights, lowest, highest = straightened(points, slopes[0], slopes[1])
    bin_width = max(noise, (highest - lowest) / MOST_BINS)
    bins = int((highest - lowest) / bin_width) + 1
    marked = _summits(_counts_of_three_bins(heights, lowest, bin_width, bins))
    levels = np.empty(MOST_LEVELS + 1)
    n = 0
    for k in range(marked.size):
        if marked[k]:
            levels[n] = lowest + (k - 0.5) * bin_width
            if bin_width > noise:  # the points of a wide bin may be far from its middle
                levels[n] = _mean_near(heights, levels[n], 1.5 * bin_width)
            n += 1
    return levels[:n]


@compiled
def _mean_near(heights: FloatArray, level: float, reach: float) -> float:
    """Average the heights within reach of a level; the level itself if there are none."""
    total, count = 0.0, 0
    for n in range(heights.size):
        if abs(heights[n] - level) <= reach:
            total += heights[n] - level
            count += 1
    return level + total / max(count, 1)


@compiled
def _counts_of_three_bins(
    heights: FloatArray, lowest: float, bin_width: float, bins: int
) -> NDArray[np.int64]:
    """Count the heights in every three neighbouring bins; a level may lie across their borders."""
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
    """Mark with 1 the highest summit, and lower ones that valleys separate from marked ones."""
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
        for other in range(number):
            best = other if near[summits[other]] > near[summits[best]] else best
        marked[summits[best]] |= _is_separate(near, marked, summits[best])
        number -= 1
        summits[best] = summits[number]
    return marked


@compiled
def _is_separate(near: NDArray[np.int64], marked: NDArray[np.int64], summit: int) -> bool:
    """Check that a valley lies between a summit and the next marked one on either side."""
    for side in range(2):
        step, k = 2 * side - 1, summit
        while 0 <= k < near.size and near[k] >= VALLEY * near[summit]:
            if marked[k]:
                return False
            k += step
    return True
