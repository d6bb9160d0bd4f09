"""Networks of agents as files and checkpoints hold them, to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from agents.checkpoint import load_checkpoint
from agents.operation import FORMAT, AgentFileError, read_file
from agents.vgg import VGG, check_finite_output
from spm_gym.config import NetworkConfig


@dataclass(frozen=True, slots=True)
class AgentNetwork:
    """What an agent knows.

    Attributes:
        network: Maps images to the values of the actions.
        actions: Their names; empty if nobody wrote them down.
        steps: Actions that it was trained for.
    """

    network: VGG
    actions: tuple[str, ...]
    steps: int

    def values(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values of all actions (N, A) for images (N, 1, H, W)."""
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
    """The network of a checkpoint, which must be trusted.

    Raises:
        CheckpointError: It is missing, damaged or foreign.
    """
    checkpoint = load_checkpoint(path, device="cpu")
    network = checkpoint.model.q_net.q_net
    assert isinstance(network, VGG)
    return AgentNetwork(network, (), checkpoint.step)


def read_weights(path: Path) -> AgentNetwork:
    """The network in a file of `agents.operation.save_weights`.

    Raises:
        AgentFileError: Unreadable, or not such a file.
    """
    about, state = read_file(path)
    try:
        if about["format"] != FORMAT:
            raise AgentFileError(f"{path} has the format {about['format']!r}, not {FORMAT!r}")
        network = VGG(NetworkConfig(**about["network"]), len(about["actions"]), about["pixels"])
        network.load_state_dict({key.removeprefix("q_net."): state[key] for key in state})
        check_finite_output(
            network.eval(), network.pixels, lambda why: AgentFileError(f"{path} is broken: {why}")
        )
    except (KeyError, ValidationError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise AgentFileError(f"{path} is not an agent written by this project: {reason}") from error
    return AgentNetwork(network, tuple(about["actions"]), about["steps"])
