"""Measurement of a figure of speed: ours against a reference, by turns in one run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

Work = Callable[[], object]
Spread = tuple[float, float]

SCALES = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
SHORTEST_SAMPLE = 2e-3
"""Seconds that every sample lasts at least; shorter calls are repeated inside."""


@dataclass(frozen=True, slots=True)
class Spreads:
    """Lower and upper quartiles."""

    ours: Spread
    reference: Spread
    ratio: Spread


@dataclass(frozen=True, slots=True)
class Figure:
    """A comparison that has been measured.

    Attributes:
        name: The same in quick and full runs: recorded figures are found by it.
        unit: Of ours and reference.
        ours: Median.
        reference: Median.
        ratio: How many times better ours is, the median over pairs.
        at_least: What the ratio should reach.
        spreads: Quartiles of the three.
        note: What the figure does not say itself.
    """

    name: str
    unit: str
    ours: float
    reference: float
    ratio: float
    at_least: float
    spreads: Spreads
    note: str = ""

    @property
    def reached(self) -> bool:
        """Whether ours is as good as it should be."""
        return self.ratio >= self.at_least


@dataclass(frozen=True, slots=True)
class Skipped:
    """A figure that this run leaves out: for want of a device, or because it takes too long."""

    name: str
    why: str


Outcome = Figure | Skipped


def compare(
    name: str,
    ours: Work,
    reference: Work,
    at_least: float,
    *,
    pairs: int = 15,
    unit: str = "ms",
    ours_per: int = 1,
    reference_per: int = 1,
    note: str = "",
    clock: Callable[[], float] = perf_counter,
) -> Figure:
    """Time two functions by turns, so that a busy machine slows both.

    Args:
        name: Of the figure.
        ours: One call of it is timed; it has been called before, so nothing is compiled in time.
        reference: Timed like ours.
        at_least: Goal of the ratio.
        pairs: Number of pairs of times; every other pair begins with the reference.
        unit: "s", "ms", "us" or "ns".
        ours_per: Pieces of work in one call; times are per piece.
        reference_per: Pieces of work in one call of the reference.
        note: Explanation beside the figure.
        clock: Gives the time in s.
    """
    scale = SCALES[unit]
    timed = [
        _sampler(work, scale / per, clock)
        for work, per in ((ours, ours_per), (reference, reference_per))
    ]
    times = np.empty((pairs, 2))
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            times[pair, which] = timed[which]()
    return of_values(name, times[:, 0].tolist(), times[:, 1].tolist(), at_least, unit, note)


def of_values(
    name: str,
    ours: Sequence[float],
    reference: Sequence[float],
    at_least: float,
    unit: str,
    note: str = "",
    *,
    more_is_better: bool = False,
) -> Figure:
    """Make a figure of values taken elsewhere, paired in their order.

    Args:
        name: Of the figure.
        ours: Times, errors, bytes or rates.
        reference: The same number of values, or a single one for all, such as a limit.
        at_least: Goal of the ratio.
        unit: Of both.
        note: Explanation beside the figure.
        more_is_better: For rates; else the ratio is reference over ours.

    Raises:
        ValueError: If a ratio is no positive number.
    """
    mine, theirs = np.broadcast_arrays(
        np.asarray(ours, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    )
    better, worse = (mine, theirs) if more_is_better else (theirs, mine)
    if not (np.isfinite(mine).all() and np.isfinite(theirs).all() and better.size):
        raise ValueError(f"{name}: numbers were needed, ours {ours}, reference {reference} came")
    if min(better.min(), worse.min()) <= 0:
        raise ValueError(f"{name}: no ratio of ours {ours} and reference {reference}")
    ratio = better / worse
    return Figure(
        name=name,
        unit=unit,
        ours=float(np.median(mine)),
        reference=float(np.median(theirs)),
        ratio=float(np.median(ratio)),
        at_least=at_least,
        spreads=Spreads(_quartiles(mine), _quartiles(theirs), _quartiles(ratio)),
        note=note,
    )


def _sampler(work: Work, scale: float, clock: Callable[[], float]) -> Callable[[], float]:
    """Warm up; return a function that takes one sample: the time of one call, scaled."""
    # The first call compiles and imports; the second one shows how many calls a sample needs to be
    # long against the resolution of the clock.
    work()
    started = clock()
    work()
    once = clock() - started
    repeats = max(1, math.ceil(SHORTEST_SAMPLE / max(once, 1e-9)))

    def sample() -> float:
        started = clock()
        for _ in range(repeats):
            work()
        return (clock() - started) / repeats * scale

    return sample


def _quartiles(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Spread:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(low), float(high)
