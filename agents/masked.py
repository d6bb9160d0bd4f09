"""Q-values restricted to the actions that a mask allows."""

from __future__ import annotations

import math
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
    """What Q(s, a) should be: r + gamma Q_target(s', argmax over allowed a' of Q_online(s', a')).

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
    best = online_next.masked_fill(~mask_next, -math.inf).argmax(dim=1, keepdim=True)
    return rewards + (1 - dones) * gamma * target_next.gather(1, best)


def masked_argmax(values: NDArray[Any], masks: BoolArray) -> NDArray[np.int64]:
    """Index of the largest allowed value in every row.

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
