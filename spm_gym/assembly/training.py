"""One training run of an agent, from its first step or from its last checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agents.checkpoint import MODEL, latest_checkpoint
from spm_gym.assembly.belief_training import BeliefTrainer
from spm_gym.assembly.double_dqn_training import DoubleDQNTrainer
from spm_gym.assembly.environment import make_env
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.recording import recorded_microscope
from spm_gym.assembly.run_directory import (
    CHECKPOINTS,
    LEARNING_CURVE,
    TENSORBOARD,
    TRAINING,
    write_settings,
)
from spm_gym.config import Config
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import InstrumentError, UsageError
from spm_gym.figures.learning_curve import plot_learning_curve
from spm_gym.paths import as_typed
from spm_gym.runner.signals import is_interrupt
from spm_gym.types import Expectation


class Trainer(Protocol):
    """Trains one kind of agent on an environment."""

    @property
    def steps(self) -> int:
        """Actions done so far."""
        ...

    def run(self) -> None:
        """Train until there are as many as the settings ask for, and write the last checkpoint."""
        ...

    def expectation(self, observation: NDArray[np.float32]) -> Expectation:
        """Give what the agent expects of the action that it has just chosen for an image."""
        ...

    def keep(self) -> None:
        """Write a checkpoint of what there is, after an error between or in the steps."""
        ...


def train_agent(config: Config, run: Path, dry_run: bool = False) -> None:
    """Train a new agent for the configured number of steps.

    Args:
        config: Settings of the run.
        run: Its directory.
        dry_run: Whether to show the commands to a real microscope instead of sending them.
    """
    _drive(config, run, dry_run=dry_run)


def resume_agent(config: Config, run: Path, fresh_area: bool = False) -> None:
    """Continue from the newest checkpoint of a run, or from the start if it has none.

    Args:
        config: Settings of the run; more steps than it had make it longer.
        run: Its directory.
        fresh_area: Whether the microscope has been moved to a fresh approach area by hand.

    Raises:
        UsageError: It has fewer steps than were done already.
    """
    newest = latest_checkpoint(run / CHECKPOINTS)
    steps = config.agent.steps
    done = 0 if newest is None else int(newest.name.removeprefix("step_"))
    if steps < done:
        raise UsageError(
            f"--steps {steps}: {run} has done {done} already; name more to train it on"
        )
    # Before training: the new length is what the schedules follow, also after the next kill.
    write_settings(run / TRAINING, config)
    _drive(config, run, newest, resumed=True, fresh_area=fresh_area)


def _drive(
    config: Config,
    run: Path,
    newest: Path | None = None,
    dry_run: bool = False,
    resumed: bool = False,
    fresh_area: bool = False,
) -> None:
    prepare_process(config.run.threads)
    trainer: Trainer | None = None
    weights = None if newest is None else newest / MODEL
    try:
        with recorded_microscope(config, run, "train", dry_run, weights, resumed) as recorded:
            env = make_env(config, instrument=recorded.instrument)
            trainer = _trainer(config, run, env, newest)
            if newest is not None:
                print(f"from step {trainer.steps} of {config.agent.steps}")
            if fresh_area:
                env.enter_fresh_area()
            if (recorder := recorded.recorder) is not None:
                recorder.expectation = trainer.expectation
                recorder.follow(env, trainer.steps)
                if fresh_area:
                    recorder.enter_fresh_area()
            trainer.run()
        plot_learning_curve(run / TENSORBOARD, run / LEARNING_CURVE)
        print(f"trained for {trainer.steps} steps: {run}")
    except BaseException as error:
        if not isinstance(error, InstrumentError) and not is_interrupt(error):
            raise
        # On an instrument every step is dear, and an episode does not go on anyway: lose none.
        if config.run.microscope == "real" and trainer is not None and trainer.steps:
            trainer.keep()
            print(f"kept step {trainer.steps}: go on with --resume --run-dir {as_typed(run)}")
        raise


def _trainer(config: Config, run: Path, env: ProbeConditioningEnv, newest: Path | None) -> Trainer:
    if config.agent.kind == "belief":
        return BeliefTrainer(config, run, env, newest)
    return DoubleDQNTrainer(config, run, env, newest)
