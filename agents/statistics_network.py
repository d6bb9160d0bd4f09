"""A small network on statistics of the image: a second opinion (`classifier.statistics`).

Spectrum, heights and noise of lines tell a good image of an unknown sample about as surely as a
convolutional network that was trained with a few thousand images; the two make different mistakes,
and together they are better than either (docs/classifier.md, *Real images*).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.classifier_loss import weighted_loss
from agents.labelled import Labelled
from agents.vgg import check_fit
from spm_gym.imaging.statistics import STATISTICS, image_statistics

_UNITS = 64
_DROPOUT = 0.3
_FARTHEST = 4.0
"""Standard deviations from the mean at which a statistic is cut off: nothing was learned there."""

_TINY = 1e-6
"""Least standard deviation: of a statistic that never varied in training."""

_STEPS, _BATCH = 1000, 256
_LEARNING_RATE, _WEIGHT_DECAY = 3e-3, 0.3


class StatisticsNetwork(nn.Module):
    """Maps `image_statistics` (N, K) to outputs (N,), of which a sigmoid makes probabilities.

    Args:
        mean: Of the statistics in training, (K,).
        spread: Their standard deviations, (K,).
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.layers = nn.Sequential(
            nn.Linear(STATISTICS, _UNITS), nn.ReLU(), nn.Dropout(_DROPOUT), nn.Linear(_UNITS, 1)
        )

    @classmethod
    def of_file(cls, weights: Mapping[str, Tensor]) -> StatisticsNetwork:
        """Build it from what its ``state_dict`` gave.

        Raises:
            ValueError: The weights are not those of such a network.
        """
        network = cls(torch.zeros(STATISTICS), torch.ones(STATISTICS))
        check_fit(network, weights)
        network.load_state_dict(weights)
        return network.eval()

    def forward(self, statistics: Tensor) -> Tensor:
        """Map statistics (N, K) to outputs (N,)."""
        scaled = ((statistics - self.mean) / self.spread).clamp(-_FARTHEST, _FARTHEST)
        outputs: Tensor = self.layers(scaled).squeeze(1)
        return outputs

    def answer(self, statistics: NDArray[np.float64]) -> NDArray[np.float32]:
        """Compute the outputs (N,) for arrays."""
        with torch.inference_mode():
            return np.asarray(self(torch.from_numpy(statistics.astype(np.float32))))


def fit_statistics(training: Labelled, good_weight: float, seed: int) -> StatisticsNetwork:
    """Train a network on the CPU, within a second; the same arguments give the same weights.

    Args:
        training: Images to learn from.
        good_weight: Factor of the odds, as `ClassifierConfig.good_weight`.
        seed: Of the weights and the order of the images.
    """
    values = torch.from_numpy(image_statistics(training.images[:, None]).astype(np.float32))
    share, weight = (torch.from_numpy(each) for each in (training.share, training.weight))
    # Weights, order and dropout are drawn from torch's global generator: seeded here, and restored
    # for the caller.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = StatisticsNetwork(values.mean(0), values.std(0) + _TINY)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
        for _ in range(_STEPS):
            chosen = torch.randint(len(values), (_BATCH,))
            outputs = network(values[chosen])
            loss = weighted_loss(outputs, share[chosen], weight[chosen], good_weight)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return network.eval()
