"""Training of the recogniser on images whose class is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from agents.belief.errors import BeliefError
from agents.belief.recogniser import Recogniser
from agents.gathering import gather
from agents.vgg import VGG
from spm_gym.config import RecogniserConfig


@dataclass(frozen=True, slots=True)
class ClassedImages:
    """Normalised images with the class of their probe.

    Attributes:
        images: (N, 1, H, H) float16, half the memory; it rounds by a hundredth of the noise.
        states: Index of the class, (N,).
    """

    images: NDArray[np.float16]
    states: NDArray[np.int64]

    def __post_init__(self) -> None:
        shape = self.images.shape
        if len(shape) != 4 or shape[1] != 1 or shape[2] != shape[3]:
            raise BeliefError(f"square images (N, 1, H, H) are needed, not {shape}")
        if self.states.shape != shape[:1]:
            raise BeliefError(f"{shape[0]} images have as many classes, not {self.states.shape}")


def fit_recogniser(
    data: ClassedImages,
    classes: int,
    settings: str,
    seed: int,
    config: RecogniserConfig,
    progress: Callable[[int, float], object] = lambda epoch, loss: None,
) -> Recogniser:
    """Train on the CPU; the same arguments give the same weights on the same machine.

    Args:
        data: Images to learn from; every class must occur.
        classes: S.
        settings: Hash of the settings of the images, kept with the recogniser.
        seed: Of the weights, the order of the images, flips and shifts.
        config: How to train.
        progress: Called after every epoch with its number, from 1, and its mean loss.

    Raises:
        BeliefError: A class does not occur, batches are too small, or training diverged.
    """
    counts = np.bincount(data.states, minlength=classes)
    if len(counts) != classes or not counts.all():
        raise BeliefError(f"images of all {classes} classes are needed, not {counts.tolist()}")
    if config.network.norm == "batch" and config.batch_size < 2:
        raise BeliefError("batch normalisation needs recogniser.batch_size of at least 2")
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    network = VGG(config.network, classes, data.images.shape[-1], generator)
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    steps = max(1, len(data.states) // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=max(2, config.epochs * steps)
    )
    losses: list[float] = []
    # Dropout draws from torch's global generator: seeded here, and restored for the caller.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for epoch in range(config.epochs):
            summed = 0.0
            for images, states in _batches(data, steps, config.shift_pixels, rng):
                loss = cross_entropy(network(images), states)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                summed += loss.item()
            if not math.isfinite(summed):
                raise BeliefError(
                    f"training diverged in epoch {epoch + 1}, for its loss is not finite: lower "
                    "recogniser.learning_rate"
                )
            losses.append(summed / steps)
            progress(epoch + 1, losses[-1])
    summary = {"seed": seed, "settings": config.model_dump(mode="json"), "losses": losses}
    return Recogniser(network, counts / counts.sum(), settings, summary)


def _batches(
    data: ClassedImages, steps: int, shift: int, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Divide all images, in a random order, flipped and moved at random."""
    # A class does not depend on the place of the molecules, nor, over all probes, on the side.
    for rows in np.array_split(rng.permutation(len(data.states)), steps):
        flips = rng.integers(2, size=(2, len(rows)))
        offsets = rng.integers(-shift, shift + 1, size=(2, len(rows)))
        images = np.empty((len(rows), *data.images.shape[1:]), np.float16)
        gather(data.images, rows, flips, offsets, images)
        yield torch.from_numpy(images).float(), torch.from_numpy(data.states[rows])
