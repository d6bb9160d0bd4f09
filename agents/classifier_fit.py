"""Fit of one network to labelled images (paper, *Networks*)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

from agents.augmentation import augmented
from agents.labelled import Labelled
from agents.vgg import VGG, least_pixels
from spm_gym.config import ClassifierConfig
from spm_gym.imaging.conditions import ClassifierError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_LARGEST_BATCH = 512
_EPOCHS = 10
_BATCHES = 200
"""After a tenth of them every image of a small folder is still called bad."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """Averages over one pass through the training images.

    Attributes:
        loss: Weighted cross entropy of the training images, each before its gradient step.
        validation_loss: That of the validation images after the epoch; None without them.
    """

    loss: float
    validation_loss: float | None = None


def fit(
    training: Labelled,
    config: ClassifierConfig,
    seed: int,
    validation: Labelled | None = None,
    progress: bool = False,
    writer: SummaryWriter | None = None,
    start: VGG | None = None,
    stopping: Labelled | None = None,
    name: str = "classifier",
) -> tuple[VGG, tuple[Epoch, ...]]:
    """Train a network; the same arguments give the same weights on the same machine.

    Args:
        training: Images to learn from.
        config: How to train.
        seed: Of the weights and the order of the images.
        validation: Images whose loss is recorded after every epoch.
        progress: Whether to show a progress bar.
        writer: Takes the losses.
        start: Gives the initial trunk.
        stopping: Images whose loss tells when to stop; None trains for all epochs.
        name: Of the network, for bar and writer.

    Raises:
        ClassifierError: A class is missing, batches are too small, or training diverged.
    """
    _check_trainable(training, config)
    rng = np.random.default_rng(seed)
    device = _device(config.device)
    network = VGG(
        config.network, 1, training.images.shape[1], torch.Generator().manual_seed(seed)
    ).to(device)
    if start is not None:
        network.trunk.load_state_dict(start.trunk.state_dict())
    optimiser = torch.optim.Adam(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    # Down to zero along a cosine: a threshold needs probabilities that mean what they say.
    batches = max(1, len(training.good) // config.batch_size)
    epochs = config.epochs or max(_EPOCHS, math.ceil(_BATCHES / batches))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches)
    history = []
    best = _Best(config.patience)
    bar = tqdm(range(epochs), desc=name, unit="epoch", disable=not progress)
    # Dropout draws from torch's global generator: seeded here, and restored for the caller.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for epoch in bar:
            shuffled = _batches(training, batches, config, rng, device)
            loss = _learn(network, shuffled, optimiser, schedule, config)
            history.append(Epoch(loss, _validate(network, validation, config)))
            bar.set_postfix(loss=f"{history[-1].loss:.4f}")
            if writer is not None:
                _log(writer, name, epoch, history[-1])
            if stopping is not None and best.passed(network, _validate(network, stopping, config)):
                break
    if best.weights is not None:
        network.load_state_dict(best.weights)
    if not math.isfinite(history[-1].loss):
        raise ClassifierError(
            "training diverged, for its loss is not finite: lower classifier.learning_rate"
        )
    return network.eval(), tuple(history)


class _Best:
    """The weights of the lowest loss so far."""

    def __init__(self, patience: int | None) -> None:
        self.weights: dict[str, Tensor] | None = None
        self._patience, self._lowest, self._since = patience, math.inf, 0

    def passed(self, network: VGG, loss: float | None) -> bool:
        """Note the loss after an epoch; tell whether the last good one is too long ago."""
        if self._patience is None or loss is None:
            return False
        if loss < self._lowest:
            self._lowest, self._since = loss, 0
            self.weights = copy.deepcopy(network.state_dict())
            return False
        self._since += 1
        return self._since >= self._patience


def _learn(
    network: VGG,
    batches: Iterator[tuple[Tensor, Tensor, Tensor]],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    config: ClassifierConfig,
) -> float:
    """Learn from every batch once; returns the mean loss."""
    losses = []
    for images, share, weight in batches:
        loss = _loss(network(images), share, weight, config)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def _check_trainable(training: Labelled, config: ClassifierConfig) -> None:
    good, count = int(training.good.sum()), training.good.size
    if not 0 < good < count:
        raise ClassifierError(f"both good and bad images are needed, not {good} good of {count}")
    side = round(config.augmentation.crop * training.images.shape[1])
    if side < least_pixels(config.network):
        raise ClassifierError(
            f"classifier.augmentation.crop = {config.augmentation.crop:g} leaves {side} px of an "
            f"image, and the network needs {least_pixels(config.network)}"
        )
    if config.network.norm == "batch" and min(config.batch_size, count) < 2:
        raise ClassifierError("batch normalisation needs classifier.batch_size of at least 2")


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _batches(
    data: Labelled,
    batches: int,
    config: ClassifierConfig | None,
    rng: np.random.Generator,
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Divide all images, in a random order, changed at random as the settings say."""
    # Equal parts instead of full batches and a remainder, which could be too small for batch norm.
    for index in np.array_split(rng.permutation(data.good.size), batches):
        images, share, weight = (
            torch.from_numpy(each[index]).to(device)
            for each in (data.images, data.share, data.weight)
        )
        images = images[:, None]
        if config is not None:
            images = augmented(images, config.augmentation, rng)
        yield images, share, weight


def _loss(logits: Tensor, share: Tensor, weight: Tensor, config: ClassifierConfig) -> Tensor:
    # The weight multiplies the odds that the network learns; good images are the rarer ones.
    odds = torch.tensor(config.good_weight, device=logits.device)
    return binary_cross_entropy_with_logits(logits.squeeze(1), share, weight, pos_weight=odds)


def _validate(network: VGG, data: Labelled | None, config: ClassifierConfig) -> float | None:
    if data is None:
        return None
    device = next(network.parameters()).device
    # The order of the batches does not matter here; a generator of its own leaves training alone.
    rng = np.random.default_rng(0)
    network.eval()
    with torch.inference_mode():
        losses = [
            _loss(network(images), share, weight, config).item() * len(share)
            for images, share, weight in _batches(
                data, -(-data.good.size // _LARGEST_BATCH), None, rng, device
            )
        ]
    network.train()
    return sum(losses) / data.good.size


def _log(writer: SummaryWriter, name: str, epoch: int, averages: Epoch) -> None:
    for kind, value in asdict(averages).items():
        if value is not None:
            writer.add_scalar(f"{name}/{kind}", value, epoch)
