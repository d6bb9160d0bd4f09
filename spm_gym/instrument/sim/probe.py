"""Probes: micro-apexes, a contaminating molecule, an instability; drawn given their class."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_gym.instrument.sim.dynamics import HiddenState, Shape
from spm_gym.plain_state import array_of
from spm_gym.scale import NM

ANGSTROM = 1e-10

_MOST_DRAWS = 48
"""Numbers drawn for each probe, whatever its class: later draws do not depend on it."""

Apex = tuple[float, float, float, float]
"""Lateral offset along x and y, nm, height, at most 0, angstrom, and width, nm."""

Between = Callable[[float, float], float]
"""Draws a number uniformly between two."""

Apexes = Annotated[NDArray[np.float64], array_of(np.float64, None, 4, most=100 * NM)]
"""Offsets, height and width, m (n, 4)."""


class Probe(NamedTuple):
    """The parameters of a probe that form the image of a surface.

    Attributes:
        apexes: Lateral offset along x and y, height, width of every apex, m (n, 4).
        other: The first of them in the second form, between which and the first an unstable probe
            jumps while scanning, (1, 4); empty for a stable one.
        raised: By how much the second form lies higher, m.
        rate: Probability of a jump in each pixel.
        contrast: Factor on all heights.
        rim: Depth of the dark rim around high places, as a share of their height.
        noise: Factor on the white noise.
    """

    apexes: Apexes
    other: Apexes
    raised: float = 0.0
    rate: float = 0.0
    contrast: float = 1.0
    rim: float = 0.0
    noise: float = 1.0


def draw_probe(state: HiddenState, rng: np.random.Generator) -> Probe:
    """Draw the parameters of a probe of this class."""
    numbers = iter(rng.random(_MOST_DRAWS).tolist())

    def between(low: float, high: float) -> float:
        return float(low + (high - low) * next(numbers))

    apexes = _SHAPES[state.shape](between)
    contrast, rim, noise = 1.0, 0.0, 1.0
    # A molecule at the tip lowers the contrast, adds a dark rim and more noise.
    if state.contaminated:
        apexes = _covered(apexes, between)
        contrast, rim, noise = between(0.55, 0.8), between(0.1, 0.25), between(1.2, 1.8)
    if not state.unstable:
        return Probe(si(apexes), si([]), contrast=contrast, rim=rim, noise=noise)
    other = _moved(apexes[0], between)
    raised, rate = between(0.25, 0.9) * ANGSTROM, 10 ** between(-2.7, -1.7)
    return Probe(si(apexes), si([other]), raised, rate, contrast, rim, noise)


def si(apexes: list[Apex]) -> NDArray[np.float64]:
    """Convert apexes to m (n, 4)."""
    return np.array(apexes, dtype=float).reshape(-1, 4) * (NM, NM, ANGSTROM, NM)


def _sharp(between: Between) -> list[Apex]:
    main = (0.0, 0.0, 0.0, between(0.05, 0.11))
    return [main] if between(0, 1) < 0.5 else [main, _ghost(main, between, (0.3, 1.6), (-4, -2.3))]


# In current mode an apex at height h < 0 shows a ghost about |h| lower than the molecule, which
# is 2 angstrom high: below -2.3 angstrom no ghost is visible and the probe is sharp; between -1.6
# and -0.8 the ghost is weak; above -0.5 both apexes count.
def _weak(between: Between) -> list[Apex]:
    if between(0, 1) < 0.5:
        return [(0.0, 0.0, 0.0, between(0.19, 0.27))]
    main = (0.0, 0.0, 0.0, between(0.05, 0.11))
    return [main, _ghost(main, between, (0.45, 1.6), (-1.6, -0.8))]


def _double(between: Between) -> list[Apex]:
    main = (0.0, 0.0, 0.0, between(0.05, 0.15))
    return [main, _ghost(main, between, (0.45, 1.8), (-0.5, 0.0))]


def _multiple(between: Between) -> list[Apex]:
    count = int(between(3, 6))
    apexes = [
        (*_polar(between(0.3, 1.4), between(0, 2 * math.pi)), between(-0.7, 0.0),
         between(0.12, 0.35))
        for _ in range(count)
    ]  # fmt: skip
    # The highest apex carries most of the current: it is the origin of offsets and heights.
    x, y, highest, _ = max(apexes, key=lambda apex: apex[2])
    return [(a - x, b - y, height - highest, width) for a, b, height, width in apexes]


_SHAPES: dict[Shape, Callable[[Between], list[Apex]]] = {
    Shape.SHARP: _sharp,
    Shape.WEAK: _weak,
    Shape.DOUBLE: _double,
    Shape.MULTIPLE: _multiple,
}


def _ghost(
    main: Apex, between: Between, distance: tuple[float, float], height: tuple[float, float]
) -> Apex:
    place = _polar(between(*distance), between(0, 2 * math.pi))
    return (*place, between(*height), main[3])


def _covered(metal: list[Apex], between: Between) -> list[Apex]:
    """Put a molecule in front of the metal: four lobes of its ring."""
    radius, turn = between(0.35, 0.55), between(0, math.pi / 2)
    x, y = between(-0.2, 0.2), between(-0.2, 0.2)
    lobes = []
    for lobe in range(4):
        dx, dy = _polar(radius, turn + math.pi / 2 * lobe)
        lobes.append((x + dx, y + dy, between(-0.6, 0.0), between(0.1, 0.18)))
    # Behind the molecule the metal is further from the surface and contributes less.
    lower = between(0.3, 0.8)
    return lobes + [(x, y, height - lower, width) for x, y, height, width in metal]


def _moved(apex: Apex, between: Between) -> Apex:
    dx, dy = _polar(between(0.1, 0.5), between(0, 2 * math.pi))
    x, y, height, width = apex
    return x + dx, y + dy, height, width


def _polar(radius: float, angle: float) -> tuple[float, float]:
    return radius * math.cos(angle), radius * math.sin(angle)
