"""Callbacks that show the progress of a training run and write its checkpoints."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Image
from tqdm import tqdm

from agents.checkpoint import save_checkpoint
from agents.double_dqn import DoubleDQN
from agents.summaries import captioned

LOG_EVERY = 50
"""Steps between two sets of scalars."""

_HOUR = 3600
_HISTOGRAM_VALUES = 50_000
_TENSORBOARD_ONLY = ("stdout", "log", "json", "csv")


class ProgressBar(BaseCallback):
    """One line: steps, mean episode length, classifier's probability, epsilon, learning rate."""

    model: DoubleDQN

    def __init__(self) -> None:
        super().__init__()
        self._lengths: deque[int] = deque(maxlen=20)

    def _on_training_start(self) -> None:
        self._bar = tqdm(
            total=self.model._total_timesteps,
            initial=self.model.num_timesteps,
            desc="training",
            unit="step",
            mininterval=1,
        )

    def _on_step(self) -> bool:
        infos: list[dict[str, Any]] = self.locals["infos"]
        self._lengths.extend(info["episode"]["l"] for info in infos if "episode" in info)
        postfix = {
            "length": f"{np.mean(self._lengths):.1f}" if self._lengths else "-",
            "p(good)": f"{infos[0].get('probability', np.nan):.2f}",
            "epsilon": f"{self.model.exploration_rate:.2f}",
            "rate": f"{self.model.policy.optimizer.param_groups[0]['lr']:.1e}",
        }
        self._bar.set_postfix(postfix, refresh=False)
        self._bar.update(len(infos))
        return True

    def _on_training_end(self) -> None:
        self._bar.close()


class TensorBoardMonitor(BaseCallback):
    """Writes scalars, images and histograms; ask `learn` for ``log_interval=None`` beside it.

    The glossary of metrics in the documentation lists them.

    Args:
        action_names: In the order of the actions.
        image_every: Steps between two images, with histograms of values and weights.
    """

    model: DoubleDQN

    def __init__(self, action_names: Sequence[str], image_every: int) -> None:
        super().__init__()
        self._names = tuple(action_names)
        self._image_every = image_every
        self._chosen: Counter[int] = Counter()

    def _on_step(self) -> bool:
        self._chosen.update(int(action) for action in self.locals["actions"])
        for info, done in zip(self.locals["infos"], self.locals["dones"], strict=True):
            if "episode" in info:
                self.logger.record_mean("episode/length", info["episode"]["l"])
                self.logger.record_mean("episode/return", info["episode"]["r"])
            if done:
                self.logger.record_mean("episode/success", not info["TimeLimit.truncated"])
                if "episode_seconds" in info:
                    self.logger.record_mean("episode/seconds", info["episode_seconds"])
                if "truly_good" in info:
                    self.logger.record_mean("episode/truly_good", info["truly_good"])
        show_image = self._is_due(self._image_every)
        if show_image:
            self._record_image()
        if show_image or self._is_due(LOG_EVERY):
            self._record_scalars()
            self.logger.dump(self.num_timesteps)
        return True

    def _is_due(self, every: int) -> bool:
        # The count grows by the number of environments and may jump over a multiple.
        return self.num_timesteps % every < self.training_env.num_envs

    def _record_scalars(self) -> None:
        self.logger.record("explore/epsilon", self.model.exploration_rate)
        values = self.model.q_values(self.locals["new_obs"][0])
        for index, name in enumerate(self._names):
            self.logger.record(f"q/{name}", float(values[index]))
            self.logger.record(f"actions/{name}", self._chosen[index])
        self._chosen.clear()
        # Beside every other value, so that any curve can be drawn over it instead of the steps.
        seconds = [info.get("instrument_seconds") for info in self.locals["infos"]]
        if None not in seconds:
            self.logger.record("progress/hours", sum(seconds) / _HOUR)

    def _record_image(self) -> None:
        info = self.locals["infos"][0]
        # At the end of an episode ``new_obs`` is already the first image of the next one.
        image = info.get("terminal_observation", self.locals["new_obs"][0])
        space = self.model.observation_space
        assert isinstance(space, spaces.Box)
        low, high = space.low.min(), space.high.max()
        grey = np.clip((image - low) / (high - low), 0, 1)
        probability = info.get("probability", np.nan)
        caption = f"step {self.num_timesteps}: p = {probability:.3f}"
        picture = captioned(np.rint(grey[0] * 255).astype(np.uint8), caption)
        figures: dict[str, Any] = {
            "observation/image": Image(picture, "HW"),
            "histogram/q": self.model.q_values(image),
        }
        for name, weights in self.model.weights(_HISTOGRAM_VALUES).items():
            figures[f"histogram/{name}"] = weights
        for name, value in figures.items():
            self.logger.record(name, value, exclude=_TENSORBOARD_ONLY)


class Checkpoints(BaseCallback):
    """Writes a checkpoint every so many steps and at the end of `learn`.

    Args:
        directory: Where they go.
        every: Steps between two.
        extra: Gives all else that the run needs to continue.
        env_state: Gives the states of the environments; None asks them with ``get_state()``.
    """

    model: DoubleDQN

    def __init__(
        self,
        directory: Path,
        every: int,
        extra: Callable[[], dict[str, Any]] = dict,
        env_state: Callable[[], Sequence[Any] | None] | None = None,
    ) -> None:
        super().__init__()
        self._directory = directory
        self._every = every
        self._extra = extra
        self._env_state = env_state

    def _on_training_start(self) -> None:
        self._written = self.model.num_timesteps

    def _on_rollout_start(self) -> None:
        """Write a checkpoint if one is due."""
        # Between two steps: within `_on_step` the step is not in the replay buffer yet.
        # Crossed, not hit: several environments count several steps at a time.
        if self.model.num_timesteps // self._every > self._written // self._every:
            self._write()

    def _on_training_end(self) -> None:
        if self.model.num_timesteps > self._written:
            self._write()

    def _on_step(self) -> bool:
        return True

    def _write(self) -> None:
        ask = self._env_state or (lambda: self.training_env.env_method("get_state"))
        save_checkpoint(self._directory, self.model, ask(), self._extra())
        self._written = self.model.num_timesteps
