"""Reports in training and evaluation what episodes and resets cost of the instrument's time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
from pydantic import Field

from spm_gym.envs.ground_truth import Image, ImageEnv
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.instrument.contract import Restartable
from spm_gym.plain_state import StateError, restored

_STATE = "instrument_time"
_Seconds = Annotated[float, Field(ge=0)]


@dataclass(slots=True)
class InstrumentTime:
    """Prices of the present episode and of all there were, as the ``info`` has them.

    Attributes:
        episode_seconds: Of the steps so far, without the reset.
        reset_seconds: Of the reset that the episode began with.
        reset_actions: Damaging actions of that reset.
        instrument_seconds: Of all resets and steps so far.
    """

    episode_seconds: _Seconds
    reset_seconds: _Seconds
    reset_actions: Annotated[int, Field(ge=0)]
    instrument_seconds: _Seconds


# Not from ``info["time"]``: that is the start of a scan, so the last image of an episode, which
# may take longer than the others, would be paid for by the reset that follows.
class _TimedEnv(gym.Wrapper[Image, np.int64, Image, np.int64]):
    """Adds the values of `InstrumentTime` to the ``info`` of every reset and step."""

    def __init__(self, env: ImageEnv, clock: Callable[[], float]) -> None:
        super().__init__(env)
        bare = env.unwrapped
        assert isinstance(bare, ProbeConditioningEnv)
        self._clock = clock
        self._restarts = isinstance(bare.instrument, Restartable)
        self._names = {action.name for action in bare.config.actions}
        self._spent = InstrumentTime(0.0, 0.0, 0, 0.0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Image, dict[str, Any]]:
        """Reset, and count the time and the damaging actions that it took."""
        # An instrument that the seed restarts begins with its clock at zero.
        began = 0.0 if self._restarts and seed is not None else self._clock()
        observation, info = super().reset(seed=seed, options=options)
        seconds = self._clock() - began
        spent = self._spent
        spent.episode_seconds, spent.reset_seconds = 0.0, seconds
        spent.reset_actions = sum(event in self._names for event in info["events"])
        spent.instrument_seconds += seconds
        return observation, info | asdict(spent)

    def step(self, action: np.int64) -> tuple[Image, Any, bool, bool, dict[str, Any]]:
        """Step, and count the time that it took, that of its images included."""
        began = self._clock()
        observation, reward, terminated, truncated, info = super().step(action)
        seconds = self._clock() - began
        self._spent.episode_seconds += seconds
        self._spent.instrument_seconds += seconds
        return observation, reward, terminated, truncated, info | asdict(self._spent)

    def get_state(self) -> dict[str, Any]:
        """Collect the state of the environment, and what was spent."""
        state: dict[str, Any] = self.env.get_wrapper_attr("get_state")()
        return {**state, _STATE: asdict(self._spent)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave.

        Raises:
            StateError: It is something else.
        """
        if not isinstance(state, dict):
            raise StateError(f"the state of an environment is a {type(state).__name__}")
        spent = restored(InstrumentTime, state.get(_STATE))
        rest = {name: state[name] for name in state if name != _STATE}
        self.env.get_wrapper_attr("set_state")(rest)
        self._spent = spent


def with_instrument_time(env: ImageEnv, clock: Callable[[], float]) -> ImageEnv:
    """Wrap an environment so that its ``info`` has the values of `InstrumentTime`.

    Args:
        env: Probe conditioning, perhaps in other wrappers.
        clock: The instrument's clock, s; must answer when the connection is lost, too.
    """
    return _TimedEnv(env, clock)
