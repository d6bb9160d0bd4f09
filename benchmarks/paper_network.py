"""The paper's network on a GPU: a gradient step beside what arithmetic and memory allow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from measure import Outcome, Skipped, of_values
from torch.utils.flop_counter import FlopCounterMode

from agents.double_dqn import DoubleDQN
from agents.vgg import VGG
from spm_gym.config import NetworkConfig, load_config
from spm_gym.types import BoolArray

NAME = "paper network, batch 64, one gradient step on a GPU"
CONFIG = Path(__file__).parents[1] / "configs" / "paper.yaml"
ACTIONS, PIXELS, STORED = 12, 64, 256
GIB = 2**30

WEIGHTS_MOVED = 12
"""Times that as many values as there are weights go to or from memory.

Read in three passes forward and one backward, which writes gradients; Adam reads these, and reads
and writes weights and two moments.
"""


def paper_network(pairs: int) -> Outcome:
    """Gradient step of `configs/paper.yaml`; what its floor is made of is measured by turns."""
    if not torch.cuda.is_available():
        return Skipped(NAME, "needs a GPU, and there is none")
    memory = torch.cuda.get_device_properties(0).total_memory / GIB
    if memory < 20:
        return Skipped(NAME, f"needs a GPU with 24 GB; this one has {memory:.0f} GiB")
    model = filled_agent()
    flop = convolution_flop(model.config.network, model.batch_size)
    moved = 4 * WEIGHTS_MOVED * sum(weights.numel() for weights in model.q_net.parameters())
    product, duplication = Product(), Duplication()
    for work in (model.gradient_step, product, duplication) * 3:
        seconds(work)
    ours, floor = [], []
    for _ in range(pairs):
        ours.append(1e3 * seconds(model.gradient_step))
        calculating = flop / product.flop * seconds(product)
        moving = moved / duplication.moved * seconds(duplication)
        floor.append(1e3 * (calculating + moving))
    return of_values(
        NAME,
        ours,
        floor,
        at_least=1 / 1.5,
        unit="ms",
        note=(
            f"reference: {flop / 1e12:.2f} TFLOP of convolutions as fast as a large product of "
            f"matrices in the same precision, and {moved / 1e9:.0f} GB of weights, gradients and "
            f"moments as fast as a copy; on {torch.cuda.get_device_name()}"
        ),
    )


class Noise(gym.Env[np.ndarray[Any, Any], np.int64]):
    """Images without meaning, in the shape of the real ones."""

    observation_space = gym.spaces.Box(-1.5, 1.5, (1, PIXELS, PIXELS), np.float32)
    action_space = gym.spaces.Discrete(ACTIONS)

    def action_masks(self) -> BoolArray:
        """Everything is allowed."""
        return np.ones(ACTIONS, bool)


def filled_agent() -> DoubleDQN:
    """The paper's agent with some steps in its memory, none of them terminal."""
    config = load_config(CONFIG, ["agent.parallel=false", f"agent.buffer_steps={STORED}"]).agent
    model = DoubleDQN(Noise(), config, seed=0)
    info = {"action_mask": np.ones(ACTIONS, bool)}
    for number in range(STORED):
        image = model.observation_space.sample()[None]
        action, reward = np.array([number % ACTIONS]), np.array([-1.0])
        model.replay_buffer.add(image, -image, action, reward, np.array([False]), [info])
    return model


def convolution_flop(network: NetworkConfig, batch: int) -> float:
    """Arithmetic of one gradient step: three passes forward, one of them backward as well.

    Fully connected layers are left out: at this size of batch they wait for their weights.
    """
    with torch.device("meta"):
        layers = VGG(network, ACTIONS, PIXELS)
        images = torch.empty(batch, 1, PIXELS, PIXELS)
    forward = counted(lambda: layers(images))
    return 2 * forward + counted(lambda: layers(images).sum().backward())


def counted(work: Callable[[], object]) -> float:
    """Arithmetic of the convolutions in a piece of work."""
    with FlopCounterMode(display=False) as counter:
        work()
    counts = counter.get_flop_counts()["Global"]
    return float(sum(flop for kind, flop in counts.items() if "convolution" in str(kind)))


class Product:
    """A product of matrices so large that only arithmetic counts."""

    def __init__(self, side: int = 8192) -> None:
        self._left, self._right = torch.randn(2, side, side, device="cuda")
        self.flop = 2 * side**3

    def __call__(self) -> None:
        """Multiply."""
        torch.mm(self._left, self._right)


class Duplication:
    """A copy so large that only memory counts."""

    def __init__(self, size: int = GIB) -> None:
        self._source = torch.ones(size // 4, device="cuda")
        self._copy = torch.empty_like(self._source)
        self.moved = 2 * size

    def __call__(self) -> None:
        """Copy."""
        self._copy.copy_(self._source)


def seconds(work: Callable[[], object]) -> float:
    """Time on the GPU as well."""
    torch.cuda.synchronize()
    started = perf_counter()
    work()
    torch.cuda.synchronize()
    return perf_counter() - started
