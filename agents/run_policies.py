"""Policies of an autonomous run: an agent that may go on learning, random choice, or both.

All fulfil `spm_gym.runner.policy.RunPolicy`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.baselines import RandomPolicy
from agents.belief.agent import BeliefAgent, BeliefState
from agents.belief.checkpoint import save_belief_checkpoint
from agents.double_dqn import DoubleDQN
from agents.double_dqn_checkpoint import save_checkpoint
from spm_gym.plain_state import StateError, restore_generator, restored
from spm_gym.types import BoolArray, Decision, Transition

Observation = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _InterleavedState:
    """State of an `InterleavedPolicy`."""

    agent: dict[str, Any]
    random: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _BeliefPolicyState:
    """State of a `BeliefPolicy`, without what its agent has learned."""

    episode: int
    likelihoods: list[list[float]]
    actions: list[int]
    exploration: dict[str, Any]


class DoubleDQNPolicy:
    """A double DQN: at its final epsilon if it goes on learning, otherwise greedy.

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

    def learn(self, transition: Transition, episode: int) -> None:
        """Learn from one step; the gradient steps due are done at once."""
        # An action that may not have been carried out would teach that it does nothing.
        if not transition.uncertain:
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


class BeliefPolicy:
    """A belief agent: it explores by its own rules if it goes on learning, otherwise not.

    Args:
        agent: The agent.
        checkpoints: Directory of its checkpoints.
        learns: Whether it goes on learning.
        episode: Of this run, that it has learned from last; None for an agent from outside.
    """

    def __init__(
        self, agent: BeliefAgent, checkpoints: Path, learns: bool, episode: int | None = None
    ) -> None:
        self.agent = agent
        self._checkpoints = checkpoints
        self._learns = learns
        self._chosen_in = 0
        self._learned_in = episode or 0
        self._memory: BeliefState | None = None
        if episode is None:  # one that it has open is not continued here
            agent.end_episode()

    def choose(self, observation: Observation, mask: BoolArray, episode: int) -> Decision:
        """Choose an allowed action for an image (1, H, W)."""
        memory = self._memory if episode == self._chosen_in else None
        action, self._memory = self.agent.predict(
            observation, memory, deterministic=not self._learns, action_masks=mask
        )
        self._chosen_in = episode
        forecast = self.agent.forecast(self._memory, deterministic=not self._learns)
        return Decision(int(action), "agent", forecast=forecast)

    def learn(self, transition: Transition, episode: int) -> None:
        """Learn from one step, and note from uncertain ones that the chain is broken."""
        # An episode may end without a step that says so: with the image after a restart.
        if episode != self._learned_in:
            self.agent.end_episode()
            self._learned_in = episode
        self.agent.learn_from(transition)

    def save(self, learned: int) -> None:
        """Write a checkpoint after learning from the decision of this number."""
        extra = {"learned": learned, "episode": self._learned_in}
        save_belief_checkpoint(self._checkpoints, self.agent, None, extra)

    def get_state(self) -> dict[str, Any]:
        """State of the belief in the present episode, and of exploration."""
        memory = self._memory
        return {
            "episode": self._chosen_in,
            "likelihoods": [] if memory is None else memory.likelihoods.tolist(),
            "actions": [] if memory is None else memory.actions.tolist(),
            "exploration": self.agent.exploration_state,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from the state that `get_state` gave."""
        kept = restored(_BeliefPolicyState, state)
        memory = None
        if kept.actions:
            try:
                likelihoods = np.array(kept.likelihoods, np.float64)
            except ValueError:
                raise StateError("the kept likelihoods are of different classes") from None
            memory = BeliefState(likelihoods, np.array(kept.actions, np.int64))
            self.agent.check_memory(memory)
        self._memory = memory
        self._chosen_in = kept.episode
        self.agent.exploration_state = kept.exploration


class RandomRunPolicy:
    """Every allowed action is equally likely."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._policy = RandomPolicy(rng)

    def choose(self, observation: Observation, mask: BoolArray, episode: int) -> Decision:
        """Draw an allowed action."""
        action, _ = self._policy.predict(observation, action_masks=mask)
        return Decision(int(action), "random")

    def learn(self, transition: Transition, episode: int) -> None:
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
    """Agent and random policy take turns: of every two episodes each has one, in a drawn order.

    The agent learns from both: it does not matter to either kind of agent who has chosen.

    Args:
        agent: The agent.
        random: Random choice.
        seed: Of the orders.
    """

    def __init__(
        self, agent: DoubleDQNPolicy | BeliefPolicy, random: RandomRunPolicy, seed: int
    ) -> None:
        self.agent = agent
        self.random = random
        self._seed = seed

    def choose(self, observation: Observation, mask: BoolArray, episode: int) -> Decision:
        """Let the policy choose to which the episode belongs."""
        # By the number of the episode alone, so that a resumed run goes on with the same one. The
        # order is drawn, for a tip that has just been repaired by one policy is not what it is
        # after the other: one that always came second would meet another kind of tip.
        block, second = divmod(episode - 1, 2)
        agent_first = np.random.default_rng([self._seed, block]).random() < 0.5
        policy = self.agent if agent_first != bool(second) else self.random
        return policy.choose(observation, mask, episode)

    def learn(self, transition: Transition, episode: int) -> None:
        """Let the agent learn from one step, also from one of the random policy."""
        self.agent.learn(transition, episode)

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
