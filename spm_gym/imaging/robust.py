"""How noisy a topography is, whatever stands on its surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.jit import compiled
from spm_gym.types import FloatImage

FloatArray = NDArray[np.float64]

OF_A_NORMAL_CUT_AT_2_SIGMA = 0.8796
OF_THE_INNER_40_PERCENT = 0.5244
ENOUGH_FOR_A_FIRST_GUESS = 256
FEWEST_SAMPLES = 64

LINES = 32
"""Lines along which the tilt is measured: whole ones, whose errors cancel from end to end."""

FEW_LINES = 16
"""As many do for the noise."""

LANES = 32
"""Sums are kept in as many parts: without them each addition waits for the one before."""


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
    """The heights as the compiled functions want them; what is no number is NaN."""
    return np.where(np.isfinite(z), z, np.nan).astype(np.float64, order="C", copy=False)


@compiled
def noise_between_rows(z: FloatArray, columns: int) -> tuple[float, float]:
    """Most frequent difference of neighbouring rows, and the noise, from so many columns.

    Blunt probes leave hardly anything flat, but smooth hills without second differences; telegraph
    noise spoils second differences more often than first ones. Neither can lessen the noise.
    """
    first, second = _differences_of_rows(z, columns)
    centre, spread = core(first)
    smooth = core(second)[1]
    noise = spread / np.sqrt(2.0)
    return centre, min(noise, smooth / np.sqrt(6.0)) if smooth > 0 else noise


@compiled
def _differences_of_rows(z: FloatArray, columns: int) -> tuple[FloatArray, FloatArray]:
    """First and second differences down some columns; down all if those hardly have any."""
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
    """Differences along some rows; along all if those hardly have any."""
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
            there[cols] = np.nan
        along = _differences(heights[1:], heights)
        if stride == 1 or count_below(along, np.inf) >= FEWEST_SAMPLES:
            return along
        stride = 1


@compiled
def _differences(after: FloatArray, before: FloatArray) -> FloatArray:
    """Differences of two rows of values, and NaN up to a multiple of the lanes."""
    number = after.size
    steps = np.empty((number + LANES - 1) // LANES * LANES)
    for n in range(number):
        steps[n] = after[n] - before[n]
    for n in range(number, steps.size):
        steps[n] = np.nan
    return steps


@compiled
def core(samples: FloatArray) -> tuple[float, float]:
    """Centre and standard deviation of the core of a distribution with heavy tails.

    Mean and deviation are taken again and again within two standard deviations. NaN is left out;
    (0, 0) without any number. Their number is a multiple of the lanes.
    """
    some = _some_of(samples)
    centre, deviation = _cut(some, *_first_guess(some))
    return _cut(samples, centre, deviation)


@compiled
def _cut(samples: FloatArray, centre: float, deviation: float) -> tuple[float, float]:
    """Mean and deviation within two deviations, until they stay as they are."""
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
            break
        before = deviation
        shift /= number
        centre += shift
        deviation = np.sqrt(max(0.0, square / number - shift * shift)) / OF_A_NORMAL_CUT_AT_2_SIGMA
        if abs(before - deviation) <= 0.03 * before:
            break
    return centre, deviation


@compiled
def _some_of(samples: FloatArray) -> FloatArray:
    """Enough for a first guess."""
    # An odd stride meets every column of those that differences were taken down.
    stride = (samples.size // ENOUGH_FOR_A_FIRST_GUESS) | 1
    some = np.empty((samples.size // stride + LANES) // LANES * LANES)
    for n in range(some.size):
        some[n] = samples[n * stride] if n * stride < samples.size else np.nan
    return some


@compiled
def _first_guess(samples: FloatArray) -> tuple[float, float]:
    """Median, and deviation by the inner part."""
    slack = 0.02 * samples.size
    centre = quantile(samples, 0.5, slack)
    off = np.empty(samples.size)
    for n in range(samples.size):
        off[n] = abs(samples[n] - centre)
    return centre, quantile(off, 0.4, slack) / OF_THE_INNER_40_PERCENT


@compiled
def quantile(values: FloatArray, share: float, slack: float) -> float:
    """A number that this share of the values does not exceed, give or take some values.

    NaN does not count; 0 without any number. Counting is so much faster than sorting that halving
    the interval wins.
    """
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
    """How many values do not exceed the limit."""
    number = 0
    for n in range(values.size):
        number += values[n] <= limit
    return number


@compiled
def extent(values: FloatArray) -> tuple[float, float]:
    """Lowest and highest value; NaN does not count; infinity and its negative without a number."""
    low, high = np.inf, -np.inf
    for n in range(values.size):
        low = values[n] if values[n] < low else low
        high = values[n] if values[n] > high else high
    return low, high


@compiled
def straightened(z: FloatArray, per_row: float, per_col: float) -> tuple[FloatArray, float, float]:
    """Heights of every second row without a tilt, of all rows if those hardly have any.

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
