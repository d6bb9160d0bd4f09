"""Estimates of noise and tilt that steps and molecules on the surface do not disturb."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.jit import compiled
from spm_gym.types import FloatImage

FloatArray = NDArray[np.float64]

# Of a normal distribution: standard deviation of what lies within two standard deviations, and half
# the width of the inner 40 %, both in standard deviations of the whole.
OF_A_NORMAL_CUT_AT_2_SIGMA = 0.8796
OF_THE_INNER_40_PERCENT = 0.5244
ENOUGH_FOR_A_FIRST_GUESS = 256
FEWEST_SAMPLES = 64

LINES = 32
"""Lines along which the tilt is measured: in whole lines, noise cancels except at the ends."""

FEW_LINES = 16
"""Lines that suffice for the noise."""

LANES = 32
"""Partial sums that are kept: in a single sum each addition waits for the one before."""


def noise(z: FloatImage) -> float:
    """Estimate the rms noise of a topography from the differences of neighbouring lines.

    White noise and offsets of whole lines both count; a tilt, steps and molecules do not, as long
    as a good part of the surface is flat.

    Args:
        z: (H, W), m; tilted or level; NaN where nothing was scanned.

    Returns:
        Noise, m; 0 if no two neighbouring lines were scanned.
    """
    heights = heights_in(z)
    return noise_between_rows(heights, min(FEW_LINES, heights.shape[1]))[1]


def heights_in(z: FloatImage) -> FloatArray:
    """Convert heights for the compiled functions; infinities become NaN."""
    return np.where(np.isfinite(z), z, np.nan).astype(np.float64, order="C", copy=False)


@compiled
def noise_between_rows(z: FloatArray, columns: int) -> tuple[float, float]:
    """Estimate the most frequent difference of neighbouring rows, and the noise.

    Args:
        z: Heights (H, W), m.
        columns: How many columns are used.
    """
    # A blunt probe leaves hardly anything flat, but smooth hills have small second differences.
    # Telegraph noise, on the other hand, spoils second differences more often than first ones. Both
    # can only enlarge the estimates, so the smaller one is better.
    first, second = _differences_of_rows(z, columns)
    centre, spread = core(first)
    smooth = core(second)[1]
    noise = spread / np.sqrt(2.0)
    return centre, min(noise, smooth / np.sqrt(6.0)) if smooth > 0 else noise


@compiled
def _differences_of_rows(z: FloatArray, columns: int) -> tuple[FloatArray, FloatArray]:
    """Take first and second differences down some columns, or all if those hold few numbers."""
    rows, cols = z.shape
    stride = cols // columns
    while True:
        begin = stride // 2
        chosen = (cols - begin + stride - 1) // stride
        heights = np.empty(rows * chosen)
        for row in range(rows):
            here, there = z[row], heights[row * chosen : (row + 1) * chosen]
            for n in range(chosen):
                there[n] = here[begin + n * stride]
        below = heights[chosen:]
        first = _differences(below, heights)
        if stride == 1 or count_below(first, np.inf) >= FEWEST_SAMPLES:
            return first, _differences(first[chosen : below.size], first)
        stride = 1


@compiled
def differences_of_columns(z: FloatArray) -> FloatArray:
    """Take differences along some rows, or along all if those hold few numbers."""
    rows, cols = z.shape
    stride = max(1, rows // LINES)
    while True:
        begin = stride // 2
        chosen = (rows - begin + stride - 1) // stride
        heights = np.empty(chosen * (cols + 1))
        for n in range(chosen):
            here, there = z[begin + n * stride], heights[n * (cols + 1) :]
            for col in range(cols):
                there[col] = here[col]
            there[cols] = np.nan  # no difference from the end of a row to the next row
        along = _differences(heights[1:], heights)
        if stride == 1 or count_below(along, np.inf) >= FEWEST_SAMPLES:
            return along
        stride = 1


@compiled
def _differences(after: FloatArray, before: FloatArray) -> FloatArray:
    """Subtract two rows of values; NaN fills up to a multiple of the lanes."""
    number = after.size
    steps = np.empty((number + LANES - 1) // LANES * LANES)
    for n in range(number):
        steps[n] = after[n] - before[n]
    for n in range(number, steps.size):
        steps[n] = np.nan
    return steps


@compiled
def core(samples: FloatArray) -> tuple[float, float]:
    """Estimate centre and standard deviation of the core of a distribution with heavy tails.

    Args:
        samples: A multiple of the lanes; NaN is left out; (0, 0) without any number.
    """
    # A few samples give a start near enough that all of them need one or two passes.
    some = _some_of(samples)
    centre, deviation = _clipped(some, *_first_guess(some))
    return _clipped(samples, centre, deviation)


@compiled
def _clipped(samples: FloatArray, centre: float, deviation: float) -> tuple[float, float]:
    """Average within two standard deviations, again and again until both hardly change."""
    sums = np.empty((3, LANES))
    numbers, shifts, squares = sums[0], sums[1], sums[2]
    for _ in range(8):
        for lane in range(LANES):
            numbers[lane], shifts[lane], squares[lane] = 0.0, 0.0, 0.0
        for begin in range(0, samples.size, LANES):
            some = samples[begin : begin + LANES]
            for lane in range(LANES):
                off = some[lane] - centre
                inside = abs(off) <= 2 * deviation
                off = off if inside else 0.0
                numbers[lane] += 1.0 if inside else 0.0
                shifts[lane] += off
                squares[lane] += off * off
        number, shift, square = 0.0, 0.0, 0.0
        for lane in range(LANES):
            number += numbers[lane]
            shift += shifts[lane]
            square += squares[lane]
        if number < 8:
            break  # so few say nothing of a deviation: keep the last one
        before = deviation
        shift /= number
        centre += shift
        deviation = np.sqrt(max(0.0, square / number - shift * shift)) / OF_A_NORMAL_CUT_AT_2_SIGMA
        if abs(before - deviation) <= 0.03 * before:
            break
    return centre, deviation


@compiled
def _some_of(samples: FloatArray) -> FloatArray:
    """Choose samples for a first guess."""
    # An odd stride meets every column of those that differences were taken down.
    stride = (samples.size // ENOUGH_FOR_A_FIRST_GUESS) | 1
    some = np.empty((samples.size // stride + LANES) // LANES * LANES)
    for n in range(some.size):
        some[n] = samples[n * stride] if n * stride < samples.size else np.nan
    return some


@compiled
def _first_guess(samples: FloatArray) -> tuple[float, float]:
    """Estimate the centre by the median and the deviation by the inner 40 %."""
    slack = 0.02 * samples.size
    centre = quantile(samples, 0.5, slack)
    off = np.empty(samples.size)
    for n in range(samples.size):
        off[n] = abs(samples[n] - centre)
    return centre, quantile(off, 0.4, slack) / OF_THE_INNER_40_PERCENT


@compiled
def quantile(values: FloatArray, share: float, slack: float) -> float:
    """Find a number that this share of the values does not exceed, to within ``slack`` values.

    NaN does not count; 0 without any number.
    """
    # Counting is so much faster than sorting that halving the interval wins.
    low, high = extent(values)
    if low > high:
        return 0.0
    number = count_below(values, high)
    for _ in range(64):
        middle = low + (high - low) / 2
        excess = count_below(values, middle) - share * number
        if abs(excess) <= slack:
            return middle
        if excess < 0:
            low = middle
        else:
            high = middle
    return high


@compiled
def count_below(values: FloatArray, limit: float) -> int:
    """Count the values that do not exceed the limit; NaN does not count."""
    number = 0
    for n in range(values.size):
        number += values[n] <= limit
    return number


@compiled
def extent(values: FloatArray) -> tuple[float, float]:
    """Find the lowest and the highest value; NaN does not count; (inf, -inf) without a number."""
    low, high = np.inf, -np.inf
    for n in range(values.size):
        low = values[n] if values[n] < low else low
        high = values[n] if values[n] > high else high
    return low, high


@compiled
def straightened(z: FloatArray, per_row: float, per_col: float) -> tuple[FloatArray, float, float]:
    """Remove a tilt from every second row, or from all rows if those hold few numbers.

    Returns:
        The heights in one dimension; the lowest and the highest as by `extent`.
    """
    stride = 2
    while True:
        rows, cols = (z.shape[0] + stride - 1) // stride, z.shape[1]
        heights = np.empty(rows * cols)
        for row in range(rows):
            here, base = z[row * stride], per_row * row * stride
            there = heights[row * cols : (row + 1) * cols]
            for col in range(cols):
                there[col] = here[col] - base - per_col * col
        if stride == 1 or count_below(heights, np.inf) >= FEWEST_SAMPLES:
            low, high = extent(heights)
            return heights, low, high
        stride = 1
