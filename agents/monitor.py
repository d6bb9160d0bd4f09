"""Callbacks that show the progress of a training run and write its checkpoints."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from agents.double_dqn import DoubleDQN
from agents.double_dqn_checkpoint import save_checkpoint
from agents.training_record import LOG_EVERY, TENSORBOARD_ONLY, TrainingRecord, is_due
from spm_gym.scale import probability_text

_HISTOGRAM_VALUES = 50_000


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
            "p(good)": probability_text(infos[0].get("probability", np.nan)),
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

    def _on_training_start(self) -> None:
        self._record = TrainingRecord(self.logger, self._names)

    def _on_step(self) -> bool:
        self._record.add(self.locals["actions"], self.locals["infos"], self.locals["dones"])
        step, stride = self.num_timesteps, self.training_env.num_envs
        show_image = is_due(step, self._image_every, stride)
        if show_image:
            self._record_image()
        if show_image or is_due(step, LOG_EVERY, stride):
            self._record_scalars()
            self.logger.dump(step)
        return True

    def _record_scalars(self) -> None:
        self.logger.record("explore/epsilon", self.model.exploration_rate)
        self._record.record_values("q", self.model.q_values(self.locals["new_obs"][0]))
        self._record.record_counts(self.locals["infos"])

    def _record_image(self) -> None:
        info = self.locals["infos"][0]
        # At the end of an episode ``new_obs`` is already the first image of the next one.
        image = info.get("terminal_observation", self.locals["new_obs"][0])
        space = self.model.observation_space
        assert isinstance(space, spaces.Box)
        probability = info.get("probability", np.nan)
        self._record.record_image(image, space, self.num_timesteps, probability)
        figures: dict[str, Any] = {"histogram/q": self.model.q_values(image)}
        for name, weights in self.model.weights(_HISTOGRAM_VALUES).items():
            figures[f"histogram/{name}"] = weights
        for name, value in figures.items():
            self.logger.record(name, value, exclude=TENSORBOARD_ONLY)


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
