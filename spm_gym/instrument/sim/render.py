"""Image formation by a probe over a surface (pure functions, compiled)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.convolution import add_apex, blur, reach, whole_current
from spm_gym.instrument.sim.molecule import DECAY, Template
from spm_gym.instrument.sim.probe import Probe
from spm_gym.instrument.sim.scene import SPAN, Ground, ScanGrid, scene, terrace_level
from spm_gym.jit import compiled
from spm_gym.types import BoolArray

Array = NDArray[np.float64]
Image = NDArray[np.float32]

Words = NDArray[np.uint64]

_RIM_WIDTH = 0.7e-9
_ANGSTROM, _ONE = np.float32(1e-10), np.float32(1)
_EVEN_BYTES, _ADD_PAIRS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0001000100010001)
_BYTE, _TOP = np.uint64(8), np.uint64(48)
_MEAN, _DEVIATION = 8 * 255 / 2, math.sqrt(8 * (256**2 - 1) / 12)


class View(NamedTuple):
    """Lines of a frame that are imaged together.

    Attributes:
        x: Centre of the frame, m.
        y: Centre of the frame, m.
        angle: Counter-clockwise rotation, rad.
        pixel: Distance of neighbouring pixels, m.
        pixels: Of a line, and lines of the frame.
        start: First of the lines, counted from the largest y.
        stop: The line after the last.
        shift: Drift and creep of every line of the frame along both axes, m (pixels, 2).
        height: Of the tip above the bare substrate at the centre, m.
        slope: Tilt of the sample along x and y.
    """

    x: float
    y: float
    angle: float
    pixel: float
    pixels: int
    start: int
    stop: int
    shift: Array
    height: float
    slope: Array


def scan_lines(
    ground: Ground,
    view: View,
    probe: Probe,
    template: Template,
    config: SimulatorConfig,
    away: BoolArray,
    words: Words,
) -> Array:
    """Image some lines of a frame.

    Args:
        ground: The sample.
        view: Which lines of which frame.
        probe: As it is during these lines.
        template: Image of a molecule by a perfect tip.
        config: Strength of the noise, and whether currents, heights or their powers are convolved.
        away: In which pixels an unstable probe has its second form (lines, pixels).
        words: Random 64-bit words, for each line those of its pixels and then its own
            (lines, pixels + 1).

    Returns:
        Heights (lines, pixels), m.
    """
    # Constant current holds the sum of the currents through all apexes, each growing as exp(2 k z),
    # so the image is the logarithm of a convolution of exp(2 k z). The paper convolves heights
    # instead ("linear"), which is the limit of small heights.
    power = 1.0 if isinstance(config.mode, str) else config.mode
    base, met = _convolved(ground, view, probe, template, config.mode != "current", power)
    if config.mode == "current":
        np.log(met, out=met)  # four times as fast as in compiled code
        met /= 2 * DECAY
    noise = (probe.noise * config.white_noise_pm * 1e-12, config.line_noise_pm * 1e-12)
    return _heights(ground, view, probe, base, met, away, words, noise)


@compiled
def _convolved(
    ground: Ground, view: View, probe: Probe, template: Template, linear: bool, power: float
) -> tuple[float, Image]:
    """Convolve the surface with both forms of the probe; heights by the mean of a power.

    Returns:
        A height, m, and from there current or height of each form (forms, lines, pixels).
    """
    furthest = max(reach(probe.apexes), reach(probe.other))
    margin = math.ceil(furthest / view.pixel) + 1
    # Powers are of heights above the lowest one, which has to be that of the whole frame.
    first, last = _neighbourhood(view, template) if power == 1 else (0, view.pixels)
    raster = _raster(view, first, last, margin)
    base, field = scene(ground, raster, template, linear)
    if power != 1:
        lowest = max(field.min(), field.max() - SPAN)  # the powers of more are too large
        base += lowest
        above = np.maximum(field - np.float32(lowest), np.float32(0)) / _ANGSTROM
        field = (_ONE + above) ** np.float32(power)
    field = field[view.start - first : view.stop - first + 2 * margin]
    current = whole_current(probe.apexes)
    met = np.zeros((1 + len(probe.other), view.stop - view.start, raster.cols), np.float32)
    for apex in probe.apexes[1:]:
        add_apex(met[0], field, apex, current, view.pixel, margin)
    for other in probe.other:
        met[1] = met[0]
        add_apex(met[1], field, other, current, view.pixel, margin)
    add_apex(met[0], field, probe.apexes[0], current, view.pixel, margin)
    met = met[:, :, : view.pixels].copy()
    if power != 1:
        met = (met ** np.float32(1 / power) - _ONE) * _ANGSTROM
    return base, met


@compiled
def _heights(
    ground: Ground,
    view: View,
    probe: Probe,
    base: float,
    met: Image,
    away: BoolArray,
    words: Words,
    noise: tuple[float, float],
) -> Array:
    """Combine the images of both forms, contrast and rim, tilt and noise."""
    relief = met[0]
    for form in met[1:]:
        for row in range(form.shape[0]):
            for col in range(form.shape[1]):
                if away[row, col]:
                    relief[row, col] = form[row, col] + probe.raised
    # A contaminated probe shows a dark rim around high places.
    if probe.rim:
        lower = blur(relief, _RIM_WIDTH / view.pixel)
        relief += np.float32(probe.rim) * (relief.min() - lower)
    level = terrace_level(ground, view.x, view.y)
    cos, sin = math.cos(view.angle), math.sin(view.angle)
    middle = (view.pixels - 1) / 2
    along = (view.slope[0] * cos + view.slope[1] * sin) * view.pixel
    across = (view.slope[1] * cos - view.slope[0] * sin) * view.pixel
    white, line = noise
    z = np.empty(relief.shape)
    for row in range(z.shape[0]):
        offset = view.height + level + across * (middle - view.start - row)
        offset += line * normal(words[row, -1])
        for col in range(z.shape[1]):
            # The contrast of a contaminated tip scales molecules and steps, not the terrace below.
            height = probe.contrast * (base - level + relief[row, col]) + along * (col - middle)
            z[row, col] = offset + height + white * normal(words[row, col])
    return z


@compiled
def _neighbourhood(view: View, template: Template) -> tuple[int, int]:
    """Return the range of all lines whose molecules reach into the view.

    A molecule is displaced as the line of its centre is, so that line is needed too.
    """
    far = template.pitch * (len(template.rho) // 2)
    above, below = far + view.shift[:, 1].max(), far - view.shift[:, 1].min()
    first = view.start - max(int(above / view.pixel) + 2, 0)
    last = view.stop + max(int(below / view.pixel) + 2, 0)
    return max(first, 0), min(last, view.pixels)


@compiled
def _raster(view: View, first: int, last: int, margin: int) -> ScanGrid:
    """Return the points that contribute to the lines of a range."""
    shift = np.empty((last - first + 2 * margin, 2))
    for row in range(len(shift)):
        known = min(max(first - margin + row, 0), view.pixels - 1)
        shift[row, 0] = view.shift[known, 0]
        shift[row, 1] = view.shift[known, 1]
    return ScanGrid(
        view.x,
        view.y,
        math.cos(view.angle),
        math.sin(view.angle),
        view.pixel,
        (view.pixels - 1) / 2,
        -margin,
        view.pixels + 2 * margin,
        first - margin,
        shift,
    )


@compiled
def white_noise(words: Words, strength: float) -> Array:
    """Compute noise without a surface below, from words as for `scan_lines`."""
    noise = np.empty((words.shape[0], words.shape[1] - 1))
    for row in range(noise.shape[0]):
        for col in range(noise.shape[1]):
            noise[row, col] = strength * normal(words[row, col])
    return noise


@compiled
def normal(word: np.uint64) -> float:
    """Make a normal number from a random word; only 0.16 % lie beyond three deviations."""
    # The sum of the eight bytes of the word, at a quarter of the cost of an exact normal number.
    pairs = (word & _EVEN_BYTES) + ((word >> _BYTE) & _EVEN_BYTES)
    total = (pairs * _ADD_PAIRS) >> _TOP
    return (np.int64(total) - _MEAN) / _DEVIATION


@compiled
def jumping(numbers: Array, rate: float, away: bool) -> BoolArray:
    """Find the pixels in which an unstable probe has its second form, in order of acquisition.

    Args:
        numbers: Uniform between 0 and 1 (lines, pixels).
        rate: Probability of a jump in each pixel.
        away: Whether it was in its second form in the pixel before the first.
    """
    form = np.empty(numbers.shape, np.bool_)
    for row in range(numbers.shape[0]):
        for col in range(numbers.shape[1]):
            away ^= numbers[row, col] < rate
            form[row, col] = away
    return form
