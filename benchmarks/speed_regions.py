"""Figures of the region map: marking what an image has used up and choosing the next region."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from measure import Figure, compare

from spm_gym.config import RegionConfig
from spm_gym.envs.regions import RegionMap

NM = 1e-9
IMAGE = 10 * NM
Place = tuple[float, float]
Work = Callable[[], Place | None]


def figures(quick: bool) -> Iterator[Figure]:
    """Half of the area is used up, as in the middle of a run on it."""
    coarse, fine = half_used(cell_nm=10), half_used(cell_nm=1)
    yield compare(
        "region map: mark + choose, 10 nm cells",
        turn(coarse),
        turn_by_loops(coarse),
        at_least=200,
        pairs=9 if quick else 25,
        unit="us",
        note="reference: a plain double loop over all cells",
    )
    yield compare(
        "region map: mark + choose, 1 nm cells",
        turn(fine),
        turn_by_loops(fine),
        at_least=200,
        pairs=3 if quick else 9,
        note="the same loop; ours should stay below 10 ms",
    )
    yield compare(
        "region map: cost per cell, 1 nm against 10 nm",
        turn(fine),
        turn(coarse),
        at_least=1,
        pairs=15 if quick else 45,
        unit="ns",
        ours_per=fine.free.size,
        reference_per=coarse.free.size,
        note="above 1 the cost grows less than the number of cells, here 98-fold",
    )


def half_used(cell_nm: float) -> RegionMap:
    """The paper's area after many bad samples; the best places of it are gone."""
    regions = RegionMap(RegionConfig(cell_nm=cell_nm), IMAGE)
    rng, last = np.random.default_rng(0), (0.0, 0.0)
    while regions.usable_share > 0.5:
        last = regions.next_region(last, rng) or last
        regions.mark(*last, 25 * NM, "bad sample")
    return regions


def turn(regions: RegionMap) -> Work:
    """Mark an image's place and choose the next region."""
    rng = np.random.default_rng(1)
    last = regions.next_region((0.0, 0.0), rng) or (0.0, 0.0)

    def work() -> Place | None:
        regions.mark(*last, 5 * NM, "image")
        return regions.next_region(last, rng)

    return work


def turn_by_loops(regions: RegionMap) -> Work:
    """The same by a plain double loop over the cells."""
    rng = np.random.default_rng(1)
    last = regions.next_region((0.0, 0.0), rng) or (0.0, 0.0)
    axis, free = regions.axis.tolist(), regions.free.tolist()

    def work() -> Place | None:
        mark_by_loops(free, axis, *last, 5 * NM)
        return choose_by_loops(free, axis, *last, rng)

    return work


def mark_by_loops(
    free: list[list[bool]], axis: list[float], x: float, y: float, radius: float
) -> None:
    """Take away every cell whose footprint overlaps the disc."""
    for row, to_y in enumerate(axis):
        for col, to_x in enumerate(axis):
            gap_x = max(abs(to_x - x) - IMAGE / 2, 0.0)
            gap_y = max(abs(to_y - y) - IMAGE / 2, 0.0)
            if math.hypot(gap_x, gap_y) < radius * (1 - 1e-6):
                free[row][col] = False


def choose_by_loops(
    free: list[list[bool]], axis: list[float], x: float, y: float, rng: np.random.Generator
) -> Place | None:
    """Find the cheapest free cells; one of them is drawn."""
    least, found = math.inf, list[Place]()
    for row, to_y in enumerate(axis):
        for col, to_x in enumerate(axis):
            if not free[row][col]:
                continue
            cost = math.hypot(to_x - x, to_y - y) + abs(to_x) + abs(to_y)
            if cost < least - 1e-14:
                least, found = cost, [(to_x, to_y)]
            elif cost <= least + 1e-14:
                found.append((to_x, to_y))
    return found[rng.integers(len(found))] if found else None
