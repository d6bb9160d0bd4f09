"""The paper's network as a policy of stable-baselines3."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from agents.vgg import VGG
from spm_gym.config import NetworkConfig


class VGGPolicy(DQNPolicy):
    """The library's DQN policy with the paper's network in place of its own."""

    def __init__(self, *args: Any, network: NetworkConfig, **kwargs: Any) -> None:
        self.network = network
        if torch.__version__ >= "2.4":  # the first with a fused Adam on the CPU
            kwargs = {"optimizer_kwargs": {"fused": True}} | kwargs
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> QNetwork:
        """Build one network, ready for evaluation."""
        # The library's own layers are replaced: its extractor would flatten the image.
        q_net = super().make_q_net()
        q_net.features_extractor = nn.Identity()  # type: ignore[assignment]
        assert self.observation_space.shape is not None
        pixels = self.observation_space.shape[-1]
        q_net.q_net = VGG(self.network, int(q_net.action_space.n), pixels)  # type: ignore[assignment]
        # Twice as fast on a CPU as the default layout.
        q_net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return q_net.eval()

    def set_training_mode(self, mode: bool) -> None:
        """Do nothing: the library calls this while acting, when another thread may be learning.

        Networks are in evaluation mode at all times, but for the loss of a gradient step.
        """

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"network": self.network}
