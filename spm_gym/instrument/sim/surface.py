"""Surface of an approach area: Ag(100) terraces with molecules, pits and debris."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.molecules import scatter
from spm_gym.instrument.sim.scene import STEP_HEIGHT, Ground
from spm_gym.jit import compiled
from spm_gym.plain_state import StateError
from spm_gym.scale import NM
from spm_gym.types import Conditioning, Dip, Pulse, Stall

_AZIMUTHS = np.deg2rad([30.0, -30.0])
_MARGIN = 30 * NM
_PATCH_RADIUS = (15 * NM, 40 * NM)
_DEBRIS_PER_NM2 = 0.05
_DEBRIS_NM = (0.4, 1.5)

Array = NDArray[np.float64]


class Surface:
    """Persistent surface of one approach area; an image of the same place shows the same things.

    Attributes:
        ground: Its present state.
        half: Half of its side, which is somewhat more than the reach of the piezo, m.
        slope: Tilt along x and y.

    Args:
        config: Density of molecules, width of terraces, and so on.
        area: Side of the area, m.
        seed: Seed of everything on it.
    """

    def __init__(self, config: SimulatorConfig, area: float, seed: np.random.SeedSequence) -> None:
        rng = np.random.default_rng(seed)
        self.half = area / 2 + _MARGIN
        self.slope: Array = rng.normal(0.0, config.tilt_pm_per_nm * 1e-3, size=2)
        direction = rng.uniform(0, 2 * np.pi)
        steps = self._place_steps(config.terrace_nm * NM, rng)
        wave = (rng.uniform(2, 8) * NM, rng.uniform(80, 300) * NM, rng.uniform(0, 2 * np.pi))
        azimuths = rng.uniform(0, 2 * np.pi) + _AZIMUTHS
        molecules = scatter(
            config.molecules_per_nm2 / NM**2, config.min_distance_nm * NM, self.half, azimuths, rng
        )
        debris = self._place_debris(config.rough_fraction, rng)
        cos, sin = math.cos(direction), math.sin(direction)
        self.ground = Ground(cos, sin, steps, wave, debris, _no_hills(), molecules)

    def mark(self, action: Conditioning, x: float, y: float, rng: np.random.Generator) -> None:
        """Leave the marks of an action at x, y (m): a pit or hill, debris, missing molecules."""
        if isinstance(action, Stall):
            return
        x, y = float(x), float(y)  # for other types Numba would compile again
        hurt, size, spread = _extent_of_marks(action)
        numbers = rng.random((rng.poisson(2 + 8e9 * hurt), 4))
        self._add(_marks(x, y, 0.5 * NM + hurt, -size, spread, numbers))
        molecules = self.ground.molecules
        molecules.present[molecules.near(x, y, 1.0 * NM + 1.5 * hurt)] = False

    def strew(
        self,
        x: float,
        y: float,
        radius: float,
        heights_nm: tuple[float, float],
        rng: np.random.Generator,
    ) -> None:
        """Leave a patch of debris of such heights at x, y (m)."""
        self._add(_patch(x, y, radius, heights_nm, rng))

    def get_state(self) -> dict[str, Any]:
        """Return the changes since the surface was made."""
        ground = self.ground
        taken = np.flatnonzero(~ground.molecules.present).astype(np.int64, copy=False)
        return {"marks": ground.marks.copy(), "taken": taken}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave.

        Raises:
            StateError: It belongs to a surface with more molecules.
        """
        present = self.ground.molecules.present
        taken = state["taken"]
        if taken.size and not (taken.min() >= 0 and taken.max() < present.size):
            raise StateError("the kept state of an approach area removes molecules that it does "
                             "not have: it belongs to other settings of the simulator")  # fmt: skip
        self.ground = self.ground._replace(marks=state["marks"])
        present[:] = True
        present[taken] = False

    def _place_steps(self, terrace: float, rng: np.random.Generator) -> Array:
        reach = 1.5 * self.half  # more than the half diagonal, since terraces run in any direction
        # Gamma-distributed widths: steps repel each other, so narrow terraces are rare.
        gaps = rng.gamma(4.0, terrace / 4, size=int(4 * reach / terrace) + 20)
        steps = -reach - terrace * rng.random() + np.cumsum(gaps)
        return np.asarray(steps[steps < reach])

    def _place_debris(self, fraction: float, rng: np.random.Generator) -> Array:
        """Place patches of tall debris that cover about this fraction of the area."""
        if fraction == 0:
            return _no_hills()
        mean = np.pi * np.mean(np.square(_PATCH_RADIUS))
        # Patches that are placed independently overlap, so more of them are needed.
        covered = -np.log1p(-min(fraction, 0.999))
        patches = [_no_hills()]
        for _ in range(rng.poisson(covered * (2 * self.half) ** 2 / mean)):
            radius = rng.uniform(*_PATCH_RADIUS)
            x, y = rng.uniform(-self.half, self.half, size=2)
            patches.append(_patch(float(x), float(y), radius, _DEBRIS_NM, rng))
        return np.concatenate(patches)

    def _add(self, hills: Array) -> None:
        self.ground = self.ground._replace(marks=np.concatenate([self.ground.marks, hills]))


def _patch(
    x: float, y: float, radius: float, heights_nm: tuple[float, float], rng: np.random.Generator
) -> Array:
    """Draw hills of debris within a radius."""
    count = rng.poisson(np.pi * radius**2 * _DEBRIS_PER_NM2 / NM**2)
    away, angle = radius * np.sqrt(rng.random(count)), rng.uniform(0, 2 * np.pi, count)
    hills = (
        x + away * np.cos(angle),
        y + away * np.sin(angle),
        rng.uniform(0.6, 1.8, count) * NM,
        rng.uniform(*heights_nm, count) * NM,
    )
    return np.stack(hills, axis=1)


@compiled
def _marks(x: float, y: float, width: float, height: float, spread: float, numbers: Array) -> Array:
    """Make a hill or pit, and debris around it from numbers between 0 and 1 (n, 4)."""
    hills = np.empty((len(numbers) + 1, 4))
    hills[0] = x, y, width, height
    for i in range(len(numbers)):
        # The root spreads the debris evenly over the disc.
        radius, angle = spread * math.sqrt(numbers[i, 0]), 2 * math.pi * numbers[i, 1]
        hills[i + 1, 0] = x + radius * math.cos(angle)
        hills[i + 1, 1] = y + radius * math.sin(angle)
        hills[i + 1, 2] = (0.25 + 0.35 * numbers[i, 2]) * NM
        hills[i + 1, 3] = (0.5 + 2 * numbers[i, 3]) * STEP_HEIGHT
    return hills


def _no_hills() -> Array:
    return np.empty((0, 4))


def _extent_of_marks(action: Pulse | Dip) -> tuple[float, float, float]:
    """Return width, depth and reach of the marks of an action, m."""
    # Within the radii that actions block on the map: 25 nm for the deepest dips, 10 nm for the
    # others (paper, Methods).
    if isinstance(action, Dip):
        deep = action.depth > 2 * NM
        return 0.4 * action.depth, 0.5 * action.depth, (22 if deep else 8) * NM
    return 0.05 * NM * abs(action.bias), 0.03 * NM * abs(action.bias), 8 * NM
