"""Fewest actions to a good probe in a table of transitions: value iteration."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spm_gym.types import BoolArray

GOOD = 0
"""Index of the class of good probes, in which an episode ends."""

_ITERATIONS = 10_000
_TOLERANCE = 1e-10


def actions_to_go(
    steps: NDArray[np.float64],
    levels: NDArray[np.float64],
    allowed: BoolArray,
    most: float = math.inf,
) -> NDArray[np.float64]:
    """Compute the mean number of actions to go, (S, A), if all after the first are optimal.

    Args:
        steps: Probabilities of every action and the image after it, (A, S, S).
        levels: Probability of each mask given the state, (S, L).
        allowed: Actions that each mask allows, (L, A).
        most: Larger means count as this; needed where the good state may be out of reach.
    """
    # Value iteration without a discount: it converges because from every state some action
    # leads to the good one, where the costs end.
    onward = onward_steps(steps)
    value = np.zeros(len(levels))
    for _ in range(_ITERATIONS):
        cost = 1 + np.einsum("ast,t->sa", onward, value)
        improved = np.minimum(cheapest(cost, levels, allowed), most)
        if np.abs(improved - value).max() < _TOLERANCE:
            break
        value = improved
    return np.asarray(cost)


def cheapest(
    cost: NDArray[np.float64], levels: NDArray[np.float64], allowed: BoolArray
) -> NDArray[np.float64]:
    """Average over the masks the cost (S, A) of the cheapest allowed action, (S,)."""
    # The minimum within the mean: the mask is known when the action is chosen.
    masked = np.where(allowed[None], cost[:, None, :], np.inf)
    return np.asarray((levels * masked.min(axis=2)).sum(axis=1))


def onward_steps(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Set the probabilities (..., S, S) of transitions that end the episode to 0."""
    return np.asarray(np.where(np.arange(steps.shape[-1]) == GOOD, 0, steps))
