"""The sample: as many approach areas as anybody cares to visit."""

from __future__ import annotations

from typing import Any

import numpy as np

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.surface import Surface

Area = tuple[int, int]


class Sample:
    """Surfaces by number of the approach area along x and y.

    Only the last area asked for is kept as a whole; of the others, what has changed in them: days
    of operation take no more memory than hours.

    Args:
        config: What the surfaces are made of.
        side: Of an area, m.
        seed: Every surface follows from it and its area.
    """

    def __init__(self, config: SimulatorConfig, side: float, seed: int) -> None:
        self._config = config
        self._side = side
        self._seed = seed
        self._surfaces: dict[Area, Surface] = {}
        self._left: dict[Area, dict[str, Any]] = {}

    def at(self, area: Area) -> Surface:
        """The surface of an area."""
        if area not in self._surfaces:
            for left, surface in self._surfaces.items():
                self._left[left] = surface.get_state()
            self._surfaces.clear()
            # SeedSequence takes no negative numbers.
            key = [2 * abs(index) + (index < 0) for index in area]
            seed = np.random.SeedSequence([self._seed, *key])
            surface = Surface(self._config, self._side, seed)
            if area in self._left:
                surface.set_state(self._left.pop(area))
            self._surfaces[area] = surface
        return self._surfaces[area]

    def get_state(self) -> dict[Area, dict[str, Any]]:
        """What has changed, by area."""
        present = {area: surface.get_state() for area, surface in self._surfaces.items()}
        return self._left | present

    def set_state(self, state: dict[Area, dict[str, Any]]) -> None:
        """Continue from what `get_state` gave."""
        self._surfaces = {}
        self._left = dict(state)
