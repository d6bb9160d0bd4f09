"""A trunk that has learned from images without labels to measure them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn.functional import smooth_l1_loss
from tqdm import tqdm

from agents.augmentation import augmented
from agents.checkpoint import (
    MISFITS,
    MODEL,
    CheckpointError,
    check,
    latest_checkpoint,
    read_state,
    write_checkpoint,
)
from agents.classifier_fit import check_network, device_of
from agents.vgg import VGG, check_fit
from spm_gym.config import ClassifierConfig
from spm_gym.errors import one_line
from spm_gym.imaging.conditions import ClassifierError
from spm_gym.imaging.statistics import STATISTICS, image_statistics

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_EPOCHS = 10
_BATCHES = 1_300
"""Of 2,800 images a third of them gives features from which a linear model is worse by 0.01."""

_FARTHEST = 4.0
"""Standard deviations; one image with a crash on it must not decide."""


def pretrain(
    images: NDArray[np.float32],
    config: ClassifierConfig,
    seed: int,
    progress: bool = False,
    writer: SummaryWriter | None = None,
    directory: Path | None = None,
) -> VGG:
    """Train a network to tell the statistics of images, whatever their labels.

    The same arguments give the same weights on the same machine. Spectrum, heights, noise of lines
    and directions tell good images from bad ones even without a network; one that has to read them
    off changed parts of images has features from which few labels suffice. Of images of H:Si(100)
    a linear model on such features is better than one on those of a contrastive loss, which took
    as long (docs/classifier.md, *Pretraining*).

    Args:
        images: Normalised, (N, H, H).
        config: How to train; its augmentation changes them.
        seed: Of the weights and the order of the images.
        progress: Whether to show a progress bar.
        writer: Takes the losses.
        directory: Of the checkpoint, which is taken if there is one, and otherwise written; None
            keeps none.

    Returns:
        The network; its trunk is what a classifier begins with.

    Raises:
        ClassifierError: Images or batches are too small, or training diverged.
        CheckpointError: The checkpoint is damaged, or of another network.
    """
    check_network(config, images.shape[1], len(images))
    network = VGG(
        config.network, STATISTICS, images.shape[1], torch.Generator().manual_seed(seed)
    ).to(device_of(config.device))
    if directory is not None and (path := latest_checkpoint(directory)) is not None:
        for epoch, loss in enumerate(_restore(network, path)):
            _log(writer, epoch, loss)
        return network.eval()
    losses = _learn(network, images, config, seed, progress, writer)
    if directory is not None:
        _keep(network, losses, directory)
    return network.eval()


def _learn(
    network: VGG,
    images: NDArray[np.float32],
    config: ClassifierConfig,
    seed: int,
    progress: bool,
    writer: SummaryWriter | None,
) -> list[float]:
    """Train for all epochs; returns the mean loss of each."""
    device = next(network.parameters()).device
    rng = np.random.default_rng(seed)
    targets = torch.from_numpy(_targets(images))
    optimiser = torch.optim.Adam(
        network.parameters(), lr=config.pretraining_rate, weight_decay=config.weight_decay
    )
    batches = max(1, len(images) // config.batch_size)
    epochs = config.pretraining_epochs or max(_EPOCHS, math.ceil(_BATCHES / batches))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * batches)
    history: list[float] = []
    # Dropout draws from torch's global generator.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        bar = tqdm(range(epochs), desc="pretraining", unit="epoch", disable=not progress)
        for epoch in bar:
            losses = []
            for index in np.array_split(rng.permutation(len(images)), batches):
                batch = torch.from_numpy(images[index])[:, None].to(device)
                outputs = network(augmented(batch, config.augmentation, rng))
                loss = smooth_l1_loss(outputs, targets[index].to(device))
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                losses.append(loss.item())
            history.append(float(np.mean(losses)))
            bar.set_postfix(loss=f"{history[-1]:.4f}")
            _log(writer, epoch, history[-1])
            if not math.isfinite(history[-1]):
                raise ClassifierError(
                    "pretraining diverged, for its loss is not finite: lower "
                    "classifier.pretraining_rate"
                )
    return history


def _log(writer: SummaryWriter | None, epoch: int, loss: float) -> None:
    if writer is not None:
        writer.add_scalar("classifier/pretraining_loss", loss, epoch)


def _keep(network: VGG, losses: list[float], directory: Path) -> None:
    """Write the checkpoint of a network that is finished.

    Raises:
        CheckpointError: There is no space for it.
    """

    def write(folder: Path) -> None:
        weights = {name: value.cpu() for name, value in network.state_dict().items()}
        try:
            save_file({name: value.contiguous() for name, value in weights.items()}, folder / MODEL)
        except SafetensorError as error:
            raise CheckpointError(f"{folder} cannot be written: {one_line(error)}") from None

    write_checkpoint(directory, "classifier", len(losses), {"losses": losses}, write)


def _restore(network: VGG, path: Path) -> list[float]:
    """Take the weights of a checkpoint; returns its losses.

    Raises:
        CheckpointError: It is damaged, or of another network.
    """
    check(path, "classifier")
    try:
        weights = load_file(path / MODEL)
        check_fit(network, weights)
        network.load_state_dict(weights)
        return [float(loss) for loss in read_state(path)["losses"]]
    except MISFITS as error:
        raise CheckpointError(
            f"{path} does not fit this training: {one_line(error)}; remove it to pretrain again"
        ) from None


def _targets(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Measure the statistics of images (N, H, H), in units of their spread, (N, K)."""
    statistics = image_statistics(images[:, None])
    spread = statistics.std(axis=0) + 1e-9
    scaled = (statistics - statistics.mean(axis=0)) / spread
    return np.asarray(scaled.clip(-_FARTHEST, _FARTHEST), np.float32)
