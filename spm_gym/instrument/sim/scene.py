"""Height or current of a perfect tip over a sample (compiled)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_gym.instrument.sim.molecule import DECAY, Template
from spm_gym.instrument.sim.molecules import Molecules, cell_of
from spm_gym.jit import compiled
from spm_gym.scale import NM

Array = NDArray[np.float64]
Image = NDArray[np.float32]

STEP_HEIGHT = 2.04e-10
"""Height of a monatomic step of Ag(100), m."""

_STEP_WIDTH = 0.09 * NM
_STEP_REACH = 1.2 * NM
_HILL_REACH = 6.0
"""Widths of a Gaussian hill beyond which it is negligible."""

SPAN = 4.2 * NM
"""Half of the relief whose currents single precision can represent; deeper pits end there."""


class Ground(NamedTuple):
    """A sample, all in m and rad.

    Attributes:
        cos: Of the direction across the terraces.
        sin: Of it.
        steps: Where the terraces end, along that direction, ascending.
        wave: Amplitude, wavelength and phase of the meander of the steps.
        debris: Gaussian hills of the original sample: x, y, width, height (n, 4).
        marks: Hills and pits that conditioning has left: x, y, width, height (n, 4).
        molecules: All molecules.
    """

    cos: float
    sin: float
    steps: Array
    wave: tuple[float, float, float]
    debris: Array
    marks: Array
    molecules: Molecules


class ScanGrid(NamedTuple):
    """Points where the sample is evaluated: a rotated raster, distorted line by line.

    Attributes:
        x: Centre, m.
        y: Centre, m.
        cos: Of the counter-clockwise rotation.
        sin: Of it.
        pixel: Distance of neighbouring points, m.
        middle: Column and line, perhaps between two, of the centre.
        first_col: Number of the first column.
        cols: How many columns.
        first_row: Number of the first line; lines count downwards.
        shift: By how much the tip really is further along both axes in every line, m (lines, 2).
    """

    x: float
    y: float
    cos: float
    sin: float
    pixel: float
    middle: float
    first_col: int
    cols: int
    first_row: int
    shift: Array


@compiled
def scene(
    ground: Ground, raster: ScanGrid, template: Template, linear: bool
) -> tuple[float, Image]:
    """Evaluate a sample.

    Args:
        ground: The sample.
        raster: The points.
        template: Image of a molecule by a perfect tip.
        linear: Whether to return heights instead of currents.

    Returns:
        A height, m, and from there, in every point (lines, columns), either how much more current
        flows at constant height, or the height of constant current, m.
    """
    field = np.zeros((len(raster.shift), raster.cols), np.float32)
    reach = _reach(raster)
    base, flat = _terraces(ground, raster, reach, field)
    flat &= not _hills(ground.debris, raster, reach, field)
    flat &= not _hills(ground.marks, raster, reach, field)
    rows, cols = field.shape
    # On a single terrace without hills, all currents are equal and need no exponentials.
    if not flat:
        # Currents are relative to this height: exp(2 k z) of debris 2 nm high is 2e17.
        zero = max(field.min(), field.max() - SPAN)
        base += zero
        last, current = 0.0, 1.0
        for row in range(rows):
            for col in range(cols):
                height = field[row, col] - zero
                if not linear and height != last:  # on terraces most are the same
                    last, current = height, math.exp(2 * DECAY * max(height, -SPAN))
                field[row, col] = height if linear else current
    elif not linear:
        field[:] = 1.0
    extra = np.zeros((rows, cols), np.float32) if linear or not flat else field
    _molecules(ground.molecules, raster, reach, template, extra)
    if linear:
        for row in range(rows):
            for col in range(cols):
                field[row, col] += math.log1p(extra[row, col]) / (2 * DECAY)
    elif not flat:
        for row in range(rows):
            for col in range(cols):
                field[row, col] *= 1.0 + extra[row, col]
    return base, field


@compiled
def terrace_level(ground: Ground, x: float, y: float) -> float:
    """Return the height of the terrace at a place, m."""
    across = _across(ground, x, y)
    return STEP_HEIGHT * np.searchsorted(ground.steps, across)


@compiled
def _across(ground: Ground, x: float, y: float) -> float:
    """Return the position across the terraces, without the meander of the steps."""
    straight, angle = _straight(ground, x, y)
    return straight + ground.wave[0] * math.sin(angle)


@compiled
def _straight(ground: Ground, x: float, y: float) -> tuple[float, float]:
    """Return the position across the terraces, and the phase of their meander."""
    _, wavelength, phase = ground.wave
    along = ground.cos * y - ground.sin * x
    return ground.cos * x + ground.sin * y, 2 * math.pi / wavelength * along + phase


@compiled
def _reach(raster: ScanGrid) -> float:
    """Return the radius about the centre that covers all points."""
    rows = len(raster.shift)
    far = max(
        abs(raster.first_col - raster.middle),
        abs(raster.first_col + raster.cols - 1 - raster.middle),
        abs(raster.first_row - raster.middle),
        abs(raster.first_row + rows - 1 - raster.middle),
    )
    most = 0.0
    for row in range(rows):
        most = max(most, abs(raster.shift[row, 0]), abs(raster.shift[row, 1]))
    return math.sqrt(2.0) * (far * raster.pixel + most)


@compiled
def _terraces(ground: Ground, raster: ScanGrid, reach: float, z: Image) -> tuple[float, bool]:
    """Add the terraces; return the height of the lowest, and whether it is the only one."""
    amplitude, wavelength, _ = ground.wave
    centre = _across(ground, raster.x, raster.y)
    # The meander turns the steps, so they may come nearer than along a straight line.
    far = reach * (1 + 2 * math.pi * amplitude / wavelength) + _STEP_REACH
    first = np.searchsorted(ground.steps, centre - far)
    last = np.searchsorted(ground.steps, centre + far)
    if first == last:
        return STEP_HEIGHT * first, True
    turn = 2 * math.pi / wavelength * raster.pixel
    turn *= ground.cos * raster.sin - ground.sin * raster.cos
    onward = raster.pixel * (ground.cos * raster.cos + ground.sin * raster.sin)
    turn_cos, turn_sin = math.cos(turn), math.sin(turn)
    for row in range(z.shape[0]):
        straight, angle = _straight(ground, *_place(raster, row))
        # Turned on from pixel to pixel: a sine for each would cost more than all the rest.
        cos, sin = math.cos(angle), math.sin(angle)
        for col in range(z.shape[1]):
            across = straight + col * onward + amplitude * sin
            sin, cos = sin * turn_cos + cos * turn_sin, cos * turn_cos - sin * turn_sin
            for step in ground.steps[first:last]:
                away = across - step
                if away > _STEP_REACH:
                    z[row, col] += STEP_HEIGHT
                elif away > -_STEP_REACH:
                    z[row, col] += STEP_HEIGHT / (1 + math.exp(-away / _STEP_WIDTH))
    return STEP_HEIGHT * first, False


@compiled
def _place(raster: ScanGrid, row: int) -> tuple[float, float]:
    """Return the piezo coordinates of the first point of a line, m."""
    u = (raster.first_col - raster.middle) * raster.pixel + raster.shift[row, 0]
    v = (raster.middle - raster.first_row - row) * raster.pixel + raster.shift[row, 1]
    return (
        raster.x + raster.cos * u - raster.sin * v,
        raster.y + raster.sin * u + raster.cos * v,
    )


@compiled
def _hills(hills: Array, raster: ScanGrid, reach: float, z: Image) -> bool:
    """Add Gaussian hills; return whether there is one."""
    some = False
    pixel = raster.pixel
    for x, y, width, height in hills:
        away = _HILL_REACH * width
        dx, dy = x - raster.x, y - raster.y
        if dx * dx + dy * dy > (reach + away) ** 2:
            continue
        some = True
        u = raster.cos * dx + raster.sin * dy
        v = raster.cos * dy - raster.sin * dx
        for row in range(z.shape[0]):
            dv = (raster.middle - raster.first_row - row) * pixel + raster.shift[row, 1] - v
            if abs(dv) > away:
                continue
            left = (u - raster.shift[row, 0]) / pixel + raster.middle - raster.first_col
            begin = max(math.ceil(left - away / pixel), 0)
            end = min(math.floor(left + away / pixel) + 1, z.shape[1])
            for col in range(begin, end):
                du = (col - left) * pixel
                z[row, col] += height * math.exp(-(du * du + dv * dv) / (2 * width * width))
    return some


@compiled
def _molecules(
    molecules: Molecules, raster: ScanGrid, reach: float, template: Template, extra: Image
) -> None:
    """Add the extra current above the molecules."""
    cell, half, across = molecules.cell, molecules.half, molecules.across
    # A molecule may be displaced into the raster although its centre lies outside.
    far = reach + template.pitch * (len(template.rho) // 2)
    left = cell_of(raster.x - far, cell, half, across)
    right = cell_of(raster.x + far, cell, half, across)
    bottom = cell_of(raster.y - far, cell, half, across)
    top = cell_of(raster.y + far, cell, half, across)
    for row in range(bottom, top + 1):
        begin = molecules.starts[row * across + left]
        end = molecules.starts[row * across + right + 1]
        for i in range(begin, end):
            if molecules.present[i]:
                dx, dy = molecules.place[i, 0] - raster.x, molecules.place[i, 1] - raster.y
                _molecule(dx, dy, molecules.azimuth[i], raster, template, extra)


@compiled
def _molecule(
    dx: float, dy: float, azimuth: float, raster: ScanGrid, template: Template, extra: Image
) -> None:
    """Add one molecule.

    Drift and creep displace it as a whole, as they displace the line of its centre: within the few
    lines of a molecule they hardly change.
    """
    rows, cols = extra.shape
    pixel, pitch, rho = raster.pixel, template.pitch, template.rho
    u = raster.cos * dx + raster.sin * dy
    v = raster.cos * dy - raster.sin * dx
    top = raster.middle - raster.first_row
    line = min(max(round(top - v / pixel), 0), rows - 1)
    u -= raster.shift[line, 0]
    v -= raster.shift[line, 1]
    centre = len(rho) // 2
    far = centre * pitch / pixel
    cos = (raster.cos * math.cos(azimuth) + raster.sin * math.sin(azimuth)) * pixel / pitch
    sin = (raster.cos * math.sin(azimuth) - raster.sin * math.cos(azimuth)) * pixel / pitch
    from_row, from_col = top - v / pixel, u / pixel + raster.middle - raster.first_col
    for row in range(max(math.ceil(from_row - far), 0), min(math.floor(from_row + far) + 1, rows)):
        dv = from_row - row
        wide = math.sqrt(max(far * far - dv * dv, 0.0))
        begin = max(math.ceil(from_col - wide), 0)
        end = min(math.floor(from_col + wide) + 1, cols)
        for col in range(begin, end):
            du = col - from_col
            mx, my = cos * du + sin * dv + centre, cos * dv - sin * du + centre
            x, y = int(mx), int(my)
            # The border of the image is zero, and rounding may lead beyond it.
            if 0 <= x < 2 * centre and 0 <= y < 2 * centre:
                # Linear interpolation along both axes of the molecule's image.
                fx, fy = mx - x, my - y
                below = rho[y, x] * (1 - fx) + rho[y, x + 1] * fx
                above = rho[y + 1, x] * (1 - fx) + rho[y + 1, x + 1] * fx
                extra[row, col] += below * (1 - fy) + above * fy
