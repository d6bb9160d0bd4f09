"""An order of images in which those that resemble one another do not follow one another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spm_gym.imaging.statistics import whitening_of
from spm_gym.types import BoolArray

_APART = 0.5
"""Of the median distance of two images: those that are closer resemble one another.

A linear model learns from the first images as much as from a random sample or a little more; from
an order that takes the farthest image next, as *k*-center does, much less, for that one begins with
the strangest images (`benchmarks/labelling.py`; docs/classifier.md, *Labelling*).
"""

_COMPARED = 500
"""Images of which the median distance is taken: enough, and quick."""

_BLOCK = 4000
"""Images that are put in order at a time: the time grows with the square of their number."""


def dissimilar_first(
    statistics: NDArray[np.float64], groups: Sequence[Sequence[int]], known: Sequence[int]
) -> list[int]:
    """Go through images again and again, each time leaving out what resembles one taken before.

    Like Poisson-disk sampling (R. L. Cook, *ACM Trans. Graph.* 5, 51 (1986)), with the order of the
    candidates given: an image is taken if it is not near to any that was taken in the same pass.
    Near duplicates come in different passes.

    Args:
        statistics: By `image_statistics`, (N, K). Images with a value that is not finite
            resemble none.
        groups: Indices of images, in the order in which they come unless they resemble one
            another; the next group begins where one is spent.
        known: Indices of images that are labelled: what resembles one of them waits for the second
            pass, unless it is one of them.

    Returns:
        The indices of all groups.
    """
    points, near = _points(statistics)
    taken: list[int] = []
    blocks = [group[n : n + _BLOCK] for group in groups for n in range(0, len(group), _BLOCK)]
    for block in blocks:
        left = np.array(block, np.intp)
        waits = ~np.isin(left, known)
        waits[waits] = _resembling(points, left[waits], known, near)
        while len(left):
            chosen, left = _one_pass(points, left, waits, near, taken[-1:])
            taken += chosen
            waits = np.zeros(len(left), np.bool_)
    return taken


def _one_pass(
    points: NDArray[np.float64],
    left: NDArray[np.intp],
    waits: BoolArray,
    near: float,
    last: list[int],
) -> tuple[list[int], NDArray[np.intp]]:
    """Take images that resemble none before; returns these and those that are left."""
    # Not after its twin either, which may have ended the pass before.
    waits = waits | _resembling(points, left, last, near)
    if waits.all():
        waits = np.arange(len(left)) > 0
    open_ones = np.flatnonzero(~waits)
    chosen: list[int] = []
    while len(open_ones):
        chosen.append(int(left[open_ones[0]]))
        open_ones = open_ones[1:]
        open_ones = open_ones[_distances(points[left[open_ones]], points[chosen[-1]]) > near]
    return chosen, left[~np.isin(left, chosen)]


def _points(statistics: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Whiten statistics, and choose the distance below which two images resemble one another."""
    points = np.full(statistics.shape, np.nan)
    finite = np.isfinite(statistics).all(axis=1)
    if finite.sum() < 2:
        return points, 0.0
    mean, matrix = whitening_of(statistics[finite])
    points[finite] = (statistics[finite] - mean) @ matrix
    some = points[finite][:: -(-int(finite.sum()) // _COMPARED)]
    pairs = [_distances(some[n + 1 :], point) for n, point in enumerate(some)]
    return points, _APART * float(np.median(np.concatenate(pairs)))


def _resembling(
    points: NDArray[np.float64], images: NDArray[np.intp], others: Sequence[int], near: float
) -> BoolArray:
    """Tell which images resemble one of the others."""
    found = np.zeros(len(images), np.bool_)
    for other in others:
        found |= _distances(points[images], points[other]) <= near
    return found


def _distances(points: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    # Not by a product of matrices, whose rounding would tell equal images apart.
    distance = np.sqrt(((points - point) ** 2).sum(axis=1))
    return np.where(np.isnan(distance), np.inf, distance)
