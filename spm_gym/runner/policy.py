"""Who chooses the actions of a run, as the runner sees it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spm_gym.types import BoolArray


class RunPolicy(Protocol):
    """A policy that may learn, and whose state can be kept."""

    def choose(
        self, observation: NDArray[np.float32], mask: BoolArray, episode: int
    ) -> tuple[int, list[float] | None]:
        """Choose an allowed action for an image (1, H, W) in an episode, counted from 1.

        Returns:
            The action, and the values of all of them if it was the agent who chose: by these the
            journal tells the agent from chance.
        """
        ...

    def learn(
        self,
        observation: NDArray[np.float32],
        action: int,
        reward: float,
        next_observation: NDArray[np.float32],
        terminated: bool,
        truncated: bool,
        info: dict[str, Any],
    ) -> None:
        """Learn from one step of the environment; ``info`` belongs to the next observation."""
        ...

    def save(self, learned: int) -> None:
        """Write a checkpoint; the last decision that was learned from has this number."""
        ...

    def get_state(self) -> dict[str, Any]:
        """What `choose` changes, as JSON has it; what `learn` changes is in the checkpoints."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave."""
        ...
