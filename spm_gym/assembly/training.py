"""One training run of the agent, from its first step or from its last checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.monitor import Monitor

from agents.checkpoint import MODEL, latest_checkpoint, load_checkpoint, save_checkpoint
from agents.classifier import ProbeClassifier
from agents.double_dqn import DoubleDQN
from agents.monitor import Checkpoints, ProgressBar, TensorBoardMonitor
from agents.summaries import close_logger, training_logger
from agents.weights import save_weights
from spm_gym.assembly.environment import make_env, measured
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.recording import recorded_microscope
from spm_gym.assembly.run_directory import (
    CHECKPOINTS,
    LEARNING_CURVE,
    TENSORBOARD,
    TRAINING,
    write_settings,
)
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import Config, ConfigError
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import InstrumentError, UsageError
from spm_gym.figures.learning_curve import plot_learning_curve
from spm_gym.paths import as_typed
from spm_gym.runner.signals import is_interrupt


def train_agent(config: Config, run: Path, dry_run: bool = False) -> None:
    """Train a new agent for the configured number of steps.

    Args:
        config: Settings of the run.
        run: Its directory.
        dry_run: Whether to show the commands to a real microscope instead of sending them.
    """
    _drive(config, run, lambda env: _new_model(config, env), dry_run=dry_run)


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

    def resumed_model(env: ProbeConditioningEnv) -> DoubleDQN:
        if newest is None:
            return _new_model(config, env)
        model = load_checkpoint(newest, Monitor(measured(env)), config.agent.device).model
        model.config = model.config.model_copy(update={"steps": steps})
        print(f"from step {model.num_timesteps} of {steps}")
        if fresh_area:
            env.enter_fresh_area()
        return model

    weights = None if newest is None else newest / MODEL
    _drive(config, run, resumed_model, weights, resumed=True)


def write_weights(config: Config, run: Path, output: Path) -> None:
    """Write the weights that a finished run has left, for ``spm-gym run --agent``."""
    newest = latest_checkpoint(run / CHECKPOINTS)
    assert newest is not None, "a finished run has a checkpoint"
    names = [action.name for action in config.env.actions]
    save_weights(load_checkpoint(newest).model, names, output)
    print(f"weights: {output}")


def _drive(
    config: Config,
    run: Path,
    make_model: Callable[[ProbeConditioningEnv], DoubleDQN],
    weights: Path | None = None,
    dry_run: bool = False,
    resumed: bool = False,
) -> None:
    prepare_process(config.run.threads)
    if config.agent.parallel:
        print(
            "acting and learning share the time, so another run with this seed will differ; "
            "--reproducible repeats bit for bit"
        )
    model: DoubleDQN | None = None
    try:
        with recorded_microscope(config, run, "train", dry_run, weights, resumed) as instrument:
            model = make_model(make_env(config, instrument=instrument))
            _train(model, config, run)
    except BaseException as error:
        if not isinstance(error, InstrumentError) and not is_interrupt(error):
            raise
        # On an instrument every step is dear, and an episode does not go on anyway: lose none.
        if config.run.microscope == "real" and model is not None and model.num_timesteps:
            assert model.env is not None
            # Map and position as well: without them a resumed run would image places that are used
            # up.
            states = model.env.env_method("get_state")
            save_checkpoint(run / CHECKPOINTS, model, states, {})
            print(f"kept step {model.num_timesteps}: go on with --resume --run-dir {as_typed(run)}")
        raise


def _train(model: DoubleDQN, config: Config, run: Path) -> None:
    logger = training_logger(run / TENSORBOARD, config, model.num_timesteps)
    model.set_logger(logger)
    remaining = config.agent.steps - model.num_timesteps
    if remaining > 0:
        model.learn(
            remaining,
            callback=_callbacks(config, run),
            log_interval=None,
            # True would set the count back to 0, and with it epsilon and the learning rate.
            reset_num_timesteps=model.num_timesteps == 0,
        )
    close_logger(logger)
    plot_learning_curve(run / TENSORBOARD, run / LEARNING_CURVE)
    print(f"trained for {model.num_timesteps} steps: {run}")


def _new_model(config: Config, env: ProbeConditioningEnv) -> DoubleDQN:
    model = DoubleDQN(Monitor(measured(env)), config.agent, seed=config.seed)
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


def _callbacks(config: Config, run: Path) -> CallbackList:
    names = [action.name for action in config.env.actions]
    return CallbackList(
        [
            ProgressBar(),
            TensorBoardMonitor(names, config.run.image_every),
            Checkpoints(run / CHECKPOINTS, config.run.checkpoint_every),
        ]
    )
