"""Statistics of an image that tell one kind of sample from another, without a network."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Spatial frequencies in 64ths per pixel: of an image of 64 pixels, in periods across it.
_RINGS = tuple(
    zip((1, 2, 3, 4, 6, 8, 11, 15, 20, 26), (2, 3, 4, 6, 8, 11, 15, 20, 26, 33), strict=True)
)
_PEAK_RINGS = ((1, 3), (3, 6), (6, 11), (11, 20), (20, 33))
_SHARP_RINGS = ((2, 5), (5, 10), (10, 20))
_TURNED_RINGS = ((2, 6), (6, 15), (15, 32))
_SECTORS = 8
_QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
_TINY = 1e-9


_Indices = NDArray[np.intp]


def image_statistics(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Measure spectrum, distribution of heights, noise of lines and preferred directions.

    A lattice shows in peaks of the spectrum, steps and dimer rows in a preferred direction, another
    corrugation in the quantiles, a bad feedback in the differences from row to row.

    Args:
        images: Normalised, (N, 1, H, H).

    Returns:
        (N, K), whatever H.
    """
    heights = images[:, 0].astype(np.float64)
    side = heights.shape[1]
    window = np.hanning(side)[:, None] * np.hanning(side)
    centred = heights - heights.mean(axis=(1, 2), keepdims=True)
    amplitude = np.abs(np.fft.fft2(centred * window)).reshape(len(heights), -1)
    logarithm, power = np.log1p(amplitude), amplitude**2
    masks = _masks(side)
    sharp = [power[:, ring] for ring in masks.sharp]
    turned = [[amplitude[:, sector].mean(axis=1) for sector in sectors] for sectors in masks.turned]
    found = [
        *(logarithm[:, ring].mean(axis=1) for ring in masks.rings),
        *(logarithm[:, ring].max(axis=1) for ring in masks.peaks),
        *(np.log((each.max(axis=1) + _TINY) / (each.mean(axis=1) + _TINY)) for each in sharp),
        *(np.log((np.max(each, axis=0) + _TINY) / (np.min(each, axis=0) + _TINY))
          for each in turned),
        *np.quantile(heights.reshape(len(heights), -1), _QUANTILES, axis=1),
        np.diff(heights, axis=1).std(axis=(1, 2)),
        np.diff(heights, axis=2).std(axis=(1, 2)),
        np.diff(heights.mean(axis=2), axis=1).std(axis=1),
    ]  # fmt: skip
    return np.stack(found, axis=1)


class _Masks(NamedTuple):
    """Indices of spatial frequencies.

    Attributes:
        rings: Whose mean is taken.
        peaks: Whose highest is taken.
        sharp: Whose highest is compared with the mean.
        turned: Rings divided by direction, of which the strongest is compared with the weakest.
    """

    rings: list[_Indices]
    peaks: list[_Indices]
    sharp: list[_Indices]
    turned: list[list[_Indices]]


@cache
def _masks(side: int) -> _Masks:
    frequency = np.fft.fftfreq(side) * 64
    radius = np.hypot(frequency[:, None], frequency).ravel()
    angle = np.arctan2(frequency[:, None], frequency).ravel() % np.pi
    sector = np.minimum((angle * (_SECTORS / np.pi)).astype(int), _SECTORS - 1)

    def ring(low: float, high: float) -> _Indices:
        inside = np.flatnonzero((radius >= low) & (radius < high))
        if inside.size:
            return inside
        # Small images may have none: the nearest ones stand for it.
        distance = np.abs(radius - (low + high) / 2)
        return np.flatnonzero(distance <= distance.min())

    turned = [ring(*bounds) for bounds in _TURNED_RINGS]
    return _Masks(
        rings=[ring(*bounds) for bounds in _RINGS],
        peaks=[ring(*bounds) for bounds in _PEAK_RINGS],
        sharp=[ring(*bounds) for bounds in _SHARP_RINGS],
        turned=[[each[sector[each] == number] for number in np.unique(sector[each])]
                for each in turned],
    )  # fmt: skip
