"""Fit of one network to labelled images (paper, *Networks*)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from agents.augmentation import augmented
from agents.classifier_checkpoint import NetworkCheckpoints
from agents.classifier_loss import weighted_loss
from agents.labelled import Labelled
from agents.network_training import Epoch, NetworkTraining
from agents.vgg import VGG, least_pixels
from spm_gym.config import ClassifierConfig
from spm_gym.imaging.conditions import ClassifierError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_LARGEST_BATCH = 512


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
    checkpoints: NetworkCheckpoints | None = None,
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
        checkpoints: From the newest of which it goes on; None begins, and keeps none.

    Raises:
        ClassifierError: A class is missing, batches are too small, or training diverged.
    """
    good, count = int(training.good.sum()), training.good.size
    if not 0 < good < count:
        raise ClassifierError(f"both good and bad images are needed, not {good} good of {count}")
    check_network(config, training.images.shape[1], count)
    device = device_of(config.device)
    ours = NetworkTraining(config, seed, training.images, start, device)
    # Dropout draws from torch's global generator: seeded here, and restored for the caller.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        if checkpoints is not None:
            checkpoints.restore(ours)
        done = len(ours.history)
        if writer is not None:
            for number, epoch in enumerate(ours.history):
                _log(writer, name, number, epoch)
        bar = tqdm(total=ours.epochs, initial=done, desc=name, unit="epoch", disable=not progress)
        with bar:
            while not ours.is_over:
                shuffled = _batches(training, ours.batches, config, ours.rng, device)
                loss = _learn(ours, shuffled, config)
                epoch = Epoch(loss, _validate(ours.network, validation, config))
                ours.note(epoch, _validate(ours.network, stopping, config))
                bar.set_postfix(loss=f"{loss:.4f}")
                bar.update()
                if writer is not None:
                    _log(writer, name, len(ours.history) - 1, epoch)
                if not math.isfinite(loss):
                    raise ClassifierError(
                        "training diverged, for its loss is not finite: lower "
                        "classifier.learning_rate"
                    )
                if checkpoints is not None:
                    checkpoints.keep(ours)
    return ours.trained(), tuple(ours.history)


def _learn(
    ours: NetworkTraining,
    batches: Iterator[tuple[Tensor, Tensor, Tensor]],
    config: ClassifierConfig,
) -> float:
    """Learn from every batch once; returns the mean loss."""
    losses = []
    for images, share, weight in batches:
        loss = weighted_loss(ours.network(images).squeeze(1), share, weight, config.good_weight)
        ours.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        ours.optimiser.step()
        ours.schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def check_network(config: ClassifierConfig, pixels: int, count: int) -> None:
    """Check that a network can learn from so many images of so many pixels a side.

    Raises:
        ClassifierError: It cannot.
    """
    side = round(config.augmentation.crop * pixels)
    if side < least_pixels(config.network):
        raise ClassifierError(
            f"classifier.augmentation.crop = {config.augmentation.crop:g} leaves {side} px of an "
            f"image, and the network needs {least_pixels(config.network)}"
        )
    if config.network.norm == "batch" and min(config.batch_size, count) < 2:
        raise ClassifierError("batch normalisation needs classifier.batch_size of at least 2")


def device_of(name: str) -> torch.device:
    """Choose a device by its name, or a GPU if there is one by "auto"."""
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


def _validate(network: VGG, data: Labelled | None, config: ClassifierConfig) -> float | None:
    if data is None:
        return None
    device = next(network.parameters()).device
    # The order of the batches does not matter here; a generator of its own leaves training alone.
    rng = np.random.default_rng(0)
    network.eval()
    with torch.inference_mode():
        losses = [
            weighted_loss(network(images).squeeze(1), share, weight, config.good_weight).item()
            * len(share)
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
