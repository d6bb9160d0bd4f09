"""Choices and targets of Q-learning, restricted to the actions that a mask allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spm_gym.types import BoolArray


def double_q_target(
    online_next: Tensor,
    target_next: Tensor,
    mask_next: Tensor,
    rewards: Tensor,
    dones: Tensor,
    gamma: float,
) -> Tensor:
    """Compute the target r + gamma Q_target(s', argmax over allowed a' of Q_online(s', a')).

    Source: van Hasselt, Guez, Silver, AAAI 2016, with the argmax restricted to allowed actions.

    Args:
        online_next: Online network's values of the next states, (N, A).
        target_next: Target network's values of the next states, (N, A).
        mask_next: Actions allowed in the next states, (N, A) bool; ignored where terminal.
        rewards: (N, 1).
        dones: (N, 1); 1 where the next state is terminal, 0 where it is not or was cut off.
        gamma: Discount per step.

    Returns:
        Targets, (N, 1).
    """
    # Choosing by one network and valuing by the other removes the upward bias of the maximum of
    # noisy values. Where nothing is allowed the state is terminal, and the target ignores it.
    best = online_next.masked_fill(~mask_next, -math.inf).argmax(dim=1, keepdim=True)
    return rewards + (1 - dones) * gamma * target_next.gather(1, best)


def epsilon_greedy(
    evaluate: Callable[[], NDArray[np.float32]],
    masks: BoolArray,
    epsilon: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Choose the best allowed action of every row or, with probability epsilon, a random one.

    Args:
        evaluate: Gives the values (N, A); called only if an action depends on them.
        masks: (N, A).
        epsilon: Nothing is drawn if it is 0.
        rng: Of the random actions.

    Raises:
        ValueError: A row allows nothing.
    """
    count = len(masks)
    random = rng.random(count) < epsilon if epsilon else np.zeros(count, bool)
    # Random scores instead of random indices: their masked argmax is uniform over what is allowed.
    scores = rng.random(masks.shape) if random.any() else np.zeros(masks.shape)
    if not random.all():
        scores = np.where(random[:, None], scores, evaluate())
    return masked_argmax(scores, masks)


def masked_argmax(values: NDArray[Any], masks: BoolArray) -> NDArray[np.int64]:
    """Find the index of the largest allowed value in every row.

    Args:
        values: (N, A).
        masks: (N, A).

    Raises:
        ValueError: A row allows nothing.
    """
    if not masks.any(axis=1).all():
        raise ValueError("the action mask allows no action at all")
    best: NDArray[np.int64] = np.where(masks, values, -np.inf).argmax(axis=1)
    return best
