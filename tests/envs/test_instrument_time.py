from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spm_gym.assembly.environment import make_env, measured
from spm_gym.envs.ground_truth import ImageEnv
from spm_gym.envs.instrument_time import with_instrument_time
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.plain_state import StateError, from_bytes, to_bytes
from spm_gym.types import Stall
from tests.support.scripted_envs import scripted

TRUTH = ("env.ground_truth=true",)


def bare(env: ImageEnv) -> ProbeConditioningEnv:
    found = env.unwrapped
    assert isinstance(found, ProbeConditioningEnv)
    return found


def now(env: ImageEnv) -> float:
    return bare(env).instrument.status().time


def play(env: ImageEnv, info: dict[str, Any], steps: int) -> list[dict[str, Any]]:
    """Infos of so many random allowed steps, and of the resets between them."""
    rng = np.random.default_rng(0)
    infos = [info]
    for _ in range(steps):
        action = rng.choice(np.flatnonzero(infos[-1]["action_mask"]))
        *_, terminated, truncated, info = env.step(action)
        infos.append(info)
        if terminated or truncated:
            infos.append(env.reset()[1])
    return infos


def prices(info: dict[str, Any]) -> tuple[float, ...]:
    names = ("episode_seconds", "reset_seconds", "reset_actions", "instrument_seconds")
    return tuple(info[name] for name in names)


def test_an_episode_costs_what_the_clock_runs_after_its_reset() -> None:
    env = measured(make_env(overrides=TRUTH))
    _, info = env.reset(seed=3)
    assert info["reset_seconds"] == info["instrument_seconds"] == now(env)
    for _ in range(2):
        began, ended = now(env), False
        assert info["episode_seconds"] == 0
        while not ended:
            *_, terminated, truncated, info = env.step(np.int64(0))
            assert info["episode_seconds"] == pytest.approx(now(env) - began)
            ended = terminated or truncated
        before = now(env)
        _, info = env.reset()
        assert info["reset_seconds"] == pytest.approx(now(env) - before)
    assert info["instrument_seconds"] == pytest.approx(now(env))


def test_the_last_image_of_an_episode_is_paid_for() -> None:
    # The time in the info is that of the start of a scan.
    env = measured(make_env(overrides=TRUTH))
    _, first = env.reset(seed=3)
    *_, info = env.step(np.int64(0))
    ended = first["instrument_seconds"] + info["episode_seconds"]
    assert ended > info["time"] + 0.5 * info["episode_seconds"]


def test_a_seeded_reset_costs_the_same_after_a_long_use() -> None:
    env = measured(make_env(overrides=TRUTH))
    _, fresh = env.reset(seed=3)
    total = play(env, fresh, 20)[-1]["instrument_seconds"]
    _, again = env.reset(seed=3)
    assert again["reset_seconds"] == fresh["reset_seconds"]
    assert again["instrument_seconds"] == total + again["reset_seconds"]


def test_damaging_actions_are_those_of_the_reset() -> None:
    # Good once, bad after the third act; then a step, which belongs to the episode.
    env = measured(scripted(0.99, 0.99, 0.99, 0.01, 0.01))
    acts = []
    condition = bare(env).instrument.condition

    def count(action: Any, x: float, y: float) -> None:
        if not isinstance(action, Stall):
            acts.append(action)
        condition(action, x, y)

    bare(env).instrument.condition = count  # type: ignore[method-assign]
    _, info = env.reset(seed=1)
    assert info["reset_actions"] == len(acts) == 3
    *_, info = env.step(np.flatnonzero(info["action_mask"])[-1])
    assert info["reset_actions"] == 3


def test_an_environment_that_goes_on_counts_on() -> None:
    env = measured(make_env(overrides=TRUTH))
    infos = play(env, env.reset(seed=3)[1], 7)
    kept = from_bytes(to_bytes(env.get_wrapper_attr("get_state")()))
    expected = [prices(info) for info in play(env, infos[-1], 15)]
    other = measured(make_env(overrides=TRUTH))
    other.reset(seed=8)
    other.get_wrapper_attr("set_state")(kept)
    assert [prices(info) for info in play(other, infos[-1], 15)] == expected


@pytest.mark.parametrize("spent", [None, {}, {"episode_seconds": float("nan")}, -1])
def test_a_foreign_state_is_refused(spent: Any) -> None:
    env = measured(make_env(overrides=TRUTH))
    env.reset(seed=3)
    state = env.get_wrapper_attr("get_state")()
    for foreign in (state | {"instrument_time": spent}, spent):
        with pytest.raises(StateError):
            env.get_wrapper_attr("set_state")(foreign)


def test_a_real_microscope_is_timed_by_the_computer() -> None:
    ticks = iter(range(100))
    env = with_instrument_time(make_env(overrides=TRUTH), lambda: float(next(ticks)))
    env.reset()
    *_, info = env.step(np.int64(0))
    *_, info = env.step(np.int64(0))
    assert prices(info)[0] == 2
