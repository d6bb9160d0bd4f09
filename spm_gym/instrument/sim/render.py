"""Image formation: what a probe makes of a surface (pure functions)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import erfc

from spm_gym.instrument.sim.molecule import DECAY, Orbital, template
from spm_gym.instrument.sim.probe import Apexes, Probe
from spm_gym.instrument.sim.surface import Grid, Surface
from spm_gym.types import BoolArray, Frame

Array = NDArray[np.float64]
Mode = Literal["current", "linear"]

_RIM_WIDTH = 0.7e-9
_KERNEL_REACH = 4.0
_DEEPEST = 30e-9


def scan_lines(
    surface: Surface,
    frame: Frame,
    lines: slice,
    probe: Probe,
    shift: Array,
    orbital: Orbital,
    mode: Mode,
    away: BoolArray,
) -> Array:
    """Image some lines of a frame, without noise and tilt.

    Args:
        surface: The sample.
        frame: The whole frame.
        lines: Which of its lines, counted from the largest y.
        probe: As it is during these lines.
        shift: Drift and creep of every line of the frame along both axes, (2, pixels), m.
        orbital: Which orbital carries the current.
        mode: Whether the kernel is convolved with the current or with the heights.
        away: In which pixels an unstable probe has its second form, (lines, pixels).

    Returns:
        Heights (lines, pixels), m.
    """
    forms = [probe.apexes, *([probe.instability.apexes] if probe.instability else [])]
    margin = int(np.ceil(max(reach(form) for form in forms) / frame.pixel)) + 1
    around = _neighbourhood(frame, lines, shift, orbital)
    heights = surface.heights(_grid(frame, around, margin, shift), orbital)
    wanted = slice(lines.start - around.start, lines.stop - around.start)
    images = [convolve(heights, form, frame.pixel, mode, margin)[wanted] for form in forms]
    z = images[0]
    if probe.instability:
        z = np.where(away, images[1] + probe.instability.height, z)
    if probe.rim:
        blurred = gaussian_filter(z, _RIM_WIDTH / frame.pixel, mode="nearest")
        z = z - probe.rim * (blurred - z.min())
    return np.asarray(probe.contrast * z)


def convolve(heights: Array, apexes: Apexes, pixel: float, mode: Mode, margin: int) -> Array:
    """Convolve a surface with the kernel of a probe.

    In current mode the feedback holds the sum of the currents through all apexes, each of which
    grows as exp(2 k z) with the height below it; in linear mode heights are averaged instead.

    Args:
        heights: The surface, with a margin on every side.
        apexes: Form of the probe.
        pixel: Distance of neighbouring points, m.
        mode: "current" or "linear".
        margin: Points on every side that only feed the convolution; at least `reach`.

    Returns:
        The image without the margin.
    """
    lowest = heights.min()
    field = heights - lowest
    if mode == "current":
        # Beyond that relief the current would be no number; nothing shallower changes.
        field = np.exp(2 * DECAY * np.minimum(field, _DEEPEST))
    weights = np.exp(2 * DECAY * apexes.height)
    down = _kernels(-apexes.offset[:, 1], apexes.width, pixel, heights.shape[0], margin)
    across = _kernels(apexes.offset[:, 0], apexes.width, pixel, heights.shape[1], margin)
    mixed = (down * (weights / weights.sum())[:, None, None]) @ field @ across.transpose(0, 2, 1)
    total = mixed.sum(axis=0)
    if mode == "current":
        total = np.log(total) / (2 * DECAY)
    return np.asarray(lowest + total)


def jumping(
    shape: tuple[int, int], probe: Probe, away: bool, rng: np.random.Generator
) -> BoolArray:
    """In which pixels the probe has its second form, in order of acquisition.

    Args:
        shape: Lines and pixels.
        probe: Stable or not.
        away: Whether it was in its second form in the pixel before the first.
        rng: Draws one number for each pixel of an unstable probe, none for a stable one's.
    """
    if probe.instability is None:
        return np.zeros(shape, dtype=bool)
    jumps = rng.random(shape) < probe.instability.rate
    return np.asarray((np.cumsum(jumps).reshape(shape) + away) % 2 == 1)


def white_and_line_noise(shape: tuple[int, int], white: float, line: float,
                         rng: np.random.Generator) -> Array:  # fmt: skip
    """Noise of every pixel and of every line, rms in m; drawn line by line."""
    drawn = rng.standard_normal((shape[0], shape[1] + 1))
    return np.asarray(white * drawn[:, :-1] + line * drawn[:, -1:])


def _kernels(offset: Array, width: Array, pixel: float, size: int, margin: int) -> Array:
    """Weights (n, size - 2 margin, size) of Gaussians, integrated against linear interpolation.

    The integral over a hat function is the second difference of the twice integrated Gaussian, so
    the weights are right for apexes narrower than a pixel and for fractions of a pixel.
    """
    distance = np.arange(margin - size, size - margin + 1) * pixel
    t = (distance - offset[:, None]) / width[:, None]
    # The linear part is taken out by hand: the current above debris would magnify what its
    # cancellation leaves of it.
    hat = np.maximum(pixel / width[:, None] - np.abs(t[:, 1:-1]), 0.0)
    away = np.abs(t)
    rest = np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi) - away * 0.5 * erfc(away / np.sqrt(2))
    second = hat + rest[:, :-2] - 2 * rest[:, 1:-1] + rest[:, 2:]
    weights = np.maximum(second, 0.0) * (width[:, None] / pixel)
    return np.ascontiguousarray(sliding_window_view(weights[:, ::-1], size, axis=1)[:, ::-1])


def reach(apexes: Apexes) -> float:
    """Distance (m) beyond which the surface does not matter to a pixel."""
    return float((np.abs(apexes.offset).max(axis=1) + _KERNEL_REACH * apexes.width).max())


def _neighbourhood(frame: Frame, lines: slice, shift: Array, orbital: Orbital) -> slice:
    """Those lines and all whose molecules reach into them.

    A molecule is displaced as the line of its centre is, so that line must be looked at too.
    """
    far = template(orbital).reach
    above, below = (far + shift[1].max()) / frame.pixel, (far - shift[1].min()) / frame.pixel
    first = lines.start - max(int(above) + 2, 0)
    last = lines.stop + max(int(below) + 2, 0)
    return slice(max(first, 0), min(last, frame.pixels))


def _grid(frame: Frame, lines: slice, margin: int, shift: Array) -> Grid:
    middle = (frame.pixels - 1) / 2
    across = np.arange(-margin, frame.pixels + margin)
    chosen = np.arange(lines.start - margin, lines.stop + margin)
    columns, rows = (np.asarray(n * frame.pixel, float) for n in (across - middle, middle - chosen))
    known = np.clip(chosen, 0, frame.pixels - 1)
    return Grid(frame.x, frame.y, frame.angle, frame.pixel, columns, rows, shift[:, known])
