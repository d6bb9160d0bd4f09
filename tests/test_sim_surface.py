from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.molecule import APPARENT_HEIGHT, DECAY, density, orbitals, template
from spm_gym.instrument.sim.surface import STEP_HEIGHT, Grid, Surface
from spm_gym.types import Dip, Pulse, Stall

NM = 1e-9
SMOOTH = SimulatorConfig(rough_fraction=0)


def surface(seed: int = 0, **settings: float) -> Surface:
    config = SMOOTH.model_copy(update=settings)
    return Surface(config, 850 * NM, np.random.SeedSequence(seed))


def grid(x: float = 0, y: float = 0, size: float = 10 * NM, points: int = 64, angle: float = 0,
         shift: float = 0) -> Grid:  # fmt: skip
    pixel = size / points
    columns = (np.arange(points) - (points - 1) / 2) * pixel
    return Grid(x, y, angle, pixel, columns, -columns, np.full((2, points), shift))


@pytest.mark.parametrize("orbital", ["homo", "lumo"])
def test_molecules_have_fourfold_symmetry_and_stand_two_angstrom_high(orbital: str) -> None:
    rho = template(orbital).rho
    assert np.allclose(rho, np.rot90(rho), atol=1e-4 * rho.max())
    assert np.log1p(rho.max()) / (2 * DECAY) == pytest.approx(APPARENT_HEIGHT)
    assert np.all(rho >= 0)
    assert max(rho[0].max(), rho[:, 0].max()) == 0


def test_the_lumo_shows_four_lobes_and_the_homo_nodes_between_them() -> None:
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    around = density("lumo", 0.45 * NM * np.cos(angle), 0.45 * NM * np.sin(angle))
    peaks = (around > np.roll(around, 1)) & (around >= np.roll(around, -1))
    assert peaks.sum() in (4, 8)
    along_axis = density("homo", np.array([0.45 * NM]), np.array([0.0]))
    between = density("homo", np.array([0.45 * NM]), np.array([0.19 * NM]))
    assert along_axis < 0.2 * between


def test_the_frontier_orbitals_are_a_single_and_a_pair() -> None:
    energy, coefficients = orbitals()
    assert coefficients.shape == (40, 40)
    homo, lumo = energy[20], energy[21:23]
    assert lumo[0] == pytest.approx(lumo[1])
    assert homo > lumo[0] + 0.1
    assert abs(energy[23] - lumo[0]) > 0.05


@pytest.mark.parametrize("seed", [0, 1])
def test_molecules_have_the_density_and_keep_their_distance(seed: int) -> None:
    made = surface(seed)
    nearest = cKDTree(made.molecules).query(made.molecules, k=2)[0][:, 1]
    assert nearest.min() >= 1.75 * NM
    inner = np.abs(made.molecules).max(axis=1) < 400 * NM
    assert inner.sum() / 800**2 == pytest.approx(0.055, rel=0.03)


def test_a_seed_is_a_surface() -> None:
    here = grid(100 * NM, -50 * NM)
    assert np.array_equal(surface(3).heights(here, "lumo"), surface(3).heights(here, "lumo"))
    assert not np.array_equal(surface(3).heights(here, "lumo"), surface(4).heights(here, "lumo"))


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 2])
def test_overlapping_grids_show_the_same_surface(angle: float) -> None:
    """The height under a point does not depend on the grid that asks for it."""
    made = surface(5)
    one = made.heights(grid(angle=angle), "lumo")
    pixel = 10 * NM / 64
    dx, dy = 8 * pixel * np.cos(angle), 8 * pixel * np.sin(angle)
    other = made.heights(grid(dx, dy, angle=angle), "lumo")
    assert np.allclose(one[:, 8:], other[:, :-8], atol=2e-12)


def test_shifted_lines_look_at_shifted_places() -> None:
    made = surface(6)
    pixel = 10 * NM / 64
    straight = made.heights(grid(), "lumo")
    shifted = made.heights(grid(shift=4 * pixel), "lumo")
    # 4 pixels to the right and 4 up
    assert np.allclose(shifted[4:, :-4], straight[:-4, 4:], atol=3e-12)


def test_terraces_are_whole_steps_and_about_one_image_in_twelve_has_an_edge() -> None:
    bare = surface(0, molecules_per_nm2=0.0)
    edges, places = 0, 0
    for seed in range(3):
        bare = surface(seed, molecules_per_nm2=0.0)
        for x in np.arange(-400, 401, 50):
            for y in np.arange(-400, 401, 50):
                z = bare.heights(grid(x * NM, y * NM, points=16), "lumo")
                edges += np.ptp(z) > 0.5 * STEP_HEIGHT
                places += 1
                flat = np.abs(z / STEP_HEIGHT - np.rint(z / STEP_HEIGHT)) < 0.02
                assert np.mean(flat) > 0.5
    assert 0.04 < edges / places < 0.14


@pytest.mark.parametrize("action", [Pulse(-8.0), Dip(0.8 * NM), Dip(5 * NM)])
def test_conditioning_leaves_marks_that_stay(action: Pulse | Dip) -> None:
    made = surface(2)
    before = made.heights(grid(), "lumo")
    made.mark(action, 0.0, 0.0, np.random.default_rng(0))
    after = made.heights(grid(), "lumo")
    assert np.abs(after - before).max() > 0.2e-10
    assert np.array_equal(made.heights(grid(), "lumo"), after)
    far = grid(60 * NM, 0.0)
    assert np.array_equal(made.heights(far, "lumo"), surface(2).heights(far, "lumo"))
    again = surface(2)
    again.set_state(made.get_state())
    assert np.array_equal(again.heights(grid(), "lumo"), after)


def test_deeper_dips_leave_deeper_pits_and_stalls_none() -> None:
    depths = []
    for depth in (0.8, 2.5, 5.0):
        made = surface(2, molecules_per_nm2=0.0)
        made.mark(Dip(depth * NM), 0.0, 0.0, np.random.default_rng(1))
        depths.append(-made.heights(grid(points=65), "lumo").min())
    assert depths == sorted(depths)
    made = surface(2)
    made.mark(Stall(), 0.0, 0.0, np.random.default_rng(1))
    assert np.array_equal(made.heights(grid(), "lumo"), surface(2).heights(grid(), "lumo"))


def test_rough_patches_are_rough_and_cover_their_share() -> None:
    rough = surface(0, rough_fraction=0.2, molecules_per_nm2=0.0)
    ranges = [
        np.ptp(rough.heights(grid(x * NM, y * NM, points=16), "lumo"))
        for x in np.arange(-400, 401, 40) for y in np.arange(-400, 401, 40)
    ]  # fmt: skip
    assert 0.1 < np.mean(np.array(ranges) > 6e-10) < 0.35
