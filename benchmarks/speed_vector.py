"""Figures of the vector environment: steps of many microscopes together and one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from time import perf_counter
from types import ModuleType
from typing import Any
from unittest.mock import patch

import gymnasium
import numpy as np
from measure import Figure, compare
from numpy.typing import NDArray

import spm_gym  # noqa: F401  (registers the environment)
from spm_gym.assembly.classifier import build_classifier
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import Config
from spm_gym.envs import observation, vector

ID = "spm_gym/ProbeConditioning-v0"
MANY = 64
STRETCH = 10
"""Vector steps between two turns."""

DRAWN = (
    "it also draws the quarter image before every image, which is thrown away; ours only lets its "
    "time pass"
)
"""What the reference does besides taking one environment after the other."""

Function = Callable[..., Any]


def figures(quick: bool) -> Iterator[Figure]:
    """Random allowed actions, episodes that end are started again; the classifier classifiers."""
    ours = Walk(vector.ProbeConditioningVectorEnv(*_microscopes(MANY)))
    looped = Walk(gymnasium.make_vec(ID, MANY, "sync"))
    figure = compare(
        f"vector environment: step, {MANY} microscopes",
        ours,
        looped,
        at_least=4,
        pairs=5 if quick else 15,
        unit="us",
        ours_per=MANY * STRETCH,
        reference_per=MANY * STRETCH,
    )
    yield replace(
        figure,
        note=f"per environment, with classifier: {1e6 / figure.ours:.0f} steps/s; "
        f"reference: {MANY} environments as gymnasium.make_vec makes them in one process, "
        f"each with a classifier of its own; {DRAWN}; "
        f"ours: {shares(ours)}",
    )
    yield compare(
        "vector environment: step, a batch of one",
        Walk(vector.ProbeConditioningVectorEnv(*_microscopes(1)), STRETCH * 2),
        Walk(gymnasium.make_vec(ID, 1, "sync"), STRETCH * 2),
        at_least=0.8,
        pairs=15 if quick else 45,
        unit="us",
        ours_per=STRETCH * 2,
        reference_per=STRETCH * 2,
        note=f"reference: one environment as gymnasium.make_vec makes it; {DRAWN}",
    )


class Walk:
    """Random allowed actions in a vector environment, a stretch of steps in each call."""

    def __init__(self, envs: Any, stretch: int = STRETCH) -> None:
        self.envs = envs
        self.stretch = stretch
        self._rng = np.random.default_rng(0)
        _, infos = envs.reset(seed=0)
        self._masks: NDArray[np.bool_] = infos["action_mask"]

    def __call__(self) -> None:
        """Take the steps."""
        for _ in range(self.stretch):
            actions = (self._rng.random(self._masks.shape) * self._masks).argmax(axis=1)
            *_, infos = self.envs.step(actions)
            self._masks = infos["action_mask"]


def shares(walk: Walk) -> str:
    """Where the time of a walk goes, in words."""
    parts: dict[str, tuple[ModuleType, str]] = {
        "simulator": (vector, "scan_all"),
        "imaging": (observation, "readings_of"),
        "classifier": (observation, "classify_all"),
    }
    clocks = {name: Clock(getattr(*place)) for name, place in parts.items()}
    replaced = [patch.object(*parts[name], clock) for name, clock in clocks.items()]
    for each in replaced:
        each.start()
    started = perf_counter()
    walk()
    total = perf_counter() - started
    for each in replaced:
        each.stop()
    spent = {name: clock.seconds for name, clock in clocks.items()}
    spent["the rest"] = total - sum(spent.values())
    return ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in spent.items())


class Clock:
    """A function that knows how long it has run."""

    def __init__(self, function: Function) -> None:
        self.seconds = 0.0
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        started = perf_counter()
        result = self._function(*arguments)
        self.seconds += perf_counter() - started
        return result


def _microscopes(count: int) -> tuple[list[Any], list[Any]]:
    config = Config()
    return [build_microscope(config) for _ in range(count)], [build_classifier(config)] * count
