"""Convolution with the kernel of a probe, exact to fractions of a pixel (compiled)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spm_gym.instrument.sim.molecule import DECAY
from spm_gym.jit import compiled

Array = NDArray[np.float64]
Image = NDArray[np.float32]
"""Single precision suffices for relative currents and heights, and halves the work."""

_KERNEL_REACH = 4.0
"""Widths of an apex beyond which the surface does not contribute."""

_BLUR_REACH = 3.0
_BLOCK = 2048
"""Pixels that are processed at a time, so that they stay in the processor's cache."""


@compiled
def reach(apexes: Array) -> float:
    """Return the distance (m) beyond which the surface does not contribute to a pixel."""
    furthest = 0.0
    for x, y, _, width in apexes:
        furthest = max(furthest, max(abs(x), abs(y)) + _KERNEL_REACH * width)
    return furthest


@compiled
def convolve(field: Image, apexes: Array, pixel: float, margin: int) -> Image:
    """Average a field over the surface below each apex, weighted by the current through it.

    Args:
        field: Current or height of the surface, with a margin on every side.
        apexes: Lateral offset x and y, height, width, m (n, 4).
        pixel: Distance of neighbouring points, m.
        margin: Points on every side that only feed the convolution; more than `reach`.

    Returns:
        The average without the margin.

    Raises:
        ValueError: The margin is less than the reach of an apex.
    """
    rows, cols = field.shape[0] - 2 * margin, field.shape[1] - 2 * margin
    total = np.zeros((rows, field.shape[1]), np.float32)
    current = whole_current(apexes)
    for apex in apexes:
        add_apex(total, field, apex, current, pixel, margin)
    return total[:, :cols].copy()


@compiled
def whole_current(apexes: Array) -> float:
    """Sum the currents through all apexes above flat ground."""
    current = 0.0
    for apex in apexes:
        current += math.exp(2 * DECAY * apex[2])
    return current


@compiled
def add_apex(
    total: Image, field: Image, apex: Array, current: float, pixel: float, margin: int
) -> None:
    """Add the surface below one apex, weighted by its share of the current, to an image.

    The image has the width of the field; the last columns of the result mean nothing.
    """
    # With one width for both, a shift by lines or columns is a shift of the flat array, and the
    # loops need not stop at the end of every line. A Gaussian is separable: down, then across.
    x, y, height, width = apex
    share = math.exp(2 * DECAY * height) / current
    first_down, down = taps(y, width, pixel, share)
    first_across, across = taps(-x, width, pixel, 1.0)
    stride = field.shape[1]
    cols = stride - 2 * margin
    # Compiled code does not check indices: with too small a margin it would read foreign memory.
    if (
        min(first_down, first_across) < -margin
        or first_down + len(down) > margin + 1
        or first_across + len(across) > margin + 1
    ):
        raise ValueError("the margin of the field is less than the reach of the probe")
    size = (total.shape[0] - 1) * stride + cols
    strip = np.zeros(size + len(across) - 1, np.float32)
    start = (margin + first_down) * stride + margin + first_across
    _add_shifts(strip, field.ravel()[start:], stride, down)
    _add_shifts(total.ravel()[:size], strip, 1, across)


@compiled
def _add_shifts(line: Image, source: Image, shift: int, weights: Image) -> None:
    """Add a longer line several times, each time shifted further and weighted."""
    for begin in range(0, len(line), _BLOCK):
        block = line[begin : begin + _BLOCK]
        for tap in range(0, len(weights) - 3, 4):
            first = begin + tap * shift
            _add_four(
                block, source[first:], source[first + shift :], source[first + 2 * shift :],
                source[first + 3 * shift :], weights[tap : tap + 4],
            )  # fmt: skip
        for tap in range(len(weights) // 4 * 4, len(weights)):
            _add(block, source[begin + tap * shift :], weights[tap])


@compiled
def _add(line: Image, other: Image, weight: np.float32) -> None:
    for col in range(len(line)):
        line[col] += weight * other[col]


@compiled
def _add_four(line: Image, a: Image, b: Image, c: Image, d: Image, weights: Image) -> None:
    """Add four weighted lines, which costs half as much as adding one after the other."""
    wa, wb, wc, wd = weights[0], weights[1], weights[2], weights[3]
    for col in range(len(line)):
        line[col] += wa * a[col] + wb * b[col] + wc * c[col] + wd * d[col]


@compiled
def taps(centre: float, width: float, pixel: float, whole: float) -> tuple[int, Image]:
    """Integrate a Gaussian against linear interpolation between pixels.

    Args:
        centre: Centre of the Gaussian, m.
        width: Its standard deviation, m.
        pixel: Distance of the points, m.
        whole: Sum of the weights.

    Returns:
        Index of the first point, counted from the origin, and the weights.
    """
    # The integral over a hat function is the second difference of the twice integrated Gaussian, so
    # the weights are right for apexes narrower than a pixel and for fractions of a pixel.
    first = math.floor((centre - _KERNEL_REACH * width) / pixel)
    last = math.ceil((centre + _KERNEL_REACH * width) / pixel)
    weights = np.empty(last - first + 1)
    hat = pixel / width
    total = 0.0
    for tap in range(len(weights)):
        t = ((first + tap) * pixel - centre) / width
        # The linear part cancels, so it is left out: the rounding errors of its cancellation would
        # be magnified by the large current above debris.
        second = max(hat - abs(t), 0.0) + _rest(t - hat) - 2 * _rest(t) + _rest(t + hat)
        weights[tap] = max(second, 0.0)
        total += weights[tap]
    return first, (weights * (whole / total)).astype(np.float32)


@compiled
def blur(z: Image, width: float) -> Image:
    """Blur with a Gaussian of a width in pixels; beyond the edges they are repeated."""
    rows, cols = z.shape
    far = math.ceil(_BLUR_REACH * width)
    weights = np.empty(2 * far + 1)
    for tap in range(len(weights)):
        weights[tap] = math.exp(-((tap - far) ** 2) / (2 * width * width))
    weights /= weights.sum()
    narrow = weights.astype(np.float32)
    stride = cols + 2 * far
    wide = np.empty((rows + 2 * far, stride), np.float32)
    for row in range(wide.shape[0]):
        line = z[min(max(row - far, 0), rows - 1)]
        wide[row, :far] = line[0]
        wide[row, far : far + cols] = line
        wide[row, far + cols :] = line[-1]
    strip = np.zeros(rows * stride, np.float32)
    blurred = np.zeros((rows, stride), np.float32)
    _add_shifts(strip, wide.ravel(), stride, narrow)
    _add_shifts(blurred.ravel()[: (rows - 1) * stride + cols], strip, 1, narrow)
    return blurred[:, :cols].copy()


@compiled
def _rest(t: float) -> float:
    """Compute the twice integrated Gaussian without its linear part."""
    away = abs(t)
    return math.exp(-t * t / 2) / math.sqrt(2 * math.pi) - away * 0.5 * math.erfc(
        away / math.sqrt(2)
    )
