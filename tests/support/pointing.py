"""A belief agent whose recogniser reads the class from the first pixel of an image."""

from __future__ import annotations

import numpy as np
import torch

from agents.belief.agent import BeliefAgent
from agents.belief.belief import VerdictRates
from agents.belief.recogniser import Recogniser
from agents.belief.transitions import table_prior
from agents.vgg import VGG
from spm_gym.config import BeliefConfig, NetworkConfig

PIXELS, CLASSES, ACTIONS = 8, 3, 3
NAMES = tuple(f"action {number}" for number in range(ACTIONS))
RATES = VerdictRates(0.95, 0.01)
TINY = NetworkConfig(channels=(2,), pooled_sets=1, stem_stride=2, hidden=())


class Pointer(Recogniser):
    """Reads the class from the first pixel, and is right in nine cases out of ten."""

    def __init__(self) -> None:
        shares = np.full(CLASSES, 1 / CLASSES)
        super().__init__(VGG(TINY, CLASSES, PIXELS), shares, "")

    def logarithms(self, images: np.ndarray) -> np.ndarray:
        named = images[:, 0, 0, 0].astype(int)
        return np.asarray(np.log(np.where(np.arange(CLASSES) == named[:, None], 0.9, 0.05)))


def networked() -> Recogniser:
    """Make one that answers by a tiny network, and so comes back from a file."""
    network = VGG(TINY, CLASSES, PIXELS, torch.Generator().manual_seed(1))
    return Recogniser(network, np.full(CLASSES, 1 / CLASSES), "")


def pointing_agent(
    seed: int = 0,
    table: np.ndarray | None = None,
    config: BeliefConfig | None = None,
    recogniser: Recogniser | None = None,
) -> BeliefAgent:
    """Build an agent; a table (A, S, S) is its prior."""
    prior = None if table is None else table_prior(table, ACTIONS, CLASSES, 3.0)
    rng = np.random.default_rng(seed)
    return BeliefAgent(recogniser or Pointer(), RATES, NAMES, rng, prior, config)


def pointed(state: int) -> np.ndarray:
    """Make an image of a class."""
    return np.full((1, PIXELS, PIXELS), state, np.float32)
