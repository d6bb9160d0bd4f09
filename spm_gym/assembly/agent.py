"""The agent that an autonomous run begins with, or goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from agents.checkpoint import MODEL, latest_checkpoint, load_checkpoint
from agents.double_dqn import DoubleDQN
from agents.weights import load_weights
from spm_gym.assembly.run_directory import CHECKPOINTS
from spm_gym.assembly.shipped_weights import shipped_agent
from spm_gym.config import Config
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import UsageError


class LoadedAgent(NamedTuple):
    """An agent and where it comes from.

    Attributes:
        model: The agent.
        file: Its weights.
        learned: The last decision that it has learned from in this run; None for one from outside.
    """

    model: DoubleDQN
    file: Path
    learned: int | None


def load_agent(config: Config, env: ProbeConditioningEnv, run: Path | None = None) -> LoadedAgent:
    """Load the newest checkpoint of the run, or else the agent of the settings.

    Args:
        config: Settings of the run.
        env: What the agent acts in.
        run: Directory of a run that goes on; None looks at the settings only.

    Raises:
        UsageError: It is not there, or was trained for other images or actions.
    """
    own = None if run is None else latest_checkpoint(run / CHECKPOINTS)
    # A run that goes on does so with what it has learned itself, whatever its settings name by now.
    given = own or config.operation.agent or shipped_agent()
    learned = None
    if given.is_dir():
        path = given if (given / "meta.json").is_file() else latest_checkpoint(given / CHECKPOINTS)
        if path is None:
            raise UsageError(f"setting operation.agent = {given}: there is no checkpoint in it")
        checkpoint = load_checkpoint(path, device=config.agent.device)
        model, file = checkpoint.model, path / MODEL
        # Of another run that number would name a decision of its own journal.
        if own is not None:
            learned = checkpoint.extra.get("learned")
            # A checkpoint of train.py has no such number: its steps are not decisions of this
            # journal.
            if type(learned) is not int:
                raise UsageError(f"{path} is no checkpoint of a run of spm-gym run")
    else:
        names = [action.name for action in config.env.actions]
        model, file = load_weights(given, env, config.agent, names, config.seed), given
    # The number of an action is all that a network knows of it: others would be done in its place.
    if not model.fits(env):
        raise UsageError(f"setting operation.agent = {given}: it was trained for other images or "
                         "actions than these settings have")  # fmt: skip
    return LoadedAgent(model, file, learned)
