"""Training of the belief agent on an environment, action by action."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agents.belief.agent import BeliefAgent, BeliefState
from spm_gym.plain_state import array_of, restored
from spm_gym.types import BoolArray, Forecast, Transition

Image = NDArray[np.float32]


class TrainingStep(NamedTuple):
    """One action and what came of it.

    Attributes:
        action: Its number.
        forecast: What was expected before it.
        observation: The image after it, (1, H, W).
        info: Of the environment, with ``episode`` and ``TimeLimit.truncated`` at an episode's end,
            as stable-baselines3 has them.
        ended: Whether the episode has ended.
    """

    action: int
    forecast: Forecast
    observation: Image
    info: dict[str, Any]
    ended: bool


@dataclass(slots=True)
class _Present:
    """The present moment of an episode."""

    observation: Annotated[Image, array_of(np.float32, 1, None, None)]
    mask: Annotated[BoolArray, array_of(np.bool_, None)]
    memory: BeliefState | None
    length: Annotated[int, Field(ge=0)]
    total: float


@dataclass(frozen=True, slots=True)
class _TrainingState:
    """State of a `BeliefTraining`; ``present`` is None between two episodes."""

    env: dict[str, Any]
    present: _Present | None


class BeliefTraining:
    """Lets an agent act and learn; between two steps it can be kept and continued.

    Args:
        agent: The agent.
        env: The environment, with ``info["action_mask"]``, ``get_state()`` and ``set_state()``.
        seed: Of the first reset.

    Attributes:
        forecast: Of the last action, or of the one under way.
    """

    def __init__(self, agent: BeliefAgent, env: gym.Env[Image, np.int64], seed: int | None) -> None:
        self.agent = agent
        self.env = env
        self._seed = seed
        self._present: _Present | None = None
        self.forecast: Forecast | None = None

    def step(self) -> TrainingStep:
        """Choose an action, carry it out and learn from it; begin an episode where none runs.

        Raises:
            InstrumentError: As the environment does; nothing was learned.
        """
        if self._present is None:
            observation, info = self.env.reset(seed=self._seed)
            # Afterwards the world goes on: the same seed would begin the same one again.
            self._seed = None
            self._present = _Present(observation, info["action_mask"], None, 0, 0.0)
        present = self._present
        action, memory = self.agent.predict(
            present.observation, present.memory, action_masks=present.mask
        )
        # Before the action: a record of it has what was expected.
        self.forecast = forecast = self.agent.forecast(memory)
        following, reward, terminated, truncated, info = self.env.step(action)
        transition = Transition(
            present.observation,
            int(action),
            float(reward),
            following,
            info["action_mask"],
            bool(terminated),
            bool(truncated),
            bool(info.get("uncertain", False)),
        )
        self.agent.learn_from(transition)
        ended = transition.terminated or transition.truncated
        length, total = present.length + 1, present.total + transition.reward
        if ended:
            self._present = None
            end = {"episode": {"l": length, "r": total}, "TimeLimit.truncated": bool(truncated)}
            info = info | end
        else:
            self._present = _Present(following, info["action_mask"], memory, length, total)
        return TrainingStep(int(action), forecast, following, info, ended)

    def get_state(self) -> dict[str, Any]:
        """Collect all that is needed to continue, except the agent's own state."""
        env = self.env.get_wrapper_attr("get_state")()
        present = None if self._present is None else asdict(self._present)
        return {"env": env, "present": present}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave; on a real microscope with a new episode.

        Raises:
            StateError: It is something else.
        """
        kept = restored(_TrainingState, state)
        if kept.present is not None and kept.present.memory is not None:
            self.agent.check_memory(kept.present.memory)
        self.env.get_wrapper_attr("set_state")(kept.env)
        # What an environment cannot be put back into has changed meanwhile.
        goes_on = kept.env.get("mid_episode", True)
        self._present = kept.present if goes_on else None
        if not goes_on:
            self.agent.end_episode()
        # A simulated world goes on; on a real instrument the seed would seed the choices again.
        self._seed = None
