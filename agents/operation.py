"""Policies of an autonomous run: an agent that may go on learning, random choice, or both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor

from agents.baselines import RandomPolicy
from agents.checkpoint import save_checkpoint
from agents.double_dqn import DoubleDQN
from agents.vgg import VGG, check_finite_output, check_fit
from spm_gym.atomic_file import written_whole
from spm_gym.config import AgentConfig, NetworkConfig
from spm_gym.config.json_file import parse_json
from spm_gym.plain_state import StateError, restore_generator, restored
from spm_gym.types import BoolArray, Decision, Transition

FORMAT = "spm-gym agent 1"
Observation = NDArray[np.float32]


class AgentFileError(ValueError):
    """A file of an agent's weights does not fit; the message says why."""


@dataclass(frozen=True, slots=True)
class About:
    """What a file of an agent's weights says of itself.

    Attributes:
        format: `FORMAT`.
        network: What the weights belong to.
        actions: Names of those that it chooses among.
        pixels: Side of the images that it takes.
        steps: Actions that it was trained for.
    """

    format: str
    network: NetworkConfig
    actions: tuple[str, ...]
    pixels: Annotated[int, Field(ge=1)]
    steps: Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class _Both:
    """What `InterleavedPolicy.get_state` gives."""

    agent: dict[str, Any]
    random: dict[str, Any]


class AgentPolicy:
    """A trained agent at its final epsilon; greedy if it does not learn.

    Args:
        model: The agent.
        checkpoints: Where its checkpoints go.
        learns: Whether it goes on learning.
    """

    def __init__(self, model: DoubleDQN, checkpoints: Path, learns: bool) -> None:
        self.model = model
        self._checkpoints = checkpoints
        self._learns = learns
        model.exploration_rate = model.config.epsilon_end
        if learns:
            model.rehearse()

    def choose(self, observation: Observation, mask: BoolArray, episode: int) -> Decision:
        """Choose an allowed action for an image (1, H, W)."""
        action, values = self.model.decide(observation, mask, deterministic=not self._learns)
        return Decision(action, "agent", tuple(map(float, values)))

    def learn(self, transition: Transition) -> None:
        """Learn from one step; the gradient steps due are done at once."""
        self.model.learn_from(transition)

    def save(self, learned: int) -> None:
        """Write a checkpoint; the last decision that was learned from has this number."""
        save_checkpoint(self._checkpoints, self.model, None, {"learned": learned})

    def get_state(self) -> dict[str, Any]:
        """State of the generator of random actions."""
        return self.model.exploration_state

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave."""
        self.model.exploration_state = state


class RandomRunPolicy:
    """Every allowed action is equally likely."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._policy = RandomPolicy(rng)

    def choose(self, observation: Observation, mask: BoolArray, episode: int) -> Decision:
        """Draw an allowed action."""
        action, _ = self._policy.predict(observation, action_masks=mask)
        return Decision(int(action), "random")

    def learn(self, transition: Transition) -> None:
        """Do nothing: random choice does not learn."""

    def save(self, learned: int) -> None:
        """Do nothing."""

    def get_state(self) -> dict[str, Any]:
        """State of the generator."""
        return dict(self._rng.bit_generator.state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave."""
        restore_generator(self._rng, state)


class InterleavedPolicy:
    """Agent and random policy take turns: episodes with odd numbers are the agent's.

    The agent learns from both, as it may: its replay buffer does not ask who has chosen.

    Args:
        agent: Begins.
        random: Comes second.
    """

    def __init__(self, agent: AgentPolicy, random: RandomRunPolicy) -> None:
        self.agent = agent
        self.random = random

    def choose(self, observation: Observation, mask: BoolArray, episode: int) -> Decision:
        """Let the policy choose whose episode it is."""
        policy = self.agent if episode % 2 else self.random
        return policy.choose(observation, mask, episode)

    def learn(self, transition: Transition) -> None:
        """Let the agent learn from one step, also from one of the random policy."""
        self.agent.learn(transition)

    def save(self, learned: int) -> None:
        """Write a checkpoint of the agent; the last decision learned from has this number."""
        self.agent.save(learned)

    def get_state(self) -> dict[str, Any]:
        """States of both."""
        return {"agent": self.agent.get_state(), "random": self.random.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave."""
        both = restored(_Both, state)
        self.agent.set_state(both.agent)
        self.random.set_state(both.random)


def save_weights(model: DoubleDQN, actions: Sequence[str], path: Path) -> None:
    """Write the weights of a trained agent, and what they belong to; whole or not at all."""
    network = model.config.network
    about = {
        "format": FORMAT,
        "network": network.model_dump(mode="json"),
        "actions": list(actions),
        "pixels": model.pixels,
        "steps": model.num_timesteps,
    }
    state = {key: value.contiguous() for key, value in model.q_net.state_dict().items()}
    with written_whole(path) as beside:
        beside.write_bytes(save(state, metadata={"about": json.dumps(about)}))


def format_of_file(path: Path) -> str:
    """What a file of weights says it is; empty if it says nothing.

    Raises:
        AgentFileError: It cannot be read.
    """
    return str(_read(path, weights=False)[0].get("format", ""))


def read_file(path: Path) -> tuple[About, dict[str, Tensor]]:
    """What a file of `save_weights` says of itself, and its weights.

    Raises:
        AgentFileError: Unreadable, or another kind of file.
    """
    about, state = _read(path, weights=True)
    if "format" not in about:
        raise AgentFileError(
            f"{path} is not an agent written by this project: it does not say what it is"
        )
    if about["format"] != FORMAT:
        raise AgentFileError(f"{path} has the format {about['format']!r}, not {FORMAT!r}")
    try:
        return restored(About, about), state
    except StateError as error:
        raise AgentFileError(f"{path} is not an agent written by this project: {error}") from error


def weights_network(path: Path, about: About, state: dict[str, Tensor]) -> VGG:
    """The network of a file of weights.

    Raises:
        AgentFileError: The weights are not those of the network that it tells of.
    """
    weights = {key.removeprefix("q_net."): value for key, value in state.items()}
    try:
        return VGG.of_file(about.network, len(about.actions), about.pixels, weights)
    except ValueError as error:
        raise AgentFileError(f"{path} is not an agent written by this project: {error}") from error


def _read(path: Path, weights: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = parse_json((file.metadata() or {}).get("about", "{}"))
            keys = file.keys() if weights else ()
            state = {key: file.get_tensor(key) for key in keys}
    except (OSError, RecursionError, SafetensorError, ValueError) as error:
        raise AgentFileError(
            f"{path} is not a file of weights, and so not an agent: {error}"
        ) from error
    return dict(about) if isinstance(about, dict) else {}, state


def load_weights(
    path: Path, env: GymEnv, config: AgentConfig, actions: Sequence[str], seed: int
) -> DoubleDQN:
    """Build an agent with these weights, at the end of its training schedules.

    Args:
        path: What `save_weights` wrote.
        env: Where it will act.
        config: How it goes on learning; the network must be that of the file.
        actions: Names of the environment's actions.
        seed: Of its further random choices.

    Raises:
        AgentFileError: Unreadable, for another network or other actions, or not finite.
    """
    model = DoubleDQN(env, config, seed=seed)
    about, state = read_file(path)
    wanted = {"network": config.network, "actions": tuple(actions), "pixels": model.pixels}
    for name, value in wanted.items():
        if (other := getattr(about, name)) != value:
            raise AgentFileError(
                f"the agent {path} has {name} {other}, the settings have {value}: train "
                "one with these settings (train.py) and name its run with --agent, or use "
                "--policy random"
            )
    try:
        check_fit(model.q_net, state)
    except ValueError as error:
        raise AgentFileError(f"{path} is not an agent written by this project: {error}") from error
    model.q_net.load_state_dict(state)
    model.q_net_target.load_state_dict(state)
    check_finite_output(
        model.q_net, model.pixels, lambda why: AgentFileError(f"the agent {path} is broken: {why}")
    )
    model.skip_training()
    return model
