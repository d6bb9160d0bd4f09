"""A toy environment with the interface of the real one, solvable in seconds."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.double_dqn import DoubleDQN
from spm_gym.config import AgentConfig, NetworkConfig
from spm_gym.types import BoolArray

RINGS = 4
SMALL_NETWORK = NetworkConfig(
    channels=(8,), convolutions=1, pooled_sets=0, stem_stride=1, hidden=(32,), norm="none"
)


def ring_image(ring: int) -> NDArray[np.float32]:
    """A square ring on an 8x8 image; no flip changes it."""
    depth = np.minimum(np.arange(8), np.arange(8)[::-1])
    return np.where(np.minimum.outer(depth, depth) == ring, 1.0, -1.0).astype(np.float32)[None]


class RingEnv(gym.Env[NDArray[np.float32], np.int64]):
    """The image shows ring r; action r leads to ring r - 1, out of ring 0 it succeeds.

    Any other action leads to the outermost ring. The best policy needs r + 1 steps. The right
    action is always allowed, the others at random, or all of them if not ``masked``. A blind
    environment shows a random ring.
    """

    def __init__(self, blind: bool = False, masked: bool = True, max_steps: int = 20) -> None:
        self.observation_space = gym.spaces.Box(-1.5, 1.5, (1, 8, 8), np.float32)
        self.action_space = gym.spaces.Discrete(RINGS)
        self.blind = blind
        self.masked = masked
        self.max_steps = max_steps
        self.violations = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.elapsed = 0
        return self._enter(int(self.np_random.integers(RINGS)))

    def step(
        self, action: np.int64 | int
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.violations += not self.mask[action]
        self.elapsed += 1
        terminated = bool(action == self.ring == 0)
        right = action == self.ring
        ring = max(0, self.ring - 1) if right else RINGS - 1
        image, info = self._enter(ring)
        truncated = not terminated and self.elapsed >= self.max_steps
        return image, 10.0 if terminated else -1.0, terminated, truncated, info

    def action_masks(self) -> BoolArray:
        return self.mask

    def get_state(self) -> dict[str, Any]:
        rng = self.np_random.bit_generator.state
        return {"rng": rng, "ring": self.ring, "mask": self.mask, "elapsed": self.elapsed}

    def set_state(self, state: dict[str, Any]) -> None:
        self.np_random.bit_generator.state = state["rng"]
        self.ring, self.mask, self.elapsed = state["ring"], state["mask"], state["elapsed"]

    def _enter(self, ring: int) -> tuple[NDArray[np.float32], dict[str, Any]]:
        self.ring = ring
        self.mask = self.np_random.random(RINGS) < (0.7 if self.masked else 2)
        self.mask[ring] = True
        observation = int(self.np_random.integers(RINGS)) if self.blind else ring
        return ring_image(observation), {
            "action_mask": self.mask.copy(),
            "probability": 1 / (1 + ring),
        }


def ring_config(**changes: Any) -> AgentConfig:
    """Settings that suit the toy."""
    settings: dict[str, Any] = {
        "network": SMALL_NETWORK,
        "steps": 800,
        "prefill": 50,
        "buffer_steps": 500,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "epsilon_steps": 300,
        "target_every": 25,
        "shift_pixels": 0,  # where its spots are is what the toy is about
        "parallel": False,
        "device": "cpu",
    }
    return AgentConfig(**(settings | changes))


def only_env(model: Any) -> RingEnv:
    """The toy below the wrappers of a model."""
    assert isinstance(model.env, DummyVecEnv)
    env = model.env.envs[0].unwrapped
    assert isinstance(env, RingEnv)
    return env


def mean_length(policy: Any, env: RingEnv, episodes: int = 60, seed: int = 1) -> float:
    """Mean number of steps that a policy needs."""
    image, info = env.reset(seed=seed)
    steps = 0
    for _ in range(episodes):
        done = False
        while not done:
            action, _ = policy.predict(image, deterministic=True, action_masks=info["action_mask"])
            image, _, terminated, truncated, info = env.step(action)
            done = terminated or truncated
            steps += 1
        image, info = env.reset()
    return steps / episodes


def ring_agent(**changes: Any) -> DoubleDQN:
    """A small agent whose buffer is soon full."""
    config = ring_config(prefill=20, buffer_steps=45, target_every=7, **changes)
    return DoubleDQN(RingEnv(), config, seed=5)
