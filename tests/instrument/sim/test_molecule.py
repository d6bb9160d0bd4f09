"""The picture of a molecule follows from the symmetry and the orbitals of its ring."""

from __future__ import annotations

import numpy as np
import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.config.simulator import CO_APART_NM
from spm_gym.instrument.sim.dynamics import HiddenState, Shape
from spm_gym.instrument.sim.images import simulated_images
from spm_gym.instrument.sim.molecule import (
    APPARENT_HEIGHT,
    DECAY,
    DEPRESSION,
    Orbital,
    atoms,
    density,
    orbitals,
    template,
)
from spm_gym.scale import NM

ORBITALS: tuple[Orbital, ...] = ("homo", "lumo")


def test_ring_has_forty_atoms_and_every_atom_two_or_three_neighbours() -> None:
    place = atoms("MgPc").place
    distance = np.hypot(*(place[:, None] - place[None]).T)
    neighbours = ((distance > 0) & (distance < 1.6e-10)).sum(axis=0)
    assert place.shape == (40, 2)
    assert set(neighbours) == {2, 3}
    assert neighbours.sum() == 2 * 48


def test_lumo_is_a_degenerate_pair_and_homo_is_not() -> None:
    energy, coefficients = orbitals()
    assert energy[21] == pytest.approx(energy[22], abs=1e-9)
    assert energy[20] - energy[21] > 0.1
    assert energy[19] - energy[20] > 0.1
    np.testing.assert_allclose(coefficients.T @ coefficients, np.eye(40), atol=1e-9)


def test_homo_changes_sign_in_every_mirror() -> None:
    place = atoms("MgPc").place
    homo = orbitals()[1][:, 20]
    for mirror in (np.diag([1, -1]), np.diag([-1, 1]), np.array([[0, 1], [1, 0]])):
        image = place @ mirror
        partner = np.hypot(*(place[:, None] - image[None]).T).argmin(axis=1)
        np.testing.assert_allclose(homo[partner], -homo, atol=1e-9)


@pytest.mark.parametrize("orbital", ORBITALS)
def test_picture_has_fourfold_and_mirror_symmetry(orbital: Orbital) -> None:
    rho = template(orbital).rho
    for image in (np.rot90(rho), rho[::-1], rho[:, ::-1], rho.T):
        np.testing.assert_allclose(image, rho, atol=1e-4 * rho.max())


@pytest.mark.parametrize("orbital", ORBITALS)
def test_highest_point_is_the_apparent_height(orbital: Orbital) -> None:
    height = np.log1p(template(orbital).rho.astype(float)) / (2 * DECAY)
    assert height.max() == pytest.approx(APPARENT_HEIGHT, rel=1e-6)
    assert height.min() == 0


@pytest.mark.parametrize("orbital", ORBITALS)
def test_picture_fades_to_nothing_at_its_border(orbital: Orbital) -> None:
    rho = template(orbital).rho
    assert not np.concatenate([rho[0], rho[-1], rho[:, 0], rho[:, -1]]).any()


def test_lobes_stand_apart_by_the_size_of_the_ring() -> None:
    picture = template("lumo")
    row, col = np.unravel_index(picture.rho.argmax(), picture.rho.shape)
    centre = len(picture.rho) // 2
    radius = picture.pitch * np.hypot(row - centre, col - centre)
    assert 0.45e-9 < radius < 0.8e-9


def test_the_two_orbitals_look_different() -> None:
    homo, lumo = template("homo").rho, template("lumo").rho
    assert np.abs(homo - lumo).max() > 0.3 * lumo.max()


def test_current_vanishes_on_the_mirror_planes_of_the_homo_only() -> None:
    along = np.linspace(0.2e-9, 0.8e-9, 13)
    zero = np.zeros_like(along)
    scale = template("homo").rho.max()
    assert density("homo", along, zero).max() < 1e-12 * density("lumo", along, zero).max() * scale


def test_the_other_molecule_is_a_rectangle_of_thirty_atoms() -> None:
    place, coulomb, electrons = atoms("PTCDA")
    distance = np.hypot(*(place[:, None] - place[None]).T)
    neighbours = ((distance > 0) & (distance < 1.6e-10)).sum(axis=0)
    assert (len(place), len(coulomb), electrons) == (30, 30, 32)
    assert neighbours.sum() == 2 * 36  # seven hexagons that share edges, four carbonyls
    assert np.bincount(neighbours).tolist() == [0, 4, 10, 16]
    energy, coefficients = orbitals("PTCDA")
    np.testing.assert_allclose(coefficients.T @ coefficients, np.eye(30), atol=1e-9)
    assert energy[15] - energy[16] > 0.3


@pytest.mark.parametrize("orbital", ORBITALS)
def test_the_picture_of_the_other_molecule_has_two_mirrors_and_is_longer_than_wide(
    orbital: Orbital,
) -> None:
    rho = template(orbital, "PTCDA").rho.astype(float)
    for image in (rho[::-1], rho[:, ::-1]):
        np.testing.assert_allclose(image, rho, atol=1e-4 * rho.max())
    assert np.abs(np.rot90(rho) - rho).max() > 0.3 * rho.max()
    height = np.log1p(rho) / (2 * DECAY)
    assert height.max() == pytest.approx(APPARENT_HEIGHT, rel=1e-6)
    wide, long = (np.ptp(np.flatnonzero((height > 0.5e-10).any(axis=axis))) for axis in (1, 0))
    assert long > 1.15 * wide
    assert not np.concatenate([rho[0], rho[-1], rho[:, 0], rho[:, -1]]).any()


def test_along_its_axis_the_lumo_of_the_other_molecule_is_dark() -> None:
    along, zero = np.linspace(-0.6e-9, 0.6e-9, 13), np.zeros(13)
    assert density("lumo", along, zero, "PTCDA").max() < 1e-12 * density(
        "lumo", zero, along, "PTCDA"
    ).max()  # fmt: skip


def test_hexabenzocoronene_has_thirteen_hexagons() -> None:
    place, coulomb, electrons = atoms("HBC")
    distance = np.hypot(*(place[:, None] - place[None]).T)
    neighbours = ((distance > 0) & (distance < 1.6e-10)).sum(axis=0)
    assert (len(place), len(coulomb), electrons) == (42, 42, 42)
    # Bonds = atoms + rings - 1, of a connected flat molecule (Euler).
    assert neighbours.sum() == 2 * (42 + 13 - 1)
    assert set(neighbours) == {2, 3}


def test_the_levels_of_hexabenzocoronene_are_paired() -> None:
    # Alternant hydrocarbons: every level lies as far below carbon's as another lies above it.
    energy, _ = orbitals("HBC")
    np.testing.assert_allclose(energy, -energy[::-1], atol=1e-9)
    assert energy[19] == pytest.approx(energy[20], abs=1e-9)
    assert energy[20] - energy[21] > 0.5


@pytest.mark.parametrize("orbital", ORBITALS)
def test_hexabenzocoronene_looks_the_same_after_a_sixth_of_a_turn(orbital: Orbital) -> None:
    axis = np.linspace(-0.9e-9, 0.9e-9, 31)
    x, y = np.meshgrid(axis, axis)
    cos, sin = np.cos(np.pi / 3), np.sin(np.pi / 3)
    before = density(orbital, x, y, "HBC")
    after = density(orbital, cos * x - sin * y, sin * x + cos * y, "HBC")
    np.testing.assert_allclose(after, before, atol=1e-4 * before.max())
    height = np.log1p(template(orbital, "HBC").rho.astype(float)) / (2 * DECAY)
    assert height.max() == pytest.approx(APPARENT_HEIGHT, rel=1e-6)


def test_the_lumo_of_hexabenzocoronene_has_six_lobes() -> None:
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    around = density("lumo", 0.55e-9 * np.cos(angle), 0.55e-9 * np.sin(angle), "HBC")
    assert np.abs(np.fft.rfft(around))[1:].argmax() + 1 == 6


def test_carbon_monoxide_is_a_round_dip_that_leaves_some_current() -> None:
    rho = template("lumo", "CO").rho.astype(float)
    assert np.log1p(rho.min()) / (2 * DECAY) == pytest.approx(-DEPRESSION, rel=1e-6)
    assert rho.max() <= 0
    np.testing.assert_array_equal(rho, template("homo", "CO").rho)
    for image in (np.rot90(rho), rho[::-1], rho.T):
        np.testing.assert_allclose(image, rho, atol=1e-6)
    # The middle of three as close together as the settings allow is the darkest place of all.
    pitch, centre = template("lumo", "CO").pitch, len(rho) // 2
    apart = round(CO_APART_NM * NM / np.sqrt(3) / pitch)
    assert 1 + 3 * rho[centre, centre + apart] > 0.1


def test_carbon_monoxide_has_no_orbitals_and_must_not_overlap() -> None:
    with pytest.raises(ValueError, match="CO does not lie flat"):
        atoms("CO")
    with pytest.raises(ValueError, match=r"min_distance_nm must be at least 0\.6 for CO, not 0\.5"):
        SimulatorConfig(molecule="CO", min_distance_nm=0.5)


@pytest.mark.parametrize("mode", ["current", "linear"])
def test_a_dense_layer_of_carbon_monoxide_is_imaged_as_dips(mode: str) -> None:
    config = SimulatorConfig.model_validate(
        {"molecule": "CO", "mode": mode, "min_distance_nm": CO_APART_NM, "molecules_per_nm2": 1.5,
         "tilt_pm_per_nm": 0, "terrace_nm": 1e4}
    )  # fmt: skip
    states = np.array([0, HiddenState(Shape.MULTIPLE, True, True).index])
    z = simulated_images(2, 0, config, states=states).z
    assert np.isfinite(z).all()
    sharp = z[0] - np.median(z[0])
    assert -sharp.min() > 2 * sharp.max()
