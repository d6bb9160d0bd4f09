"""Reports in training and evaluation on the simulator whether the probe is good in truth."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.instrument.sim.simulated import SimulatedMicroscope

Image = NDArray[np.float32]
ImageEnv = gym.Env[Image, np.int64]


# A wrapper, so that nothing in the environment itself depends on what only a simulator knows.
class _GroundTruth(gym.Wrapper[Image, np.int64, Image, np.int64]):
    """Adds ``truly_good`` to the ``info`` of every step."""

    def __init__(self, env: ProbeConditioningEnv, microscope: SimulatedMicroscope) -> None:
        super().__init__(env)
        self._microscope = microscope

    def step(self, action: np.int64) -> tuple[Image, Any, bool, bool, dict[str, Any]]:
        """Step, and report whether the probe that took the image is good in truth."""
        observation, reward, terminated, truncated, info = super().step(action)
        info["truly_good"] = self._microscope.truth.good
        return observation, reward, terminated, truncated, info


def with_truth(env: ProbeConditioningEnv) -> ImageEnv:
    """Wrap an environment on the simulator; any other is returned as it is."""
    microscope = env.instrument
    return _GroundTruth(env, microscope) if isinstance(microscope, SimulatedMicroscope) else env
