"""Convolution with the kernel of a probe, exact to fractions of a pixel (compiled)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spm_gym.compiled import compiled
from spm_gym.instrument.sim.molecule import DECAY

Array = NDArray[np.float64]

_KERNEL_REACH = 4.0
"""Widths of an apex beyond which the surface does not matter."""

_BLUR_REACH = 3.0


@compiled
def reach(apexes: Array) -> float:
    """Distance (m) beyond which the surface does not matter to a pixel."""
    furthest = 0.0
    for x, y, _, width in apexes:
        furthest = max(furthest, max(abs(x), abs(y)) + _KERNEL_REACH * width)
    return furthest


@compiled
def convolve(field: Array, apexes: Array, pixel: float, margin: int) -> Array:
    """Average a field over what each apex meets, weighted by the current through it.

    Args:
        field: Current or height of the surface, with a margin on every side.
        apexes: Lateral offset x and y, height, width, m (n, 4).
        pixel: Distance of neighbouring points, m.
        margin: Points on every side that only feed the convolution; more than `reach`.

    Returns:
        The average without the margin.
    """
    total = np.zeros((field.shape[0] - 2 * margin, field.shape[1] - 2 * margin))
    current = whole_current(apexes)
    for apex in apexes:
        add_apex(total, field, apex, current, pixel, margin)
    return total


@compiled
def whole_current(apexes: Array) -> float:
    """Sum of the currents through all apexes above flat ground."""
    current = 0.0
    for apex in apexes:
        current += math.exp(2 * DECAY * apex[2])
    return current


@compiled
def add_apex(
    total: Array, field: Array, apex: Array, current: float, pixel: float, margin: int
) -> None:
    """Add what one apex meets, weighted by its share of the current, to an image."""
    x, y, height, width = apex
    share = math.exp(2 * DECAY * height) / current
    first_down, down = taps(y, width, pixel)
    first_across, across = taps(-x, width, pixel)
    down *= share
    rows, cols = total.shape
    left, right = margin + first_across, margin + first_across + cols + len(across) - 1
    if min(left, margin + first_down) < 0 or right > field.shape[1]:
        raise ValueError("the margin of the field is less than the reach of the probe")
    strip = np.empty(right - left)
    for row in range(rows):
        strip[:] = 0.0
        above = margin + first_down + row
        for tap in range(0, len(down) - 3, 4):
            _add_four(
                strip,
                field[above + tap][left:right],
                field[above + tap + 1][left:right],
                field[above + tap + 2][left:right],
                field[above + tap + 3][left:right],
                down[tap : tap + 4],
            )
        for tap in range(len(down) // 4 * 4, len(down)):
            _add(strip, field[above + tap][left:right], down[tap])
        _add_shifts(total[row], strip, across)


@compiled
def _add_shifts(line: Array, strip: Array, weights: Array) -> None:
    """Add a longer line, weighted and shifted."""
    for tap in range(0, len(weights) - 3, 4):
        _add_four(
            line, strip[tap:], strip[tap + 1 :], strip[tap + 2 :], strip[tap + 3 :],
            weights[tap : tap + 4],
        )  # fmt: skip
    for tap in range(len(weights) // 4 * 4, len(weights)):
        _add(line, strip[tap:], weights[tap])


@compiled
def _add(line: Array, other: Array, weight: float) -> None:
    for col in range(len(line)):
        line[col] += weight * other[col]


@compiled
def _add_four(line: Array, a: Array, b: Array, c: Array, d: Array, weights: Array) -> None:
    """Add four weighted lines; together they cost half as much as one after the other."""
    wa, wb, wc, wd = weights[0], weights[1], weights[2], weights[3]
    for col in range(len(line)):
        line[col] += wa * a[col] + wb * b[col] + wc * c[col] + wd * d[col]


@compiled
def taps(centre: float, width: float, pixel: float) -> tuple[int, Array]:
    """Weights of a Gaussian, integrated against linear interpolation between pixels.

    The integral over a hat function is the second difference of the twice integrated Gaussian, so
    the weights are right for apexes narrower than a pixel and for fractions of a pixel.

    Args:
        centre: Of the Gaussian, m.
        width: Its standard deviation, m.
        pixel: Distance of the points, m.

    Returns:
        Number of the first point, counted from the origin, and the weights, whose sum is 1.
    """
    first = math.floor((centre - _KERNEL_REACH * width) / pixel)
    last = math.ceil((centre + _KERNEL_REACH * width) / pixel)
    weights = np.empty(last - first + 1)
    hat = pixel / width
    total = 0.0
    for tap in range(len(weights)):
        t = ((first + tap) * pixel - centre) / width
        # The linear part is taken out by hand: the current above debris would magnify what its
        # cancellation leaves of it.
        second = max(hat - abs(t), 0.0) + _rest(t - hat) - 2 * _rest(t) + _rest(t + hat)
        weights[tap] = max(second, 0.0)
        total += weights[tap]
    weights /= total
    return first, weights


@compiled
def blur(z: Array, width: float) -> Array:
    """Blur with a Gaussian of a width in pixels, the edges repeated."""
    rows, cols = z.shape
    far = math.ceil(_BLUR_REACH * width)
    weights = np.empty(2 * far + 1)
    for tap in range(len(weights)):
        weights[tap] = math.exp(-((tap - far) ** 2) / (2 * width * width))
    weights /= weights.sum()
    strip = np.empty(cols + 2 * far)
    blurred = np.zeros((rows, cols))
    for row in range(rows):
        strip[:] = 0.0
        inner = strip[far : far + cols]
        for tap in range(0, len(weights) - 3, 4):
            _add_four(
                inner, z[_within(row + tap - far, rows)], z[_within(row + tap + 1 - far, rows)],
                z[_within(row + tap + 2 - far, rows)], z[_within(row + tap + 3 - far, rows)],
                weights[tap : tap + 4],
            )  # fmt: skip
        for tap in range(len(weights) // 4 * 4, len(weights)):
            _add(inner, z[_within(row + tap - far, rows)], weights[tap])
        strip[:far] = inner[0]
        strip[far + cols :] = inner[-1]
        _add_shifts(blurred[row], strip, weights)
    return blurred


@compiled
def _within(row: int, rows: int) -> int:
    return min(max(row, 0), rows - 1)


@compiled
def _rest(t: float) -> float:
    """The twice integrated Gaussian less its linear part."""
    away = abs(t)
    return math.exp(-t * t / 2) / math.sqrt(2 * math.pi) - away * 0.5 * math.erfc(
        away / math.sqrt(2)
    )
