"""Statistics of an image that tell one kind of sample from another, without a network."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fftfreq, rfft2, rfftfreq

# Spatial frequencies in 64ths per pixel: of an image of 64 pixels, in periods across it.
_RINGS = tuple(
    zip((1, 2, 3, 4, 6, 8, 11, 15, 20, 26), (2, 3, 4, 6, 8, 11, 15, 20, 26, 33), strict=True)
)
_PEAK_RINGS = ((1, 3), (3, 6), (6, 11), (11, 20), (20, 33))
_SHARP_RINGS = ((2, 5), (5, 10), (10, 20))
_TURNED_RINGS = ((2, 6), (6, 15), (15, 32))
_SECTORS = 8
_QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
_LINES = (0.1, 0.5, 0.9, 1.0)
_LEAST_CHANGE = 1e-3
_TINY = 1e-9
_BATCH = 256

STATISTICS = (
    len(_RINGS)
    + len(_PEAK_RINGS)
    + len(_SHARP_RINGS)
    + len(_TURNED_RINGS)
    + len(_QUANTILES)
    + len(_LINES)
    + 3
)
"""How many there are of an image."""

_RIDGE = 1e-2
"""Added to the variances, of 1 each, or a direction in which they hardly vary would decide."""


class _Rings(NamedTuple):
    """Spatial frequencies in groups, one after the other.

    Attributes:
        order: Indices of all groups.
        starts: Where each group begins.
        sizes: Of the groups.
    """

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    sizes: NDArray[np.intp]

    @classmethod
    def of(cls, groups: list[NDArray[np.intp]]) -> _Rings:
        sizes = np.array([len(each) for each in groups])
        return cls(np.concatenate(groups), np.cumsum(sizes) - sizes, sizes)

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average values (N, M) over each group, (N, groups)."""
        sums = np.add.reduceat(values[:, self.order], self.starts, axis=1)
        return np.asarray(sums / self.sizes)

    def highest(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Find the largest value of each group, (N, groups)."""
        return np.asarray(np.maximum.reduceat(values[:, self.order], self.starts, axis=1))


class _Masks(NamedTuple):
    """Groups of spatial frequencies.

    Attributes:
        rings: Whose mean is taken.
        peaks: Whose highest is taken.
        sharp: Whose highest is compared with the mean.
        turned: Sectors of rings, of which the strongest is compared with the weakest.
        rings_turned: Where the sectors of each of these rings begin.
        window: Of the image, (H, H).
    """

    rings: _Rings
    peaks: _Rings
    sharp: _Rings
    turned: _Rings
    rings_turned: NDArray[np.intp]
    window: NDArray[np.float64]


def image_statistics(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Measure spectrum, distribution of heights, noise of lines and preferred directions.

    A lattice shows in peaks of the spectrum, steps and dimer rows in a preferred direction, another
    corrugation in the quantiles, a bad feedback and changes of the tip in the differences from line
    to line.

    Args:
        images: Normalised, (N, 1, H, H).

    Returns:
        (N, K), whatever H.
    """
    if not len(images):
        return np.empty((0, STATISTICS))
    # In parts: the spectra of thousands of images at once would fill the memory.
    parts = [_measured(part) for part in np.split(images, range(_BATCH, len(images), _BATCH))]
    return np.concatenate(parts)


def _measured(images: NDArray[np.float32]) -> NDArray[np.float64]:
    # Written for single images, which environments ask about one by one: few calls, no loops.
    heights = images[:, 0].astype(np.float64)
    masks = _masks(heights.shape[1])
    centred = heights - heights.mean(axis=(1, 2), keepdims=True)
    # Half of the frequencies: those of a real image are the same in opposite directions.
    amplitude = np.abs(rfft2(centred * masks.window)).reshape(len(heights), -1)
    logarithm, power = np.log1p(amplitude), amplitude**2
    sharp = (masks.sharp.highest(power) + _TINY) / (masks.sharp.means(power) + _TINY)
    sectors = masks.turned.means(amplitude)
    turned = (np.maximum.reduceat(sectors, masks.rings_turned, axis=1) + _TINY) / (
        np.minimum.reduceat(sectors, masks.rings_turned, axis=1) + _TINY
    )
    from_line_to_line = np.diff(heights, axis=1)
    changes = np.abs(from_line_to_line).mean(axis=2)
    differences = np.stack(
        [
            from_line_to_line.std(axis=(1, 2)),
            np.diff(heights, axis=2).std(axis=(1, 2)),
            np.diff(heights.mean(axis=2), axis=1).std(axis=1),
        ],
        axis=1,
    )
    return np.concatenate(
        [
            masks.rings.means(logarithm),
            masks.peaks.highest(logarithm),
            np.log(sharp),
            np.log(turned),
            _quantiles(images.reshape(len(images), -1), _QUANTILES),
            # A tip that changes shows in few lines, a bad feedback in all of them.
            np.log(_quantiles(changes, _LINES) + _LEAST_CHANGE),
            differences,
        ],
        axis=1,
    )


def whitening_of(
    statistics: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measure what makes the distance of two images one of Mahalanobis.

    Args:
        statistics: By `image_statistics`, finite, (N, K), of two images or more.

    Returns:
        Their mean (K,), and the matrix (K, K) that maps differences from it to distances.
    """
    mean, spread = statistics.mean(axis=0), statistics.std(axis=0) + 1e-9
    scaled = (statistics - mean) / spread
    covariance = np.cov(scaled.T) + _RIDGE * np.eye(len(mean))
    return mean, np.linalg.cholesky(np.linalg.inv(covariance)) / spread[:, None]


def _quantiles(values: NDArray[np.floating], quantiles: tuple[float, ...]) -> NDArray[np.float64]:
    """Compute quantiles (N, Q) of values (N, M); a sort is faster than NumPy's for few values."""
    places = np.array(quantiles) * (values.shape[1] - 1)
    below = places.astype(int)
    above = np.minimum(below + 1, values.shape[1] - 1)
    ordered = np.sort(values, axis=1)
    low, high = (ordered[:, place].astype(np.float64) for place in (below, above))
    return np.asarray(low + (places - below) * (high - low))


@cache
def _masks(side: int) -> _Masks:
    row, col = np.meshgrid(64 * fftfreq(side), 64 * rfftfreq(side), indexing="ij")
    radius = np.hypot(row, col).ravel()
    angle = np.arctan2(row, col).ravel() % np.pi
    sector = np.minimum((angle * (_SECTORS / np.pi)).astype(int), _SECTORS - 1)

    def ring(low: float, high: float) -> NDArray[np.intp]:
        inside = np.flatnonzero((radius >= low) & (radius < high))
        if inside.size:
            return inside
        # Small images may have none: the nearest ones stand for it.
        distance = np.abs(radius - (low + high) / 2)
        return np.flatnonzero(distance <= distance.min())

    whole = [ring(*bounds) for bounds in _TURNED_RINGS]
    turned = [[each[sector[each] == number] for number in np.unique(sector[each])]
              for each in whole]  # fmt: skip
    sizes = np.array([len(each) for each in turned])
    return _Masks(
        rings=_Rings.of([ring(*bounds) for bounds in _RINGS]),
        peaks=_Rings.of([ring(*bounds) for bounds in _PEAK_RINGS]),
        sharp=_Rings.of([ring(*bounds) for bounds in _SHARP_RINGS]),
        turned=_Rings.of([sectors for each in turned for sectors in each]),
        rings_turned=np.cumsum(sizes) - sizes,
        window=np.hanning(side)[:, None] * np.hanning(side),
    )
