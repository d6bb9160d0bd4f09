"""Surfaces are the same in every image, and keep the marks of actions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.molecule import DECAY, template
from spm_gym.instrument.sim.scene import STEP_HEIGHT, ScanGrid, scene
from spm_gym.instrument.sim.surface import Surface
from spm_gym.types import Conditioning, Dip, Pulse, Stall

NM = 1e-9
SMOOTH = SimulatorConfig(rough_fraction=0.0)
BARE = SimulatorConfig(rough_fraction=0.0, molecules_per_nm2=0.001)


def surface(config: SimulatorConfig = SMOOTH, seed: int = 0, area_nm: float = 850) -> Surface:
    return Surface(config, area_nm * NM, np.random.SeedSequence(seed))


def grid(x: float = 0.0, y: float = 0.0, points: int = 64, pixel: float = NM * 10 / 64,
         angle: float = 0.0) -> ScanGrid:  # fmt: skip
    return ScanGrid(x, y, np.cos(angle), np.sin(angle), pixel, (points - 1) / 2, 0, points, 0,
                  np.zeros((points, 2)))  # fmt: skip


def relief(sample: Surface, raster: ScanGrid | None = None) -> NDArray[np.float64]:
    lowest, field = scene(sample.ground, raster or grid(), template("lumo"), False)
    heights = lowest + np.log(field) / (2 * DECAY)
    again, linear = scene(sample.ground, raster or grid(), template("lumo"), True)
    np.testing.assert_allclose(again + linear, heights, atol=1e-15)
    return heights


def test_same_seed_same_surface_and_other_seed_another() -> None:
    assert np.array_equal(relief(surface(seed=3)), relief(surface(seed=3)))
    assert not np.array_equal(relief(surface(seed=3)), relief(surface(seed=4)))


def test_molecules_keep_their_distance() -> None:
    distance, _ = cKDTree(surface().ground.molecules.place).query(
        surface().ground.molecules.place, k=2
    )
    assert distance[:, 1].min() >= 1.75 * NM


@pytest.mark.parametrize("density", [0.01, 0.055, 0.08])
def test_density_of_molecules_is_the_configured_one(density: float) -> None:
    sample = surface(SMOOTH.model_copy(update={"molecules_per_nm2": density}))
    found = len(sample.ground.molecules.place) / (2 * sample.half / NM) ** 2
    assert found == pytest.approx(density, rel=0.03)


def test_neighbouring_looks_show_the_same_things() -> None:
    sample, pixel = surface(), 10 * NM / 64
    here, right = relief(sample), relief(sample, grid(x=20 * pixel))
    np.testing.assert_allclose(here[:, 20:], right[:, :-20], atol=1e-14)


def test_up_in_the_sample_is_up_in_the_image() -> None:
    sample, pixel = surface(), 10 * NM / 64
    here, above = relief(sample), relief(sample, grid(y=20 * pixel))
    np.testing.assert_allclose(here[:-20], above[20:], atol=1e-14)


def test_a_look_turned_by_a_quarter_is_the_turned_look() -> None:
    sample = surface()
    turned = relief(sample, grid(angle=np.pi / 2))
    np.testing.assert_allclose(turned, np.rot90(relief(sample), -1), atol=1e-13)


def test_most_places_of_a_bare_sample_are_flat_and_terraces_differ_by_the_step() -> None:
    sample = surface(BARE, seed=2)
    levels = np.concatenate(
        [relief(sample, grid(x=x * NM, points=8)).ravel() for x in range(-400, 401, 25)]
    )
    away = np.abs(levels / STEP_HEIGHT - np.rint(levels / STEP_HEIGHT))
    assert np.mean(away < 0.01) > 0.9
    assert len(np.unique(np.rint(levels[away < 0.01] / STEP_HEIGHT))) > 2


@pytest.mark.parametrize("action", [Pulse(-8.0), Dip(0.8e-9), Dip(2.5e-9)])
def test_a_mark_changes_its_place_and_spares_the_others(action: Conditioning) -> None:
    sample = surface()
    before, elsewhere = relief(sample), relief(sample, grid(x=60 * NM))
    sample.mark(action, 0, 0, np.random.default_rng(0))
    assert np.abs(relief(sample) - before).max() > 0.1 * STEP_HEIGHT
    assert np.array_equal(relief(sample, grid(x=60 * NM)), elsewhere)


def test_a_stall_leaves_no_mark() -> None:
    sample = surface()
    before = relief(sample)
    sample.mark(Stall(), 0, 0, np.random.default_rng(0))
    assert np.array_equal(relief(sample), before)


def test_deeper_dips_leave_deeper_pits() -> None:
    depths = []
    for depth in (0.8, 1.8, 5.0):
        sample = surface(BARE)
        sample.mark(Dip(depth * NM), 0, 0, np.random.default_rng(0))
        depths.append(float(relief(sample, grid(points=256)).min()))
    assert depths == sorted(depths, reverse=True)


def test_a_dip_takes_the_molecule_under_it() -> None:
    sample = surface()
    x, y = sample.ground.molecules.place[len(sample.ground.molecules.place) // 2]
    assert len(sample.ground.molecules.near(x, y, 0.1 * NM)) == 1
    sample.mark(Dip(1 * NM), x, y, np.random.default_rng(0))
    assert len(sample.ground.molecules.near(x, y, 0.1 * NM)) == 0


def test_state_carries_marks_to_a_surface_made_again() -> None:
    worn, fresh = surface(), surface()
    worn.mark(Dip(2.5 * NM), 0, 0, np.random.default_rng(0))
    assert not np.array_equal(relief(worn), relief(fresh))
    fresh.set_state(worn.get_state())
    assert np.array_equal(relief(worn), relief(fresh))


def test_rough_patches_cover_about_the_fraction_and_are_tall() -> None:
    sample = surface(SimulatorConfig(rough_fraction=0.1, molecules_per_nm2=0.001), seed=1)
    places = np.random.default_rng(0).uniform(-400 * NM, 400 * NM, (400, 2))
    ranges = [
        float(np.ptp(relief(sample, grid(x, y, points=16, pixel=NM * 0.6)))) for x, y in places
    ]
    assert 0.04 < np.mean(np.array(ranges) > 0.6 * NM) < 0.25


def with_hill(height: float) -> Surface:
    sample = surface(BARE)
    sample.set_state(
        sample.get_state() | {"marks": np.array([[*[NM * 5 / 64] * 2, 0.5 * NM, height]])}
    )
    return sample


def test_no_relief_is_too_deep_for_the_current() -> None:
    _, field = scene(with_hill(60 * NM).ground, grid(), template("lumo"), False)
    assert np.isfinite(field).all()
    assert np.ptp(np.log(field)) / (2 * DECAY) > 8 * NM


@pytest.mark.parametrize("height", [-8 * NM, -5 * NM, 5 * NM, 8 * NM])
def test_neither_pits_nor_hills_move_the_ground_beside_them(height: float) -> None:
    marked, untouched = relief(with_hill(height)), relief(surface(BARE))
    np.testing.assert_allclose(marked[0], untouched[0], atol=1e-14)
    assert abs(marked - untouched).max() == pytest.approx(abs(height), rel=0.02)


def test_heights_have_no_limit() -> None:
    _, heights = scene(with_hill(-60 * NM).ground, grid(), template("lumo"), True)
    assert np.ptp(heights) > 59 * NM
