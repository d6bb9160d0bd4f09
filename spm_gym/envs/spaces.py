"""Spaces of observations and actions: the one place where they are defined."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from spm_gym.config import EnvConfig
from spm_gym.imaging.normalisation import LIMIT


def spaces(
    config: EnvConfig,
) -> tuple[gym.Space[NDArray[np.float32]], gym.Space[np.int64]]:
    """Make the observation space and the action space of one environment."""
    side = config.observed[1]
    images = gym.spaces.Box(-LIMIT, LIMIT, (1, side, side), np.float32)
    return images, MaskableDiscrete(len(config.actions))


class MaskableDiscrete(gym.spaces.Discrete[np.int64]):
    """Gymnasium's `Discrete`, whose ``sample`` also takes masks of bool, as they come with images.

    Its own takes int8 only; a mask of int8 used as an index would choose rows 0 and 1.
    """

    def sample(
        self, mask: NDArray[Any] | None = None, probability: NDArray[Any] | None = None
    ) -> np.int64:
        """Draw an action that the mask allows; without a mask, any."""
        return super().sample(None if mask is None else np.asarray(mask, np.int8), probability)
