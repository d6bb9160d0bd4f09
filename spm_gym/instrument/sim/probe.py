"""The probe: micro-apexes, a contaminating molecule, an instability; drawn given its class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spm_gym.instrument.sim.dynamics import HiddenState, Shape

NM = 1e-9
ANGSTROM = 1e-10


@dataclass(frozen=True, slots=True)
class Apexes:
    """Micro-apexes: lateral offsets (n, 2), heights (n,) at most 0, widths (n,); m."""

    offset: NDArray[np.float64]
    height: NDArray[np.float64]
    width: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Instability:
    """A second form of the probe, between which and the first it jumps while scanning.

    Attributes:
        apexes: The second form.
        rate: Probability of a jump in each pixel.
        height: By how much the second form lies higher, m.
    """

    apexes: Apexes
    rate: float
    height: float


@dataclass(frozen=True, slots=True)
class Probe:
    """Everything that makes an image of a surface.

    Attributes:
        apexes: The probe's form.
        contrast: Factor on all heights.
        rim: Depth of the dark rim around high places, as a share of their height.
        noise: Factor on the white noise.
        instability: None for a stable probe.
    """

    apexes: Apexes
    contrast: float = 1.0
    rim: float = 0.0
    noise: float = 1.0
    instability: Instability | None = None


def draw_probe(state: HiddenState, rng: np.random.Generator) -> Probe:
    """Draw the parameters of a probe of this class."""
    probe = Probe(_SHAPES[state.shape](rng))
    if state.contaminated:
        probe = replace(
            probe,
            apexes=_covered(probe.apexes, rng),
            contrast=rng.uniform(0.55, 0.8),
            rim=rng.uniform(0.1, 0.25),
            noise=rng.uniform(1.2, 1.8),
        )
    if state.unstable:
        probe = replace(probe, instability=_instability(probe.apexes, rng))
    return probe


def _sharp(rng: np.random.Generator) -> Apexes:
    main = _apexes([(0.0, 0.0)], [0.0], [rng.uniform(0.05, 0.11)])
    if rng.random() < 0.5:
        return main
    return _with_ghost(main, rng, distance=(0.3, 1.6), height=(-4.0, -2.3))


def _weak(rng: np.random.Generator) -> Apexes:
    if rng.random() < 0.5:
        return _apexes([(0.0, 0.0)], [0.0], [rng.uniform(0.19, 0.27)])
    main = _apexes([(0.0, 0.0)], [0.0], [rng.uniform(0.05, 0.11)])
    return _with_ghost(main, rng, distance=(0.45, 1.6), height=(-1.6, -0.8))


def _double(rng: np.random.Generator) -> Apexes:
    main = _apexes([(0.0, 0.0)], [0.0], [rng.uniform(0.05, 0.15)])
    return _with_ghost(main, rng, distance=(0.45, 1.8), height=(-0.5, 0.0))


def _multiple(rng: np.random.Generator) -> Apexes:
    count = int(rng.integers(3, 6))
    offset = _polar(rng.uniform(0.3, 1.4, count), rng.uniform(0, 2 * np.pi, count))
    height = rng.uniform(-0.7, 0.0, count)
    return _apexes(offset - offset[height.argmax()], height - height.max(),
                   rng.uniform(0.12, 0.35, count))  # fmt: skip


_SHAPES = {
    Shape.SHARP: _sharp,
    Shape.WEAK: _weak,
    Shape.DOUBLE: _double,
    Shape.MULTIPLE: _multiple,
}


def _with_ghost(
    main: Apexes,
    rng: np.random.Generator,
    distance: tuple[float, float],
    height: tuple[float, float],
) -> Apexes:
    place = _polar(rng.uniform(*distance, 1), rng.uniform(0, 2 * np.pi, 1))
    ghost = _apexes(place, [rng.uniform(*height)], main.width / NM)
    return _joined(main, ghost)


def _covered(metal: Apexes, rng: np.random.Generator) -> Apexes:
    """A molecule in front: four lobes of the ring, the metal behind it."""
    radius, turn = rng.uniform(0.35, 0.55), rng.uniform(0, np.pi / 2)
    centre = rng.uniform(-0.2, 0.2, 2)
    lobes = _apexes(
        centre + _polar(np.full(4, radius), turn + np.pi / 2 * np.arange(4.0)),
        rng.uniform(-0.6, 0.0, 4),
        rng.uniform(0.1, 0.18, 4),
    )
    behind = replace(metal, height=metal.height - rng.uniform(0.3, 0.8) * ANGSTROM)
    return _joined(lobes, behind)


def _instability(apexes: Apexes, rng: np.random.Generator) -> Instability:
    moved = apexes.offset.copy()
    moved[0] += _polar(rng.uniform(0.1, 0.5, 1), rng.uniform(0, 2 * np.pi, 1))[0] * NM
    return Instability(
        apexes=replace(apexes, offset=moved),
        rate=10 ** rng.uniform(-2.7, -1.7),
        height=rng.uniform(0.25, 0.9) * ANGSTROM,
    )


def _apexes(offset_nm: ArrayLike, height_angstrom: ArrayLike, width_nm: ArrayLike) -> Apexes:
    return Apexes(
        np.asarray(offset_nm, dtype=float).reshape(-1, 2) * NM,
        np.asarray(height_angstrom, dtype=float) * ANGSTROM,
        np.asarray(width_nm, dtype=float) * NM,
    )


def _joined(first: Apexes, second: Apexes) -> Apexes:
    return Apexes(
        np.vstack([first.offset, second.offset]),
        np.concatenate([first.height, second.height]),
        np.concatenate([first.width, second.width]),
    )


def _polar(radius: ArrayLike, angle: ArrayLike) -> NDArray[np.float64]:
    r, phi = np.asarray(radius, float), np.asarray(angle, float)
    return np.stack([r * np.cos(phi), r * np.sin(phi)], axis=1)
