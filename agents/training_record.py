"""Values that training of any agent reports to a logger of stable-baselines3.

The glossary of metrics in the documentation lists the tags.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.logger import Image, Logger

from agents.summaries import captioned
from spm_gym.scale import probability_text

LOG_EVERY = 50
"""Steps between two sets of scalars."""

TENSORBOARD_ONLY = ("stdout", "log", "json", "csv")
_HOUR = 3600


class TrainingRecord:
    """Records episodes, chosen actions and instrument time; the caller dumps the logger.

    Args:
        logger: Of the run.
        action_names: In the order of the actions.
    """

    def __init__(self, logger: Logger, action_names: Sequence[str]) -> None:
        self._logger = logger
        self._names = tuple(action_names)
        self._chosen: Counter[int] = Counter()

    def add(
        self,
        actions: Iterable[np.integer[Any] | int],
        infos: Sequence[Mapping[str, Any]],
        ended: Iterable[bool],
    ) -> None:
        """Record one step of every environment; infos as stable-baselines3's `Monitor` has them."""
        self._chosen.update(int(action) for action in actions)
        record = self._logger.record_mean
        for info, done in zip(infos, ended, strict=True):
            if "unknown" in info:
                record("image/unknown", info["unknown"])
            if "episode" in info:
                record("episode/length", info["episode"]["l"])
                record("episode/return", info["episode"]["r"])
            if done:
                record("episode/success", not info["TimeLimit.truncated"])
                if "episode_seconds" in info:
                    record("episode/seconds", info["episode_seconds"])
                if "truly_good" in info:
                    record("episode/truly_good", info["truly_good"])

    def record_counts(self, infos: Sequence[Mapping[str, Any]]) -> None:
        """Record how often each action was chosen since the last time, and the hours spent."""
        for index, name in enumerate(self._names):
            self._logger.record(f"actions/{name}", self._chosen[index])
        self._chosen.clear()
        # Beside every other value, so that any curve can be drawn over it instead of the steps.
        seconds = [info["instrument_seconds"] for info in infos if "instrument_seconds" in info]
        if len(seconds) == len(infos):
            self._logger.record("progress/hours", sum(seconds) / _HOUR)

    def record_values(self, prefix: str, values: Sequence[float] | NDArray[np.float32]) -> None:
        """Record a value of every action."""
        for name, value in zip(self._names, values, strict=True):
            self._logger.record(f"{prefix}/{name}", float(value))

    def record_image(
        self, image: NDArray[np.float32], space: spaces.Box, step: int, probability: float
    ) -> None:
        """Record an image (1, H, W) with its probability of a good probe; NaN: unknown."""
        low, high = space.low.min(), space.high.max()
        grey = np.clip((image - low) / (high - low), 0, 1)
        caption = f"step {step}: p = {probability_text(probability)}"
        picture = captioned(np.rint(grey[0] * 255).astype(np.uint8), caption)
        self._logger.record("observation/image", Image(picture, "HW"), exclude=TENSORBOARD_ONLY)


def is_due(step: int, every: int, stride: int = 1) -> bool:
    """Whether a step is one of every so many, if they are counted ``stride`` at a time."""
    # The count grows by the number of environments and may jump over a multiple.
    return step % every < stride
