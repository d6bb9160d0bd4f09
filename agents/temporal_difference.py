"""The loss of double DQN, in the precision and with the compiler that the settings ask for."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from agents.masked import double_q_target
from agents.replay import TransitionBatch
from agents.vgg import VGG
from spm_gym.config import AgentConfig, ConfigError


class TemporalDifference:
    """Computes the loss of a batch.

    Args:
        config: Loss, discount, precision and compiler.
        device: Of the networks. On a GPU, TF32 is allowed or forbidden in the whole process.

    Raises:
        ConfigError: torch.compile does not work here.
    """

    def __init__(self, config: AgentConfig, device: torch.device) -> None:
        self._config = config
        self._device = device.type
        self._trunk = _trunk
        if device.type == "cuda":
            allow_tf32(config.precision != "float32")
        if config.compile:
            _try_compiler(device)
            # Static shapes give the faster code; all batches have the same size then.
            self._trunk = torch.compile(_trunk, dynamic=False)

    def loss(self, online: VGG, target: VGG, batch: TransitionBatch) -> Tensor:
        """Compute the mean loss over the batch.

        Args:
            online: The network that learns.
            target: The network that values the next images.
            batch: N steps.
        """
        td_target = self._td_target(online, target, batch)
        # Training mode for these images only: with batch norm, neither targets nor actions may
        # depend on which steps share a batch.
        online.train()
        values = self._values(online, batch.observations).gather(1, batch.actions)
        online.eval()
        if self._config.loss == "huber":
            return functional.smooth_l1_loss(values, td_target)
        return functional.mse_loss(values, td_target)

    @torch.no_grad()
    def _td_target(self, online: VGG, target: VGG, batch: TransitionBatch) -> Tensor:
        """Targets (N, 1) of the values of the actions taken."""
        # Terminal steps, about every fourth, need no values of their next images; but compiled code
        # takes whole batches, for it would be compiled again for every size.
        count = len(batch.rewards) if self._config.compile else batch.ongoing
        following = batch.next_observations[:count]
        td_target = batch.rewards.clone()
        td_target[:count] = double_q_target(
            self._values(online, following),
            self._values(target, following),
            batch.next_masks[:count],
            batch.rewards[:count],
            batch.dones[:count],
            self._config.gamma,
        )
        return td_target

    def _values(self, network: VGG, images: Tensor) -> Tensor:
        # The head stays in float32: values of two actions often differ by less than bfloat16
        # resolves.
        bfloat16 = self._config.precision == "bfloat16"
        with torch.autocast(self._device, torch.bfloat16, enabled=bfloat16):
            features = self._trunk(network, images)
        return cast(Tensor, network.head(features.float()))


def allow_tf32(allowed: bool) -> None:
    """Let GPUs round the factors of float32 products to 10 bits, or not, in the whole process."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def _trunk(network: VGG, images: Tensor) -> Tensor:
    return cast(Tensor, network.trunk(images))


def _try_compiler(device: torch.device) -> None:
    try:
        torch.compile(torch.sin)(torch.zeros(8, device=device))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"setting agent.compile = True: torch.compile does not work here ({reason}); on a CPU "
            "it needs a C++ compiler, on a GPU a C compiler and Triton"
        ) from error
