"""The same steps over TCP and in this process."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spm_gym.assembly.environment import make_env
from spm_gym.config import load_config
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.nanonis.driver import connect
from tests.support.patience import PATIENT
from tests.support.virtual import silent, virtual_nanonis

Trajectory = list[dict[str, Any]]

LIVELY = ["simulator.contact_loss_rate=0.03", "simulator.crash_rate=0.03",
          "simulator.tip_change_rate=0.1", "simulator.rough_fraction=0.2"]  # fmt: skip
"""A world in which everything goes wrong that can."""


def both(seed: int, world: list[str], steps: int = 60) -> tuple[Trajectory, Trajectory]:
    """Play with one seed on a virtual Nanonis in a process of its own, and on the simulator."""
    settings = ["--set", *world] if world else []
    with virtual_nanonis("--seed", str(seed), *settings) as ports:
        lab = ["real.nanonis.coarse.retract=z+", f"real.nanonis.ports={ports}",
               "env.creep_wait_s=0", "real.limits.actions_per_hour=null", *PATIENT]  # fmt: skip
        config = load_config(None, [*world, *lab])
        instrument = connect(config.real, silent())
        guarded = Guard(instrument, config.real.limits)
        over_tcp = play(make_env(config, instrument=guarded), seed, steps)
    # The virtual controller's clock stands still: it waits for the creep by itself.
    return over_tcp, play(make_env(load_config(None, world)), seed, steps)


def play(env: Any, seed: int, steps: int) -> Trajectory:
    """Random allowed actions; observation, reward, end and info of every step and reset."""
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    found = [{"observation": observation, **info}]
    while len(found) < steps:
        action = rng.choice(np.flatnonzero(info["action_mask"]))
        observation, reward, terminated, truncated, info = env.step(action)
        found.append({"observation": observation, "reward": reward, "end": terminated, **info})
        if terminated or truncated:
            observation, info = env.reset()
            found.append({"observation": observation, **info})
    env.close()
    for step in found:
        del step["time"]  # the simulator's clock, and the computer's
    return found


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two steps are the same to the last bit; the probability of unknown images is NaN."""
    if one.keys() != other.keys():
        return False
    return all(_same(one[name], other[name]) for name in one)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else bool(one == other)
