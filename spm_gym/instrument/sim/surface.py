"""The sample: Ag(100) terraces with MgPc molecules, one persistent surface per approach area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree
from scipy.special import expit

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.molecule import DECAY, Orbital, template
from spm_gym.types import Conditioning, Dip, Pulse, Stall

NM = 1e-9
STEP_HEIGHT = 2.04e-10
"""Height of a monatomic step of Ag(100), m."""

_STEP_WIDTH = 0.09 * NM
_AZIMUTHS = np.deg2rad([30.0, -30.0])
_MARGIN = 30 * NM
_PATCH_RADIUS = (15 * NM, 40 * NM)
_DEBRIS_PER_NM2 = 0.05

Array = NDArray[np.float64]


@dataclass(slots=True)
class Bumps:
    """Gaussian hills (positive height) and pits (negative), all in m."""

    x: Array
    y: Array
    width: Array
    height: Array

    def __len__(self) -> int:
        return len(self.x)

    def join(self, other: Bumps) -> Bumps:
        """Both together."""
        return Bumps(*(np.concatenate([getattr(self, name), getattr(other, name)])
                       for name in ("x", "y", "width", "height")))  # fmt: skip

    @staticmethod
    def none() -> Bumps:
        """An empty collection."""
        return Bumps(*(np.zeros(0) for _ in range(4)))


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the surface is evaluated: a rotated raster, distorted line by line.

    Attributes:
        x: Centre, m.
        y: Centre, m.
        angle: Counter-clockwise rotation, rad.
        pixel: Distance of neighbouring points, m.
        columns: Positions of the columns along the fast axis relative to the centre, m.
        rows: Positions of the lines along the slow axis relative to the centre, falling, m.
        shift: By how much the tip really is further along both axes in every line, (2, lines), m.
    """

    x: float
    y: float
    angle: float
    pixel: float
    columns: Array
    rows: Array
    shift: Array

    def along(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Positions along the fast and the slow axis, relative to the centre."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        dx, dy = x - self.x, y - self.y
        return cos * dx + sin * dy, cos * dy - sin * dx

    def points(self) -> tuple[Array, Array]:
        """Piezo coordinates of all points, each (lines, columns)."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        u = self.columns[None, :] + self.shift[0][:, None]
        v = (self.rows + self.shift[1])[:, None]
        return self.x + cos * u - sin * v, self.y + sin * u + cos * v

    @property
    def reach(self) -> float:
        """Radius about the centre that covers all points."""
        far = max(np.abs(self.columns).max(), np.abs(self.rows).max())
        return float(np.sqrt(2) * (far + np.abs(self.shift).max()))


class Surface:
    """One approach area: the same places hold the same things whenever one looks.

    Args:
        config: Density of molecules, width of terraces, and so on.
        area: Side of the area, m.
        seed: Everything follows from it.
    """

    def __init__(self, config: SimulatorConfig, area: float, seed: np.random.SeedSequence) -> None:
        rng = np.random.default_rng(seed)
        self.half = area / 2 + _MARGIN
        self.slope = rng.normal(0.0, config.tilt_pm_per_nm * 1e-3, size=2)
        self._direction = rng.uniform(0, 2 * np.pi)
        self._steps = self._place_steps(config.terrace_nm * NM, rng)
        self._wave = (rng.uniform(2, 8) * NM, rng.uniform(80, 300) * NM, rng.uniform(0, 2 * np.pi))
        self._place_molecules(config.molecules_per_nm2 / NM**2, config.min_distance_nm * NM, rng)
        self._rough = self._place_debris(config.rough_fraction, rng)
        self._marks = Bumps.none()

    def heights(self, grid: Grid, orbital: Orbital) -> Array:
        """Height of constant current under a perfect tip, without tilt, (lines, columns), m."""
        x, y = grid.points()
        z = self._terraces(x, y)
        for bumps in (self._rough, self._marks):
            near = np.hypot(bumps.x - grid.x, bumps.y - grid.y) < grid.reach + 4 * bumps.width
            for bump in np.flatnonzero(near):
                z += _gaussian(x, y, bumps, bump)
        z += np.log1p(self._extra_current(grid, orbital)) / (2 * DECAY)
        return z

    def mark(self, action: Conditioning, x: float, y: float, rng: np.random.Generator) -> None:
        """Leave the traces of an action at x, y (m): a pit or hill, debris, missing molecules."""
        if isinstance(action, Stall):
            return
        hurt, size, spread = _violence(action)
        pit = Bumps(*(np.array([v]) for v in (x, y, 0.5 * NM + hurt, -size)))
        count = rng.poisson(2 + 8e9 * hurt)
        radius, angle = spread * np.sqrt(rng.random(count)), rng.uniform(0, 2 * np.pi, count)
        debris = Bumps(
            x + radius * np.cos(angle),
            y + radius * np.sin(angle),
            rng.uniform(0.25, 0.6, count) * NM,
            rng.uniform(0.5, 2.5, count) * STEP_HEIGHT,
        )
        self._marks = self._marks.join(pit).join(debris)
        taken = self._tree.query_ball_point([x, y], 1.0 * NM + 1.5 * hurt)
        self._present[taken] = False

    def get_state(self) -> dict[str, Any]:
        """What has changed since the surface was made."""
        marks = self._marks
        return {
            "marks": (marks.x, marks.y, marks.width, marks.height),
            "taken": np.flatnonzero(~self._present),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave."""
        self._marks = Bumps(*state["marks"])
        self._present[:] = True
        self._present[state["taken"]] = False

    def molecules_near(self, x: float, y: float, radius: float) -> NDArray[np.intp]:
        """Indices of the molecules within a radius (m) that are still there."""
        found = np.asarray(self._tree.query_ball_point([x, y], radius), dtype=np.intp)
        return found[self._present[found]]

    def _place_steps(self, terrace: float, rng: np.random.Generator) -> Array:
        reach = 1.5 * self.half
        gaps = rng.gamma(4.0, terrace / 4, size=int(4 * reach / terrace) + 20)
        steps = -reach - terrace * rng.random() + np.cumsum(gaps)
        return np.asarray(steps[steps < reach])

    def _place_molecules(self, density: float, distance: float, rng: np.random.Generator) -> None:
        """Matern's second hard-core process: of two too close, the one that came later goes."""
        own = np.pi * distance**2
        offered = -np.log1p(-min(density * own, 0.999)) / own
        count = rng.poisson(offered * (2 * self.half) ** 2)
        places = rng.uniform(-self.half, self.half, size=(count, 2))
        pairs = cKDTree(places).query_pairs(distance, output_type="ndarray")
        keep = np.ones(count, dtype=bool)
        keep[pairs.max(axis=1)] = False
        self.molecules: Array = places[keep]
        self._azimuth = rng.uniform(0, 2 * np.pi) + rng.choice(_AZIMUTHS, size=len(self.molecules))
        self._present = np.ones(len(self.molecules), dtype=bool)
        self._tree = cKDTree(self.molecules)

    def _place_debris(self, fraction: float, rng: np.random.Generator) -> Bumps:
        """Patches of tall debris; they cover about the fraction of the area."""
        if fraction == 0:
            return Bumps.none()
        mean = np.pi * np.mean(np.square(_PATCH_RADIUS))
        covered = -np.log1p(-min(fraction, 0.999))
        patches = Bumps.none()
        for _ in range(rng.poisson(covered * (2 * self.half) ** 2 / mean)):
            radius = rng.uniform(*_PATCH_RADIUS)
            centre = rng.uniform(-self.half, self.half, size=2)
            count = rng.poisson(np.pi * radius**2 * _DEBRIS_PER_NM2 / NM**2)
            away, angle = radius * np.sqrt(rng.random(count)), rng.uniform(0, 2 * np.pi, count)
            patches = patches.join(
                Bumps(
                    centre[0] + away * np.cos(angle),
                    centre[1] + away * np.sin(angle),
                    rng.uniform(0.6, 1.8, count) * NM,
                    rng.uniform(0.4, 1.5, count) * NM,
                )
            )
        return patches

    def _terraces(self, x: Array, y: Array) -> Array:
        cos, sin = np.cos(self._direction), np.sin(self._direction)
        amplitude, wavelength, phase = self._wave
        across = cos * x + sin * y
        across += amplitude * np.sin(2 * np.pi * (cos * y - sin * x) / wavelength + phase)
        below, above = across.min() - 2 * NM, across.max() + 2 * NM
        z = np.full(x.shape, STEP_HEIGHT * np.searchsorted(self._steps, below))
        for step in self._steps[(self._steps > below) & (self._steps < above)]:
            z += STEP_HEIGHT * expit((across - step) / _STEP_WIDTH)
        return z

    def _extra_current(self, grid: Grid, orbital: Orbital) -> Array:
        """Sum of the molecules' pictures, each looked up in one square block of points."""
        picture = template(orbital)
        total = np.zeros((len(grid.rows), len(grid.columns)))
        near = self.molecules_near(grid.x, grid.y, grid.reach + picture.reach)
        if not near.size:
            return total
        u, v = grid.along(*self.molecules[near].T)
        line = np.clip(np.rint((grid.rows[0] - v) / grid.pixel).astype(int), 0, len(total) - 1)
        u, v = u - grid.shift[0][line], v - grid.shift[1][line]
        block = np.arange(-int(picture.reach / grid.pixel) - 1, int(picture.reach / grid.pixel) + 2)
        rows = np.rint((grid.rows[0] - v) / grid.pixel).astype(int)[:, None, None] + block[:, None]
        cols = np.rint((u - grid.columns[0]) / grid.pixel).astype(int)[:, None, None] + block
        rows, cols = np.broadcast_arrays(rows, cols)
        inside = (rows >= 0) & (rows < total.shape[0]) & (cols >= 0) & (cols < total.shape[1])
        which, rows, cols = np.nonzero(inside)[0], rows[inside], cols[inside]
        du = grid.columns[0] + cols * grid.pixel - u[which]
        dv = grid.rows[0] - rows * grid.pixel - v[which]
        turn = self._azimuth[near][which] - grid.angle
        mx = (np.cos(turn) * du + np.sin(turn) * dv) / picture.pitch
        my = (np.cos(turn) * dv - np.sin(turn) * du) / picture.pitch
        centre = len(picture.rho) // 2
        values = map_coordinates(picture.rho, [my + centre, mx + centre], order=1, cval=0.0)
        np.add.at(total, (rows, cols), values)
        return total


def _gaussian(x: Array, y: Array, bumps: Bumps, bump: np.intp) -> Array:
    width = bumps.width[bump]
    away = ((x - bumps.x[bump]) ** 2 + (y - bumps.y[bump]) ** 2) / (2 * width**2)
    return np.asarray(bumps.height[bump] * np.exp(-away))


def _violence(action: Pulse | Dip) -> tuple[float, float, float]:
    """Width, depth and reach of the traces of an action, m."""
    if isinstance(action, Dip):
        deep = action.depth > 2 * NM
        return 0.4 * action.depth, 0.5 * action.depth, (22 if deep else 8) * NM
    return 0.05 * NM * abs(action.bias), 0.03 * NM * abs(action.bias), 8 * NM
