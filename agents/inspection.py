"""Networks of agents read from files and checkpoints, for inspection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from agents.double_dqn_checkpoint import read_network
from agents.vgg import VGG, check_finite_output
from agents.weights import AgentFileError, read_file, weights_network


@dataclass(frozen=True, slots=True)
class AgentNetwork:
    """The network of an agent.

    Attributes:
        network: Maps images to the values of the actions.
        actions: Their names; empty if the file does not have them.
        steps: Number of actions in training.
    """

    network: VGG
    actions: tuple[str, ...]
    steps: int

    def values(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the values of all actions (N, A) for images (N, 1, H, W)."""
        with torch.inference_mode():
            values: NDArray[np.float32] = self.network(torch.from_numpy(images)).numpy()
        return values

    def filters(self) -> NDArray[np.float32]:
        """The filters of the first layer, (N, 3, 3)."""
        first = self.network.trunk[0]
        assert isinstance(first, nn.Conv2d)
        filters: NDArray[np.float32] = first.weight.detach()[:, 0].numpy()
        return filters


def read_checkpoint(path: Path) -> AgentNetwork:
    """Read the network of a checkpoint.

    Raises:
        CheckpointError: It is missing, damaged or foreign.
    """
    network, steps = read_network(path)
    return AgentNetwork(network, (), steps)


def read_weights(path: Path) -> AgentNetwork:
    """Read the network of a file that `agents.weights.save_weights` wrote.

    Raises:
        AgentFileError: Unreadable, or not such a file.
    """
    about, state = read_file(path)
    network = weights_network(path, about, state)
    check_finite_output(
        network.eval(), network.pixels, lambda why: AgentFileError(f"{path} is broken: {why}")
    )
    return AgentNetwork(network, about.actions, about.steps)
