"""Training of the belief agent, with its record, its checkpoints and its table."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from tqdm import tqdm

from agents.belief.agent import BeliefAgent
from agents.belief.checkpoint import load_belief_checkpoint, save_belief_checkpoint
from agents.belief.training import BeliefTraining, TrainingStep
from agents.checkpoint import MISFITS, CheckpointError
from agents.summaries import close_logger, training_logger
from agents.training_record import LOG_EVERY, TrainingRecord, is_due
from spm_gym.assembly.belief import new_belief_agent
from spm_gym.assembly.environment import measured
from spm_gym.assembly.pictures.networks import write_table
from spm_gym.assembly.run_directory import CHECKPOINTS, TENSORBOARD, TRANSITIONS
from spm_gym.config import Config
from spm_gym.envs.ground_truth import ImageEnv
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import one_line
from spm_gym.instrument.sim.dynamics import CLASS_NAMES
from spm_gym.plain_state import StateError
from spm_gym.scale import probability_text
from spm_gym.types import Expectation

_EXPLORING = 0x62656C
"""Sets the agent's draws apart from those of the environment with the same seed."""

_RECENT = 20


class BeliefTrainer:
    """Trains a belief agent; fulfils `spm_gym.assembly.training.Trainer`.

    Args:
        config: Settings of the run.
        run: Its directory.
        env: The environment.
        newest: The checkpoint to go on from; None begins with a new agent.

    Raises:
        CheckpointError: The checkpoint does not fit the environment.
        ConfigError: Recogniser or prior do not fit the settings.
    """

    def __init__(
        self, config: Config, run: Path, env: ProbeConditioningEnv, newest: Path | None
    ) -> None:
        self._config, self._run = config, run
        timed = measured(env)
        self._space = cast(spaces.Box, env.observation_space)
        if newest is None:
            rng = np.random.default_rng([_EXPLORING, config.seed])
            self._training = BeliefTraining(new_belief_agent(config, rng), timed, config.seed)
        else:
            self._training = _continued(newest, timed)
        # An action on an instrument costs twenty seconds, a checkpoint some milliseconds: there no
        # kill may cost one.
        real = config.run.microscope == "real"
        self._checkpoint_every = 1 if real else config.run.checkpoint_every

    @property
    def agent(self) -> BeliefAgent:
        """The agent."""
        return self._training.agent

    @property
    def steps(self) -> int:
        """Actions done so far."""
        return self.agent.steps

    def run(self) -> None:
        """Train until there are as many steps as the settings ask for."""
        logger = training_logger(self._run / TENSORBOARD, self._config, self.steps)
        record = TrainingRecord(logger, self.agent.actions)
        steps = self._config.agent.steps
        lengths: deque[int] = deque(maxlen=_RECENT)
        with tqdm(
            total=steps, initial=self.steps, desc="training", unit="action", mininterval=1
        ) as bar:
            while self.steps < steps:
                step = self._training.step()
                if step.ended:
                    lengths.append(step.info["episode"]["l"])
                self._record(record, logger, step)
                if self.steps % self._checkpoint_every == 0:
                    self.keep()
                bar.set_postfix(_postfix(step, lengths), refresh=False)
                bar.update()
        self.keep()
        close_logger(logger)
        write_table(self.agent, self._run / TRANSITIONS)

    def expectation(self, observation: NDArray[np.float32]) -> Expectation:
        """Give what the agent expected when it chose the action under way."""
        return Expectation(forecast=self._training.forecast)

    def keep(self) -> None:
        """Write a checkpoint."""
        save_belief_checkpoint(self._run / CHECKPOINTS, self.agent, self._training.get_state(), {})

    def _record(self, record: TrainingRecord, logger: Logger, step: TrainingStep) -> None:
        record.add([step.action], [step.info], [step.ended])
        number, probability = self.steps, step.info["probability"]
        show_image = is_due(number, self._config.run.image_every)
        if show_image:
            record.record_image(step.observation, self._space, number, probability)
        if not (show_image or is_due(number, LOG_EVERY)):
            return
        record.record_values("actions_to_go", step.forecast.actions_to_go)
        record.record_values("p_good_after", step.forecast.good)
        for name, share in zip(CLASS_NAMES, step.forecast.belief, strict=True):
            logger.record(f"belief/{name}", share)
        record.record_counts([step.info])
        logger.dump(number)


def _continued(checkpoint: Path, env: ImageEnv) -> BeliefTraining:
    kept = load_belief_checkpoint(checkpoint)
    training = BeliefTraining(kept.agent, env, None)
    try:
        if kept.training is None:
            raise StateError("it is not one of a training")
        training.set_state(kept.training)
    except MISFITS as error:
        raise CheckpointError(
            f"{checkpoint} does not fit this program or env: {one_line(error)}"
        ) from error
    return training


def _postfix(step: TrainingStep, lengths: deque[int]) -> dict[str, str]:
    belief = np.array(step.forecast.belief)
    return {
        "length": f"{np.mean(lengths):.1f}" if lengths else "-",
        "p(good)": probability_text(step.info["probability"]),
        "class": f"{CLASS_NAMES[belief.argmax()]} {belief.max():.2f}",
    }
