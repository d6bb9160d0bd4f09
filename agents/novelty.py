"""Recognition of images that are unlike all that a classifier was trained with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spm_gym.imaging.conditions import ClassifierError
from spm_gym.imaging.statistics import STATISTICS, whitening_of
from spm_gym.types import BoolArray

_Array = NDArray[np.float64]

_KEPT = 4000
"""Images to compare with; with a quarter of them, three times as many strange ones pass."""

_NEIGHBOURS = 5
_LEFT_OUT = 0.005
"""Of images of the kind that it was trained with, the share that is called unknown."""

_BATCH = 256
_NAMES = ("mean", "whitening", "bank", "farthest")


class Novelty:
    """Tells by the distance to the nearest training images, in whitened `image_statistics`.

    Of Mahalanobis distance and nearest neighbours, on features of the network, of its layers and on
    statistics of the image, this one won by far (docs/classifier.md, *Unknown*): features that a
    network has learned to tell probes apart by leave out what tells samples apart.

    Args:
        mean: Of the statistics in training, (K,).
        whitening: Maps differences from it to distances, (K, K).
        bank: Whitened statistics of training images, (M, K).
        farthest: Distance to the fifth neighbour beyond which an image is unknown.

    Raises:
        ClassifierError: They do not fit one another, or are not finite.
    """

    def __init__(self, mean: _Array, whitening: _Array, bank: _Array, farthest: float) -> None:
        fits = mean.shape == (STATISTICS,) and whitening.shape == (STATISTICS, STATISTICS)
        if not (fits and bank.shape[1:] == (STATISTICS,) and len(bank) >= _NEIGHBOURS):
            raise ClassifierError(
                f"what it compares images with does not fit: {mean.shape}, {whitening.shape}, "
                f"{bank.shape}"
            )
        if not all(np.isfinite(each).all() for each in (mean, whitening, bank, farthest)):
            raise ClassifierError("what it compares images with is not finite")
        self._mean, self._whitening, self._bank = mean, whitening, bank
        self._farthest = farthest

    @classmethod
    def of(cls, statistics: _Array, rng: np.random.Generator) -> Novelty | None:
        """Learn from training images; None if there are too few to compare with.

        Args:
            statistics: Of images of good and of bad probes, (N, K).
            rng: Draws which of them are kept.
        """
        chosen = rng.permutation(len(statistics))
        # The limit is that of images that are not kept: each kept one is its own neighbour.
        kept, others = np.split(chosen, [min(_KEPT, len(statistics) * 2 // 3)])
        if len(kept) < 10 * _NEIGHBOURS:
            return None
        mean, matrix = whitening_of(statistics)
        found = cls(mean, matrix, (statistics[kept] - mean) @ matrix, 0.0)
        found._farthest = float(np.quantile(found.distance(statistics[others]), 1 - _LEFT_OUT))
        return found

    def distance(self, statistics: _Array) -> _Array:
        """Compute the distance (N,) of images to the fifth nearest of the kept ones."""
        points = (statistics - self._mean) @ self._whitening
        squares = (self._bank**2).sum(axis=1)
        found = np.empty(len(points))
        for begin in range(0, len(points), _BATCH):
            part = points[begin : begin + _BATCH]
            far = squares - 2 * part @ self._bank.T + (part**2).sum(axis=1, keepdims=True)
            nearest = np.partition(far, _NEIGHBOURS - 1, axis=1)[:, _NEIGHBOURS - 1]
            found[begin : begin + _BATCH] = np.sqrt(np.maximum(nearest, 0))
        return found

    def unknown(self, statistics: _Array) -> BoolArray:
        """Tell which images are unlike all training images, from their statistics (N, K)."""
        # Not "farther than": a distance that is NaN is no reason to trust an image.
        return np.asarray(~(self.distance(statistics) <= self._farthest))

    def tensors(self) -> dict[str, Tensor]:
        """Give what `restored` takes."""
        values = (self._mean, self._whitening, self._bank, np.array(self._farthest))
        return {
            name: torch.tensor(value, dtype=torch.float32)
            for name, value in zip(_NAMES, values, strict=True)
        }

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor]) -> Novelty:
        """Build it from what `tensors` gave.

        Raises:
            ClassifierError: They are not finite, or do not fit one another.
            KeyError: One is missing.
        """
        mean, whitening, bank, farthest = (
            tensors[name].cpu().numpy().astype(np.float64) for name in _NAMES
        )
        return cls(mean, whitening, bank, float(farthest))
