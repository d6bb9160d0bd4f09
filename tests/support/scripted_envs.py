"""Environments with scripted classifiers and failing microscopes, and what is played on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np

from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import Config, EnvConfig
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from tests.support.scripted_runs import Verdicts


def play(env: gymnasium.Env[Any, Any], seed: int) -> Iterator[Any]:
    """Observations, rewards and infos of random allowed actions, in plain comparable form."""
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    yield observation.tobytes(), str(info)
    while True:
        action = rng.choice(np.flatnonzero(info["action_mask"]))
        observation, reward, terminated, truncated, info = env.step(action)
        yield observation.tobytes(), reward, terminated, truncated, str(info)
        if terminated or truncated:
            observation, info = env.reset()
            yield observation.tobytes(), str(info)


def rollout(env: gymnasium.Env[Any, Any], count: int, seed: int) -> list[Any]:
    return list(itertools.islice(play(env, seed), count))


class Script(Verdicts):
    """Verdicts from a list about single images as the environment processes them."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        assert images.shape == (1, 1, 64, 64)
        assert images.dtype == np.float32
        return super().__call__(images)


def scripted(*probabilities: float, **settings: Any) -> ProbeConditioningEnv:
    return ProbeConditioningEnv(
        build_microscope(Config()), Script(*probabilities), EnvConfig(**settings)
    )


class Failing:
    """A microscope of which one verb fails a given number of times."""

    def __init__(self, verb: str, error: Exception, times: int = 1) -> None:
        self._inner = build_microscope(Config())
        self._verb, self._error, self._times = verb, error, times
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._inner, name)
        if name not in ("scan", "condition", "reconnect", "approach", "withdraw"):
            return inner

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if name == self._verb and self._times:
                self._times -= 1
                raise self._error
            return inner(*arguments)

        return call
