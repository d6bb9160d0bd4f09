"""The agent that an evaluation or an autonomous run begins with, or goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.belief.agent import BeliefAgent
from agents.belief.checkpoint import load_belief_checkpoint
from agents.checkpoint import MODEL, kind_of, latest_checkpoint
from agents.double_dqn import DoubleDQN
from agents.double_dqn_checkpoint import load_checkpoint
from agents.weights import load_weights, read_file
from spm_gym.assembly.belief import new_belief_agent
from spm_gym.assembly.run_directory import CHECKPOINTS, checkpoint_settings
from spm_gym.assembly.shipped_weights import shipped_agent, shipped_recogniser
from spm_gym.config import Config, ConfigError
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import UsageError
from spm_gym.imaging.conditions import kind_of_scale_mismatch
from spm_gym.imaging.image_size import averaging_hint, observation_settings
from spm_gym.imaging.normalisation import HeightScale
from spm_gym.imaging.preprocessing import Preprocessing

Agent = DoubleDQN | BeliefAgent

_EXPLORING = 0x6F70
"""Sets the draws of a new belief agent apart from those of the run with the same seed."""


class LoadedAgent(NamedTuple):
    """An agent and where it comes from.

    Attributes:
        model: The agent.
        file: Its weights.
        learned: The last decision that it has learned from in this run; None for one from outside.
        episode: Episode of that decision, if the agent has to know.
    """

    model: Agent
    file: Path
    learned: int | None = None
    episode: int | None = None


def load_agent(config: Config, env: ProbeConditioningEnv, run: Path | None = None) -> LoadedAgent:
    """Load the newest checkpoint of the run, or else the agent of the settings.

    Args:
        config: Settings of the run.
        env: What the agent acts in.
        run: Directory of a run that goes on; None looks at the settings only.

    Raises:
        ConfigError: The recogniser or the prior of a new belief agent do not fit the settings.
        UsageError: It is not there, or was trained for other images or actions.
    """
    own = None if run is None else latest_checkpoint(run / CHECKPOINTS)
    # A run that goes on does so with what it has learned itself, whatever its settings name by now.
    given = own or config.operation.agent
    if given is None and config.agent.kind == "belief":
        rng = np.random.default_rng([_EXPLORING, config.seed])
        recogniser = config.agent.belief.recogniser or shipped_recogniser()
        return LoadedAgent(new_belief_agent(config, rng), recogniser)
    given = given or shipped_agent()
    learned = episode = None
    if given.is_dir():
        path = given if (given / "meta.json").is_file() else latest_checkpoint(given / CHECKPOINTS)
        if path is None:
            raise UsageError(f"setting operation.agent = {given}: there is no checkpoint in it")
        model, extra = read_agent(path, config.agent.device)
        scale = trained_scale(model, path)
        file = path / MODEL
        # Of another run that number would name a decision of its own journal.
        if own is not None:
            learned, episode = extra.get("learned"), extra.get("episode")
            # A checkpoint of train.py has no such number: its steps are not decisions of this
            # journal.
            if type(learned) is not int:
                raise UsageError(f"{path} is no checkpoint of a run of spm-gym run")
    else:
        names = [action.name for action in config.env.actions]
        model, file = load_weights(given, env, config.agent, names, config.seed), given
        scale = read_file(given)[0].height_scale
    # The number of an action is all that a network knows of it: others would be done in its place.
    if misfit := why_not(model, scale, config.model_copy(update={"env": env.config})):
        raise UsageError(f"setting operation.agent = {given}: {misfit}")
    return LoadedAgent(model, file, learned, episode)


def read_agent(checkpoint: Path, device: str = "auto") -> tuple[Agent, dict[str, Any]]:
    """Read the agent of a checkpoint, of whatever kind it is, and what else was kept with it.

    Raises:
        CheckpointError: It is missing, damaged or foreign.
    """
    if kind_of(checkpoint) == "belief":
        belief = load_belief_checkpoint(checkpoint)
        return belief.agent, belief.extra
    kept = load_checkpoint(checkpoint, device=device)
    return kept.model, kept.extra


def trained_scale(agent: Agent, checkpoint: Path) -> HeightScale | None:
    """Find out the height scale that the agent of a checkpoint was trained with; None: unknown."""
    if isinstance(agent, BeliefAgent):
        return agent.recogniser.height_scale
    try:
        settings = checkpoint_settings(checkpoint)
    except ConfigError:  # of another version of this program
        return None
    return None if settings is None else Preprocessing.of(settings.env).scale


def why_not(agent: Agent, scale: HeightScale | None, config: Config) -> str | None:
    """Say in which images or actions an agent differs from the settings; None if in none."""
    if scale is not None and (why := kind_of_scale_mismatch(scale, config.env)):
        return f"it {why}; accept it by name (env.accept_mismatch: [height_scale]), or use another"
    names = [action.name for action in config.env.actions]
    if isinstance(agent, BeliefAgent):
        given, count = agent.pixels, len(agent.actions)
        # It knows its actions by name, and the double DQN by their number alone.
        if list(agent.actions) != names:
            return f"it has learned the actions {', '.join(agent.actions)}, and no others"
    else:
        given, count = agent.pixels, int(agent.action_space.n)  # type: ignore[attr-defined]
    side = config.env.observed[1]
    if (given, count) == (side, len(names)):
        return None
    return (
        f"it was trained with images of {given} px and {count} actions, the settings have "
        f"observations of {side} px ({observation_settings(config.env)}) and {len(names)} "
        f"env.actions: give those it was trained with{averaging_hint(config.env, given)}"
    )
