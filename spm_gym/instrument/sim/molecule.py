"""Images of molecules by a perfect tip, of flat ones from the orbitals of their rings."""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from spm_gym.config.simulator import Molecule

DECAY = 1e10
"""Decay constant k of the vacuum wave functions, 1/m: the current falls as exp(-2 k z)."""

APPARENT_HEIGHT = 2.0e-10
"""Greatest apparent height of a flat molecule above the terrace, m."""

DEPRESSION = 0.3e-10
"""Depth of the dark spot that carbon monoxide is to a metal tip, m."""

_DEPRESSION_WIDTH = 0.2e-9

Orbital = Literal["homo", "lumo"]

_ANGSTROM = 1e-10
_BOND = 1.6 * _ANGSTROM
"""Longer than the bonds of these molecules, shorter than the distance of second neighbours."""

# Hueckel parameters in units of the resonance integral: Coulomb integrals relative to carbon. An
# atom that gives two electrons, as a bridging oxygen, holds them tighter than one that gives one.
_PYRROLE_N, _MESO_N = 1.2, 0.5
_CARBONYL_O, _BRIDGING_O = 1.0, 2.0
_TIP_HEIGHT = 3.5 * _ANGSTROM
_REACH = 1.3e-9
_PITCH = 0.025e-9


class Template(NamedTuple):
    """Extra current above a molecule, relative to the current above the bare terrace.

    Attributes:
        rho: Square array centred on the molecule, rows along its y and columns along its x;
            zero at the border.
        pitch: Distance of neighbouring samples, m.
    """

    rho: NDArray[np.float32]
    pitch: float

    @property
    def reach(self) -> float:
        """Distance from the centre beyond which there is no extra current, m."""
        return self.pitch * (len(self.rho) // 2)


class Atoms(NamedTuple):
    """Atoms of the pi system of a molecule.

    Attributes:
        place: Positions (N, 2), m.
        coulomb: Coulomb integrals (N,).
        electrons: In the pi system.
    """

    place: NDArray[np.float64]
    coulomb: NDArray[np.float64]
    electrons: int


def atoms(molecule: Molecule) -> Atoms:
    """Return the atoms of a molecule that lies flat, its centre at the origin.

    Raises:
        ValueError: It stands upright, without a pi system that a tip could see from above.
    """
    places = {"MgPc": _phthalocyanine, "PTCDA": _dianhydride, "HBC": _hexabenzocoronene}
    if molecule not in places:
        raise ValueError(f"{molecule} does not lie flat: only {', '.join(places)} have a picture "
                         "of orbitals")  # fmt: skip
    return places[molecule]()


def _phthalocyanine() -> Atoms:
    """Place the atoms of magnesium phthalocyanine's ring: 40 atoms, 42 electrons."""
    # Magnesium gives two electrons to the ring and takes no part in its pi system.
    quarter = [
        (1.97, 0.0, _PYRROLE_N),
        *((x, sign * y, 0.0) for x, y in _CARBONS for sign in (1, -1)),
        (2.36, 2.36, _MESO_N),
    ]
    place, coulomb = np.array(quarter)[:, :2], np.array(quarter)[:, 2]
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    turns = [np.linalg.matrix_power(turn, n) for n in range(4)]
    return Atoms(np.vstack([place @ t.T for t in turns]) * _ANGSTROM, np.tile(coulomb, 4), 42)


_CARBONS = ((2.79, 1.11), (4.18, 0.70), (5.38, 1.42), (6.56, 0.70))


def _dianhydride() -> Atoms:
    """Place the atoms of perylene tetracarboxylic dianhydride: seven hexagons, four carbonyls."""
    # A carbon and a carbonyl oxygen give one electron each, a bridging oxygen its lone pair.
    quarter = [
        (x, sign * y, coulomb) for x, y, coulomb in _PERYLENE for sign in ((1, -1) if y else (1,))
    ]
    half = np.array(quarter)
    place = np.vstack([half[:, :2], -half[:, :2]]) * _ANGSTROM
    return Atoms(place, np.tile(half[:, 2], 2), 32)


# Of the half at positive x: bonds of 1.42 angstrom, of 1.22 to the oxygen of a carbonyl.
_PERYLENE = (
    (0.71, 1.23, 0.0), (1.42, 0.0, 0.0), (1.42, 2.46, 0.0), (2.84, 2.46, 0.0), (2.84, 0.0, 0.0),
    (3.55, 1.23, 0.0), (4.97, 1.23, 0.0), (5.58, 2.29, _CARBONYL_O), (5.68, 0.0, _BRIDGING_O),
)  # fmt: skip


def _hexabenzocoronene() -> Atoms:
    """Place the atoms of hexa-peri-hexabenzocoronene: thirteen hexagons, 42 carbon atoms."""
    # One hexagon in the middle, six beside it, and six in the bays between those.
    beside = np.exp(1j * np.pi / 3 * np.arange(6))
    middles = np.sqrt(3) * np.concatenate([[0], beside, beside * (1 + beside[1])])
    # Neighbouring hexagons share corners: each is kept once.
    corners = (middles[:, None] + beside * np.exp(0.5j * np.pi)).ravel()
    place = np.unique(np.round([corners.real, corners.imag], 6), axis=1).T
    return Atoms(place * _CARBON_BOND, np.zeros(len(place)), len(place))


_CARBON_BOND = 1.42 * _ANGSTROM


def orbitals(molecule: Molecule = "MgPc") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Solve the Hueckel problem of a molecule.

    Returns:
        Binding energies (N,), strongest first, in units of the resonance integral relative to
        carbon, and coefficients (atom, orbital).
    """
    place, coulomb, _ = atoms(molecule)
    distance = cdist(place, place)
    bonded = (distance > 0) & (distance < _BOND)
    energy, coefficients = np.linalg.eigh(np.diag(coulomb) + bonded)
    return energy[::-1], coefficients[:, ::-1]


def density(
    orbital: Orbital,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    molecule: Molecule = "MgPc",
) -> NDArray[np.float64]:
    """Compute the density of a level's p_z orbitals at the tip's height, unnormalised.

    In the picture of Tersoff and Hamann this is the current of a perfect tip.

    Args:
        orbital: Which level; all its degenerate orbitals count.
        x: Distance from the centre of the molecule, m.
        y: Distance across, m.
        molecule: Which molecule.
    """
    energy, coefficients = orbitals(molecule)
    place, _, electrons = atoms(molecule)
    # Two electrons fill each level, the most strongly bound ones first.
    level = energy[electrons // 2 - (orbital == "homo")]
    away = np.sqrt(
        (x[..., None] - place[:, 0]) ** 2 + (y[..., None] - place[:, 1]) ** 2 + _TIP_HEIGHT**2
    )
    # Degenerate orbitals conduct together, so their densities add up.
    waves = np.exp(-DECAY * away) @ coefficients[:, np.abs(energy - level) < 1e-6]
    return np.asarray((waves**2).sum(axis=-1))


@cache
def template(orbital: Orbital, molecule: Molecule = "MgPc") -> Template:
    """Return the picture of a molecule: a flat one scaled to `APPARENT_HEIGHT`, or a dark spot."""
    count = round(_REACH / _PITCH)
    axis = np.arange(-count, count + 1) * _PITCH
    x, y = np.meshgrid(axis, axis)
    if molecule == "CO":
        # Upright, without an orbital near the Fermi level: it hides the metal's own states.
        rho, height = np.exp(-(x**2 + y**2) / (2 * _DEPRESSION_WIDTH**2)), -DEPRESSION
    else:
        rho, height = density(orbital, x, y, molecule), APPARENT_HEIGHT
    # It fades out before the border: otherwise a molecule would stand on a visible square.
    rho *= np.clip((_REACH - np.hypot(x, y)) / (0.2 * _REACH), 0, 1)
    rho *= np.expm1(2 * DECAY * height) / rho.max()
    # Not made read-only: such arrays are of another type to the compiler.
    return Template(rho.astype(np.float32), _PITCH)
