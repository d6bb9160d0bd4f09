"""Policies of an autonomous run: an agent that may go on learning, random choice, or both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.baselines import RandomPolicy
from agents.checkpoint import save_checkpoint
from agents.double_dqn import DoubleDQN
from spm_gym.plain_state import restore_generator, restored
from spm_gym.types import BoolArray, Decision, Transition

Observation = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _InterleavedState:
    """State of an `InterleavedPolicy`."""

    agent: dict[str, Any]
    random: dict[str, Any]


class AgentPolicy:
    """A trained agent: at its final epsilon if it goes on learning, otherwise greedy.

    Args:
        model: The agent.
        checkpoints: Directory of its checkpoints.
        learns: Whether it goes on learning.
    """

    def __init__(self, model: DoubleDQN, checkpoints: Path, learns: bool) -> None:
        self.model = model
        self._checkpoints = checkpoints
        self._learns = learns
        # Training may have ended before its schedule; a run explores no more than at its end.
        model.exploration_rate = model.config.epsilon_end
        if learns:
            # Memory that learning needs is taken, or refused, before the run starts to move a tip.
            model.rehearse()

    def choose(self, observation: Observation, mask: BoolArray, episode: int) -> Decision:
        """Choose an allowed action for an image (1, H, W)."""
        action, values = self.model.decide(observation, mask, deterministic=not self._learns)
        return Decision(action, "agent", tuple(map(float, values)))

    def learn(self, transition: Transition) -> None:
        """Learn from one step; the gradient steps due are done at once."""
        self.model.learn_from(transition)

    def save(self, learned: int) -> None:
        """Write a checkpoint after learning from the decision of this number."""
        save_checkpoint(self._checkpoints, self.model, None, {"learned": learned})

    def get_state(self) -> dict[str, Any]:
        """State of the generator of random actions."""
        return self.model.exploration_state

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from the state that `get_state` gave."""
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
        """Continue from the state that `get_state` gave."""
        restore_generator(self._rng, state)


class InterleavedPolicy:
    """Agent and random policy take turns: episodes with odd numbers are the agent's.

    The agent learns from both: Q-learning is off-policy, so it does not matter who has chosen.

    Args:
        agent: Has the first episode.
        random: Has the second.
    """

    def __init__(self, agent: AgentPolicy, random: RandomRunPolicy) -> None:
        self.agent = agent
        self.random = random

    def choose(self, observation: Observation, mask: BoolArray, episode: int) -> Decision:
        """Let the policy choose to which the episode belongs."""
        # By the number of the episode, so that a resumed run goes on with the same one.
        policy = self.agent if episode % 2 else self.random
        return policy.choose(observation, mask, episode)

    def learn(self, transition: Transition) -> None:
        """Let the agent learn from one step, also from one of the random policy."""
        self.agent.learn(transition)

    def save(self, learned: int) -> None:
        """Write a checkpoint of the agent after learning from the decision of this number."""
        self.agent.save(learned)

    def get_state(self) -> dict[str, Any]:
        """States of both."""
        return {"agent": self.agent.get_state(), "random": self.random.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from the state that `get_state` gave."""
        both = restored(_InterleavedState, state)
        self.agent.set_state(both.agent)
        self.random.set_state(both.random)
