"""The policy of a run, as the runner sees it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spm_gym.types import BoolArray, Decision, Transition


class RunPolicy(Protocol):
    """A policy that may learn, and whose state can be kept."""

    def choose(self, observation: NDArray[np.float32], mask: BoolArray, episode: int) -> Decision:
        """Choose an allowed action for an image (1, H, W) in an episode, counted from 1."""
        ...

    def learn(self, transition: Transition, episode: int) -> None:
        """Learn from one step of an episode; they come in their order, uncertain ones too."""
        ...

    def save(self, learned: int) -> None:
        """Write a checkpoint; the last decision that was learned from has this number."""
        ...

    def get_state(self) -> dict[str, Any]:
        """Give the state that `choose` changes, as JSON has it; `learn` is kept by `save`."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave."""
        ...
