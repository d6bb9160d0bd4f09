"""Sample of the simulated microscope, an unlimited grid of approach areas."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.surface import Surface
from spm_gym.plain_state import array_of

Area = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Changed:
    """Changes of an approach area since it was made.

    Attributes:
        area: Its index along x and y.
        marks: Hills and pits that conditioning has left: x, y, width, height, m (n, 4).
        taken: Indices of the molecules that are gone.
    """

    area: Area
    marks: Annotated[NDArray[np.float64], array_of(np.float64, None, 4)]
    taken: Annotated[NDArray[np.int64], array_of(np.int64, None)]


class Sample:
    """Surfaces by index of the approach area along x and y.

    Args:
        config: Density of molecules, width of terraces, and so on.
        side: Side of an area, m.
        seed: Seed of all surfaces; each follows from it and from the index of its area.
    """

    def __init__(self, config: SimulatorConfig, side: float, seed: int) -> None:
        self._config = config
        self._side = side
        self._seed = seed
        self._surfaces: dict[Area, Surface] = {}
        self._left: dict[Area, dict[str, Any]] = {}

    def at(self, area: Area) -> Surface:
        """Return the surface of an area."""
        # Only the last surface is kept as a whole, of the others their changes: in this way days of
        # operation take no more memory than hours.
        if area not in self._surfaces:
            for left, surface in self._surfaces.items():
                self._left[left] = surface.get_state()
            self._surfaces.clear()
            # Seeds must not be negative.
            key = [2 * abs(index) + (index < 0) for index in area]
            seed = np.random.SeedSequence([self._seed, *key])
            surface = Surface(self._config, self._side, seed)
            if area in self._left:
                surface.set_state(self._left.pop(area))
            self._surfaces[area] = surface
        return self._surfaces[area]

    def get_state(self) -> list[dict[str, Any]]:
        """Return the fields of `Changed` for each area."""
        present = {area: surface.get_state() for area, surface in self._surfaces.items()}
        return [{"area": area} | state for area, state in (self._left | present).items()]

    def set_state(self, state: Iterable[Changed]) -> None:
        """Continue from what `get_state` gave."""
        self._surfaces = {}
        self._left = {each.area: {"marks": each.marks, "taken": each.taken} for each in state}
