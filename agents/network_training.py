"""A network in training: everything that decides how it goes on, as tensors and plain data."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from agents.torch_state import Generator, below, moments, restore_optimiser
from agents.vgg import VGG, check_fit
from spm_gym.config import ClassifierConfig
from spm_gym.plain_state import StateError, restore_generator, restored

_EPOCHS = 10
_BATCHES = 200
"""After a tenth of them every image of a small folder is still called bad."""

_NETWORK, _BEST, _OPTIMISER = "network.", "best.", "optimiser."


@dataclass(frozen=True, slots=True)
class Epoch:
    """Averages over one pass through the training images.

    Attributes:
        loss: Weighted cross entropy of the training images, each before its gradient step.
        validation_loss: That of the validation images after the epoch; None without them.
    """

    loss: float
    validation_loss: float | None = None


@dataclass(frozen=True, slots=True)
class NetworkTrainingState:
    """State of a training between two epochs, without its tensors.

    Attributes:
        seed: Of the training.
        history: Of the epochs so far.
        lowest: Loss of the best weights; None without any.
        since: Epochs since then.
        learning_rate: Of the next gradient step.
        rng: State of the generator of order and augmentation.
        torch: State of torch's generator.
        cuda: State of the generator of the GPU; None on the CPU.
    """

    seed: int
    history: list[Epoch]
    lowest: float | None
    since: Annotated[int, Field(ge=0)]
    learning_rate: Annotated[float, Field(ge=0)]
    rng: dict[str, Any]
    torch: Generator
    cuda: Generator | None


class NetworkTraining:
    """A network of a classifier, and all that decides how its training goes on.

    Args:
        config: How to train.
        seed: Of the weights and the order of the images.
        images: To learn from, (N, H, H).
        start: Gives the initial trunk; None draws it.
        device: To train on.

    Attributes:
        network: As it is now.
        optimiser: Of its weights.
        schedule: Of the learning rate.
        rng: Of the order of the images, and of their augmentation.
        batches: Of an epoch.
        epochs: At most.
        history: Of the epochs so far.
    """

    def __init__(
        self,
        config: ClassifierConfig,
        seed: int,
        images: NDArray[np.float32],
        start: VGG | None,
        device: torch.device,
    ) -> None:
        self._seed, self._device = seed, device
        self.rng = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(seed)
        self.network = VGG(config.network, 1, images.shape[1], generator).to(device)
        if start is not None:
            self.network.trunk.load_state_dict(start.trunk.state_dict())
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.batches = max(1, len(images) // config.batch_size)
        self.epochs = config.epochs or max(_EPOCHS, math.ceil(_BATCHES / self.batches))
        # Down to zero along a cosine: a threshold needs probabilities that mean what they say.
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimiser, self.epochs * self.batches
        )
        self.history: list[Epoch] = []
        self._best: dict[str, Tensor] | None = None
        self._lowest, self._since, self._patience = math.inf, 0, config.patience

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or the last good one is too long ago."""
        impatient = self._patience is not None and self._since >= self._patience
        return impatient or len(self.history) >= self.epochs

    def note(self, epoch: Epoch, stopping_loss: float | None) -> None:
        """Note an epoch, and the loss of the images that tell when to stop, if there are any."""
        self.history.append(epoch)
        if self._patience is None or stopping_loss is None:
            return
        if stopping_loss < self._lowest:
            self._lowest, self._since = stopping_loss, 0
            self._best = copy.deepcopy(self.network.state_dict())
        else:
            self._since += 1

    def trained(self) -> VGG:
        """Give the network with the weights of the lowest loss, at the end."""
        if self._best is not None:
            self.network.load_state_dict(self._best)
        return self.network.eval()

    def get_state(self) -> dict[str, Any]:
        """Collect the state, with the fields of `NetworkTrainingState`."""
        on_gpu = self._device.type == "cuda"
        state = NetworkTrainingState(
            seed=self._seed,
            history=self.history,
            lowest=None if self._best is None else self._lowest,
            since=self._since,
            learning_rate=self.optimiser.param_groups[0]["lr"],
            rng=dict(self.rng.bit_generator.state),
            torch=torch.get_rng_state().numpy(),
            cuda=torch.cuda.get_rng_state(self._device).numpy() if on_gpu else None,
        )
        return asdict(state)

    def tensors(self) -> dict[str, Tensor]:
        """Collect the weights, the best ones so far, and the moments of the optimiser."""
        groups = (
            (_NETWORK, self.network.state_dict()),
            (_BEST, self._best or {}),
            (_OPTIMISER, moments(self.optimiser)),
        )
        return {
            prefix + name: value.detach().cpu().contiguous()
            for prefix, group in groups
            for name, value in group.items()
        }

    def restore(self, values: Any, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `get_state` and `tensors` gave, torch's generators included.

        Raises:
            ValueError: It is of another training, or something does not fit.
        """
        state = restored(NetworkTrainingState, values)
        weights, best = below(_NETWORK, tensors), below(_BEST, tensors)
        self._check(state, bool(best))
        check_fit(self.network, weights)
        self.network.load_state_dict(weights)
        if best:
            check_fit(self.network, best)
            self._best = {name: value.to(self._device) for name, value in best.items()}
            assert state.lowest is not None
            self._lowest = state.lowest
        restore_optimiser(self.optimiser, state.learning_rate, below(_OPTIMISER, tensors))
        steps = len(state.history) * self.batches
        place = {"last_epoch": steps, "_step_count": steps + 1, "_last_lr": [state.learning_rate]}
        self.schedule.load_state_dict(self.schedule.state_dict() | place)
        self.history, self._since = list(state.history), state.since
        restore_generator(self.rng, state.rng)
        torch.set_rng_state(torch.from_numpy(state.torch))
        if state.cuda is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(torch.from_numpy(state.cuda), self._device)

    def _check(self, state: NetworkTrainingState, has_best: bool) -> None:
        if state.seed != self._seed:
            raise StateError(f"its seed is {state.seed}, not {self._seed}")
        if not 0 < len(state.history) <= self.epochs:
            raise StateError(f"it has {len(state.history)} of {self.epochs} epochs")
        if has_best != (state.lowest is not None):
            raise StateError("its best weights and their loss are not both there")
