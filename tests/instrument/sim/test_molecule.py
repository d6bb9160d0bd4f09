"""The picture of a molecule follows from the symmetry and the orbitals of its ring."""

from __future__ import annotations

import numpy as np
import pytest

from spm_gym.instrument.sim.molecule import (
    APPARENT_HEIGHT,
    DECAY,
    Orbital,
    atoms,
    density,
    orbitals,
    template,
)

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
