"""What of the approach area is still usable, and which region is imaged next.

Source: paper, *Region selection*. Candidate regions lie on a grid; blocked places are discs, and
their overlap with the square footprint of a candidate is decided exactly, not on the grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import RegionConfig
from spm_gym.types import BoolArray, Direction

_TOUCHING = 1e-6
"""How deep a disc may reach into a footprint without overlapping it, in cells."""

_TURNS = (Direction.X_PLUS, Direction.Y_PLUS, Direction.X_MINUS, Direction.Y_MINUS)


@dataclass(frozen=True, slots=True)
class Mark:
    """A disc that no further image may touch: centre and radius in m, and why."""

    x: float
    y: float
    radius: float
    reason: str


class RegionMap:
    """The candidates of one approach area that are still free of blocked places.

    Args:
        config: Area, grid and cost.
        image: Side of an image, m; candidates keep half of it away from the edge of the area.
    """

    def __init__(self, config: RegionConfig, image: float) -> None:
        self.config = config
        self.image = image
        cell = config.cell_nm * 1e-9
        reach = math.floor((config.area_nm * 1e-9 - image) / 2 / cell + 1e-9)
        self.axis: NDArray[np.float64] = cell * np.arange(-reach, reach + 1, dtype=np.float64)
        self.free: BoolArray = np.ones((self.axis.size, self.axis.size), dtype=bool)
        self.marks: list[Mark] = []
        self._centring = config.alpha * np.abs(self.axis)

    @property
    def usable_share(self) -> float:
        """Share of the candidates that are still free."""
        return float(self.free.mean())

    def mark(self, x: float, y: float, radius: float, reason: str) -> None:
        """Block the disc at x, y (m): every candidate whose footprint it overlaps is lost."""
        self.marks.append(Mark(x, y, radius, reason))
        reach = radius + self.image / 2
        first_col, last_col = np.searchsorted(self.axis, [x - reach, x + reach])
        first_row, last_row = np.searchsorted(self.axis, [y - reach, y + reach])
        gap_x = self._gap(self.axis[first_col:last_col] - x)
        gap_y = self._gap(self.axis[first_row:last_row] - y)
        # Neighbours on the grid just touch, and rounding must not make that an overlap.
        within = max(radius - _TOUCHING * self.config.cell_nm * 1e-9, 0.0)
        overlaps = gap_x[None, :] ** 2 + gap_y[:, None] ** 2 < within**2
        self.free[first_row:last_row, first_col:last_col] &= ~overlaps

    def next_region(
        self, last: tuple[float, float] | None, rng: np.random.Generator
    ) -> tuple[float, float] | None:
        """Choose the free candidate v that minimises ``|v - last|_2 + alpha |v|_1``.

        Args:
            last: Centre of the last region, m; None for the first region of an area.
            rng: Breaks ties.

        Returns:
            Centre of the region, m; None when the area is used up, that is when no candidate is
            left or the best one lies further from the last region than the configured jump.
        """
        if not self.free.any():
            return None
        x, y = (0.0, 0.0) if last is None else last
        distance = np.hypot((self.axis - x)[None, :], (self.axis - y)[:, None])
        cost = distance + self._centring[None, :] + self._centring[:, None]
        cost[~self.free] = np.inf
        rows, cols = np.nonzero(cost <= cost.min() + 1e-6 * self.config.cell_nm * 1e-9)
        chosen = rng.integers(rows.size)
        row, col = rows[chosen], cols[chosen]
        if last is not None and distance[row, col] > self.config.max_jump_nm * 1e-9:
            return None
        return float(self.axis[col]), float(self.axis[row])

    def restore(self, marks: Iterable[Mark]) -> None:
        """Add marks that another map of the same area has collected."""
        for mark in marks:
            self.mark(mark.x, mark.y, mark.radius, mark.reason)

    def _gap(self, offset: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Distance along one axis from a disc's centre to the footprint, 0 inside it."""
        return np.asarray(np.maximum(np.abs(offset) - self.image / 2, 0.0))


def area_direction(changes: int) -> Direction:
    """Direction of the next coarse move after so many: an outward spiral never comes back."""
    leg = 0
    while changes >= (length := leg // 2 + 1):
        changes -= length
        leg += 1
    return _TURNS[leg % 4]
