"""The usable part of the approach area, and the choice of the next region.

Source: paper, *Region selection*. Candidate regions lie on a grid; blocked places are discs, and
their overlap with the square footprint of a candidate is decided exactly, not on the grid.

Along every row, and from row to row, the cost of a candidate falls towards one place and rises
beyond it. The best of a row is therefore one of the two free candidates next to that place, and
the choice looks at a small part of the map only.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import RegionConfig
from spm_gym.jit import compiled
from spm_gym.scale import NM
from spm_gym.types import BoolArray, Direction

_ROUNDING = 1e-6
"""Lengths and costs, in cells, that differ by no more are equal: ties, discs that just touch."""

Axis = NDArray[np.float64]

_TURNS = (Direction.X_PLUS, Direction.Y_PLUS, Direction.X_MINUS, Direction.Y_MINUS)


@dataclass(frozen=True, slots=True)
class Mark:
    """A disc that no further image may touch: centre and radius in m, and why."""

    x: float
    y: float
    radius: float
    reason: str


def kind_of_mark(reason: str, actions: Collection[str]) -> str:
    """Sort a mark by its reason: image, bad sample, conditioning, or other.

    Args:
        reason: Of the mark.
        actions: Names of the actions of conditioning.
    """
    if reason in ("image", "bad sample"):
        return reason
    return "conditioning" if reason in actions else "other"


class RegionMap:
    """The candidates of one approach area that are still free of blocked places.

    Args:
        config: Area, grid and cost.
        image: Side of an image, m; candidates keep half of it away from the edge of the area.
    """

    def __init__(self, config: RegionConfig, image: float) -> None:
        self.config = config
        self.image = image
        cell = config.cell_nm * NM
        # Symmetric about the centre of the area, where the first image is taken.
        reach = math.floor((config.area_nm * NM - image) / 2 / cell + 1e-9)
        self.axis: Axis = cell * np.arange(-reach, reach + 1, dtype=np.float64)
        self.free: BoolArray = np.ones((self.axis.size, self.axis.size), dtype=bool)
        self.marks: list[Mark] = []
        self._alpha = float(config.alpha)
        self._rounding = _ROUNDING * cell
        self._max_jump = config.max_jump_nm * NM

    @property
    def usable_share(self) -> float:
        """Share of the candidates that are still free."""
        return float(np.count_nonzero(self.free) / self.free.size)

    def mark(self, x: float, y: float, radius: float, reason: str) -> None:
        """Block the disc at x, y (m): every candidate whose footprint it overlaps is lost.

        Raises:
            ValueError: The disc is not finite, or its radius is negative.
        """
        if not (math.isfinite(x) and math.isfinite(y) and 0 <= radius < math.inf):
            raise ValueError(f"no disc can be blocked at ({x}, {y}) m with a radius of {radius} m")
        self.marks.append(Mark(x, y, radius, reason))
        # Neighbours on the grid just touch, and that is no overlap.
        within = max(float(radius) - self._rounding, 0.0)
        _block(self.free, self.axis, float(x), float(y), within, self.image / 2)

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
        x, y = (0.0, 0.0) if last is None else (float(last[0]), float(last[1]))
        # Ties are drawn, or the images would drift into one corner of the area.
        cheapest = _cheapest(self.free, self.axis, x, y, self._alpha, self._rounding)
        if not cheapest.size:
            return None
        row, col = divmod(int(cheapest[rng.integers(cheapest.size)]), self.axis.size)
        # Only if little of the area is left is the best region so far away.
        chosen = float(self.axis[col]), float(self.axis[row])
        if last is not None and np.hypot(chosen[0] - x, chosen[1] - y) > self._max_jump:
            return None
        return chosen

    def restore(self, marks: Iterable[Mark]) -> None:
        """Add marks that another map of the same area has collected."""
        for mark in marks:
            self.mark(mark.x, mark.y, mark.radius, mark.reason)


def area_direction(changes: int) -> Direction:
    """Direction of the next coarse move after so many, on an outward spiral."""
    # A spiral never returns to a used area, whose map is not kept.
    leg = 0
    while changes >= (length := leg // 2 + 1):
        changes -= length
        leg += 1
    return _TURNS[leg % 4]


@compiled
def _first_from(axis: Axis, value: float) -> int:
    """Find the index of the first cell that lies at the value or beyond."""
    low, high = 0, axis.size
    while low < high:
        middle = (low + high) // 2
        if axis[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _block(free: BoolArray, axis: Axis, x: float, y: float, radius: float, half: float) -> None:
    """Take away the candidates whose footprint, ``half`` to each side, overlaps the disc."""
    # The distance of a disc from a square is that of its centre from the nearest point of it.
    reach = radius + half
    first, end = _first_from(axis, x - reach), _first_from(axis, x + reach)
    for row in range(_first_from(axis, y - reach), _first_from(axis, y + reach)):
        gap_y = max(abs(axis[row] - y) - half, 0.0)
        for col in range(first, end):
            gap_x = max(abs(axis[col] - x) - half, 0.0)
            if gap_x * gap_x + gap_y * gap_y < radius * radius:
                free[row, col] = False


@compiled
def _cost(to_x: float, to_y: float, x: float, y: float, alpha: float) -> float:
    dx, dy = to_x - x, to_y - y
    return math.sqrt(dx * dx + dy * dy) + alpha * abs(to_x) + alpha * abs(to_y)


@compiled
def _cheapest_along(x: float, dy: float, alpha: float) -> float:
    """Find where on a line at the distance dy the cost is least; it rises to both sides."""
    # Zero of the derivative of sqrt((v - x)^2 + dy^2) + alpha |v|; for alpha >= 1 there is none,
    # and the kink at 0 is the minimum.
    if alpha >= 1:
        return 0.0
    nearer = alpha * abs(dy) / math.sqrt((1 - alpha) * (1 + alpha))
    return math.copysign(max(abs(x) - nearer, 0.0), x)


@compiled
def _least_of_row(
    free: BoolArray, axis: Axis, row: int, x: float, y: float, alpha: float, limit: float
) -> float:
    """Find the least cost in a row; infinity if nothing is free there or below the limit."""
    bottom = _cheapest_along(x, axis[row] - y, alpha)
    least = math.inf
    if _cost(bottom, axis[row], x, y, alpha) > limit:
        return least
    right = _first_from(axis, bottom)
    left = right - 1
    while right < axis.size and not free[row, right]:
        right += 1
    if right < axis.size:
        least = _cost(axis[right], axis[row], x, y, alpha)
    while left >= 0 and not free[row, left]:
        left -= 1
    if left >= 0:
        least = min(least, _cost(axis[left], axis[row], x, y, alpha))
    return least


@compiled
def _collect(
    free: BoolArray,
    axis: Axis,
    least: NDArray[np.float64],
    x: float,
    y: float,
    alpha: float,
    limit: float,
    found: NDArray[np.int64],
) -> int:
    """Write the free candidates up to the limit, row by row, as far as ``found`` has room.

    Args:
        free: As in `RegionMap`.
        axis: As in `RegionMap`.
        least: The least cost of every row.
        x: Of the last region, m.
        y: Of the last region, m.
        alpha: Weight of the distance from the centre.
        limit: Largest cost.
        found: Receives the indices in the flattened map.

    Returns:
        How many there are.
    """
    # Costs rise to both sides of the bottom: the cells up to the limit are one stretch of the row.
    count = 0
    for row in range(axis.size):
        if least[row] > limit:
            continue
        bottom = _first_from(axis, _cheapest_along(x, axis[row] - y, alpha))
        col = bottom
        while col > 0 and _cost(axis[col - 1], axis[row], x, y, alpha) <= limit:
            col -= 1
        while col < axis.size:
            if _cost(axis[col], axis[row], x, y, alpha) > limit:
                break
            if free[row, col]:
                if count < found.size:
                    found[count] = row * axis.size + col
                count += 1
            col += 1
    return count


@compiled
def _cheapest(
    free: BoolArray, axis: Axis, x: float, y: float, alpha: float, slack: float
) -> NDArray[np.int64]:
    """List, in order, the free candidates that cost no more than the best and the slack.

    The rows are taken outwards from that of least cost, so that most of them are ruled out by
    their cheapest place alone, free or not.
    """
    least = np.full(axis.size, np.inf)
    best = np.inf
    middle = _first_from(axis, _cheapest_along(y, 0.0, alpha))
    for step in range(2 * axis.size):
        row = middle + step // 2 if step % 2 == 0 else middle - 1 - step // 2
        if 0 <= row < axis.size:
            least[row] = _least_of_row(free, axis, row, x, y, alpha, best + slack)
            best = min(best, least[row])
    # Eight, the symmetries of the grid about its centre, are enough nearly always; more candidates
    # of equal cost take a second pass.
    found = np.empty(0 if best == np.inf else 8, dtype=np.int64)
    if best == np.inf:
        return found
    count = _collect(free, axis, least, x, y, alpha, best + slack, found)
    if count > found.size:
        found = np.empty(count, dtype=np.int64)
        _collect(free, axis, least, x, y, alpha, best + slack, found)
    return found[:count]
