"""Training of the double DQN by stable-baselines3, with its callbacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.monitor import Monitor

from agents.checkpoint import latest_checkpoint
from agents.classifier import ProbeClassifier
from agents.double_dqn import DoubleDQN
from agents.double_dqn_checkpoint import load_checkpoint, save_checkpoint
from agents.monitor import Checkpoints, ProgressBar, TensorBoardMonitor
from agents.summaries import close_logger, training_logger
from agents.weights import save_weights
from spm_gym.assembly.environment import measured
from spm_gym.assembly.run_directory import CHECKPOINTS, TENSORBOARD
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import Config, ConfigError
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.types import Expectation


class DoubleDQNTrainer:
    """Trains a double DQN; fulfils `spm_gym.assembly.training.Trainer`.

    Args:
        config: Settings of the run.
        run: Its directory.
        env: The environment.
        newest: The checkpoint to go on from; None begins with a new agent.
    """

    def __init__(
        self, config: Config, run: Path, env: ProbeConditioningEnv, newest: Path | None
    ) -> None:
        self._config, self._run = config, run
        if config.agent.parallel:
            print(
                "acting and learning share the time, so another run with this seed will differ; "
                "--reproducible repeats bit for bit"
            )
        monitored = Monitor(measured(env))
        if newest is None:
            self.model = new_double_dqn(config, monitored)
        else:
            self.model = load_checkpoint(newest, monitored, config.agent.device).model
            steps = {"steps": config.agent.steps}
            self.model.config = self.model.config.model_copy(update=steps)

    @property
    def steps(self) -> int:
        """Actions done so far."""
        return self.model.num_timesteps

    def run(self) -> None:
        """Train until there are as many steps as the settings ask for."""
        logger = training_logger(self._run / TENSORBOARD, self._config, self.steps)
        self.model.set_logger(logger)
        remaining = self._config.agent.steps - self.steps
        if remaining > 0:
            self.model.learn(
                remaining,
                callback=self._callbacks(),
                log_interval=None,
                # True would set the count back to 0, and with it epsilon and the learning rate.
                reset_num_timesteps=self.steps == 0,
            )
        if not self.steps:
            self.keep()
        close_logger(logger)

    def expectation(self, observation: NDArray[np.float32]) -> Expectation:
        """Give the agent's values of the actions."""
        return Expectation(tuple(map(float, self.model.q_values(observation))))

    def keep(self) -> None:
        """Write a checkpoint."""
        assert self.model.env is not None
        # Map and position as well: without them a resumed run would image places that are used up.
        states = self.model.env.env_method("get_state")
        save_checkpoint(self._run / CHECKPOINTS, self.model, states, {})

    def _callbacks(self) -> CallbackList:
        names = [action.name for action in self._config.env.actions]
        run = self._config.run
        return CallbackList(
            [
                ProgressBar(),
                TensorBoardMonitor(names, run.image_every),
                Checkpoints(self._run / CHECKPOINTS, run.checkpoint_every),
            ]
        )


def write_weights(config: Config, run: Path, output: Path) -> None:
    """Write the weights that a finished run has left, for ``spm-gym run --agent``."""
    newest = latest_checkpoint(run / CHECKPOINTS)
    assert newest is not None, "a finished run has a checkpoint"
    names = [action.name for action in config.env.actions]
    scale = Preprocessing.of(config.env).scale
    save_weights(load_checkpoint(newest).model, names, output, scale)
    print(f"weights: {output}")


def new_double_dqn(config: Config, env: gym.Env[Any, Any]) -> DoubleDQN:
    """Build a double DQN that has not learned anything yet but to see.

    Args:
        config: Settings of agent and classifier, and the seed.
        env: What it is to learn in.

    Raises:
        ConfigError: The classifier is of another network.
    """
    model = DoubleDQN(env, config.agent, seed=config.seed)
    if config.agent.from_classifier:
        path = config.env.classifier or shipped_classifier()
        try:
            model.initialise_from(ProbeClassifier.load(path).network)
        except ValueError as error:
            raise ConfigError(
                f"setting agent.from_classifier = True: {error}; train a classifier of the same "
                "network (train.py classifier --config ... --output FILE) and name it in "
                "env.classifier, or set agent.from_classifier=false"
            ) from error
    return model
