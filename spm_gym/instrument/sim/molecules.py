"""Places of the molecules of an approach area, searched by place."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_gym.jit import compiled
from spm_gym.types import BoolArray

Array = NDArray[np.float64]
_SMALLEST_CELL = 1.5e-9


class Molecules(NamedTuple):
    """Molecules in the order of the square cells they lie in, row by row; m.

    Attributes:
        place: (n, 2).
        azimuth: Of each, rad (n,).
        present: Whether it is still there (n,).
        starts: First molecule of every cell, and the number of all, (cells + 1,).
        cell: Side of a cell.
        half: The cells begin at minus this along both axes.
        across: Cells in a row.
    """

    place: Array
    azimuth: Array
    present: BoolArray
    starts: NDArray[np.int32]
    cell: float
    half: float
    across: int

    def near(self, x: float, y: float, radius: float) -> NDArray[np.intp]:
        """Return the indices of molecules within a radius that are still there."""
        return _near(self, float(x), float(y), radius)


def scatter(
    density: float, distance: float, half: float, azimuths: Array, rng: np.random.Generator
) -> Molecules:
    """Scatter molecules over a square, any two at least a distance apart.

    Args:
        density: Of the molecules that stay, 1/m^2.
        distance: Least distance, m.
        half: Half the side of the square, m.
        azimuths: That occur, rad.
        rng: Source of all random numbers.
    """
    # Matern's second hard-core process: of two that are too close, the later one goes. So many more
    # are scattered that the required density stays.
    own = math.pi * distance**2
    offered = -math.log1p(-min(density * own, 0.999)) / own
    count = rng.poisson(offered * (2 * half) ** 2)
    places = rng.uniform(-half, half, size=(count, 2))
    # Cells are no smaller than the distance, so all near neighbours lie in the nine cells around.
    cell = max(distance, _SMALLEST_CELL)
    across = math.ceil(2 * half / cell)
    order, starts = _by_cell(places, cell, half, across)
    kept = _thinned(places, order, starts, distance, cell, half, across)
    places = places[order[kept[order]]]
    azimuth = rng.choice(azimuths, size=len(places))
    _, starts = _by_cell(places, cell, half, across)
    present = np.ones(len(places), dtype=np.bool_)
    return Molecules(places, azimuth, present, starts, cell, half, across)


@compiled
def cell_of(position: float, cell: float, half: float, across: int) -> int:
    """Return the row or column of cells in which a coordinate lies, or the nearest one."""
    return min(max(int((position + half) / cell), 0), across - 1)


@compiled
def _by_cell(
    places: Array, cell: float, half: float, across: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Sort indices by cell, and find where each cell starts among them."""
    count = len(places)
    cells = np.empty(count, np.int64)
    starts = np.zeros(across * across + 1, np.int32)
    for i in range(count):
        row = cell_of(places[i, 1], cell, half, across)
        cells[i] = row * across + cell_of(places[i, 0], cell, half, across)
        starts[cells[i] + 1] += 1
    for c in range(across * across):
        starts[c + 1] += starts[c]
    filled = starts[:-1].copy()
    order = np.empty(count, np.int64)
    for i in range(count):
        order[filled[cells[i]]] = i
        filled[cells[i]] += 1
    return order, starts


@compiled
def _thinned(
    places: Array,
    order: NDArray[np.int64],
    starts: NDArray[np.int32],
    distance: float,
    cell: float,
    half: float,
    across: int,
) -> BoolArray:
    """Mark the molecules with no earlier one within the distance, which fits into a cell."""
    kept = np.ones(len(places), np.bool_)
    for i in range(len(places)):
        x, y = places[i]
        row, col = cell_of(y, cell, half, across), cell_of(x, cell, half, across)
        for near_row in range(max(row - 1, 0), min(row + 2, across)):
            first = near_row * across
            begin, end = starts[first + max(col - 1, 0)], starts[first + min(col + 2, across)]
            for j in order[begin:end]:
                if j < i and (places[j, 0] - x) ** 2 + (places[j, 1] - y) ** 2 < distance**2:
                    kept[i] = False
    return kept


@compiled
def _near(molecules: Molecules, x: float, y: float, radius: float) -> NDArray[np.intp]:
    cell, half, across = molecules.cell, molecules.half, molecules.across
    left = cell_of(x - radius, cell, half, across)
    right = cell_of(x + radius, cell, half, across)
    bottom = cell_of(y - radius, cell, half, across)
    top = cell_of(y + radius, cell, half, across)
    most = 0
    for row in range(bottom, top + 1):
        first = row * across
        most += molecules.starts[first + right + 1] - molecules.starts[first + left]
    found = np.empty(most, np.intp)
    count = 0
    for row in range(bottom, top + 1):
        first = row * across
        for i in range(molecules.starts[first + left], molecules.starts[first + right + 1]):
            dx, dy = molecules.place[i, 0] - x, molecules.place[i, 1] - y
            if molecules.present[i] and dx * dx + dy * dy <= radius * radius:
                found[count] = i
                count += 1
    return found[:count]
