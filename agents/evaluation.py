"""Interleaved evaluation: policies take turns on one microscope, episode by episode."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from spm_gym.intervals import FEWEST, length_interval, price_interval
from spm_gym.survival import Endings, logrank_p, restricted_means, survival_curve
from spm_gym.types import Policy, Transition

BOOTSTRAP_SAMPLES = 4000

_COSTS_NOTHING = (0.0,) * FEWEST


@dataclass(frozen=True, slots=True)
class Episode:
    """One finished episode.

    Attributes:
        length: Number of actions.
        total_reward: Sum of the rewards.
        success: Whether the classifier called the probe good in the end.
        truth: Whether it was good in truth, after each action; empty if that is unknown.
        seconds: Time of the instrument that its steps took; None if that is unknown.
        reset_actions: Damaging actions of the reset before it; None if that is unknown.
        reset_seconds: Time of the instrument that the reset took; None if that is unknown.
        cpu_seconds: Time of the processor that the decisions took.
    """

    length: int
    total_reward: float
    success: bool
    truth: tuple[bool, ...] = ()
    seconds: float | None = None
    reset_actions: int | None = None
    reset_seconds: float | None = None
    # No two runs agree in it, and yet they may have played the same episode.
    cpu_seconds: float = field(default=0.0, compare=False)


def run_episode(
    env: gym.Env[Any, Any],
    policy: Policy,
    seed: int | None = None,
    on_transition: Callable[[Transition], None] | None = None,
) -> Episode:
    """Play one episode; the policy is given the mask of every image.

    Args:
        env: The environment; `info` has ``action_mask``, and where they are known ``truly_good``,
            ``episode_seconds``, ``reset_actions`` and ``reset_seconds``.
        policy: Chooses the actions, deterministically unless it learns.
        seed: Of the reset; None continues in the present world.
        on_transition: Called after every step, so that a policy can learn meanwhile.
    """
    observation, info = env.reset(seed=seed)
    length, total, cpu_seconds, state = 0, 0.0, 0.0, None
    truth: list[bool] = []
    while True:
        began = time.process_time()
        # A policy that learns has to explore; one that is only measured does its best.
        action, state = policy.predict(
            observation,
            state,
            deterministic=on_transition is None,
            action_masks=info["action_mask"],
        )
        cpu_seconds += time.process_time() - began
        following, reward, terminated, truncated, info = env.step(action)
        length, total = length + 1, total + float(reward)
        if "truly_good" in info:
            truth.append(bool(info["truly_good"]))
        if on_transition is not None:
            on_transition(
                Transition(
                    observation,
                    int(action),
                    float(reward),
                    following,
                    info["action_mask"],
                    terminated,
                    truncated,
                    bool(info.get("uncertain", False)),
                )
            )
        observation = following
        if terminated or truncated:
            return Episode(
                length, total, bool(terminated), tuple(truth), info.get("episode_seconds"),
                info.get("reset_actions"), info.get("reset_seconds"), cpu_seconds,
            )  # fmt: skip


def interleave(
    env: gym.Env[Any, Any],
    policies: Mapping[str, Policy],
    episodes: int,
    seed: int,
    learners: Mapping[str, Callable[[Transition], None]] | None = None,
    rng: np.random.Generator | None = None,
) -> Iterator[tuple[str, Episode]]:
    """Let the policies take turns on the same microscope: each has one episode in every block.

    Args:
        env: One environment for all policies.
        policies: Policies by name.
        episodes: Episodes of each policy.
        seed: Of the first reset; afterwards the world goes on.
        learners: For policies that learn meanwhile, the function that takes their transitions.
        rng: Of the order within each block; None keeps that of ``policies``.

    Yields:
        Name of the policy and its finished episode.
    """
    # In turns on one microscope, so that wear and drift of the instrument affect all alike. A fixed
    # order would let every policy inherit the probe and the sample of always the same other one.
    first: int | None = seed
    names = list(policies)
    for _ in range(episodes):
        if rng is not None:
            rng.shuffle(names)
        for name in names:
            yield name, run_episode(env, policies[name], first, (learners or {}).get(name))
            first = None


def normalised_score(
    random: Sequence[float],
    agent: Sequence[float],
    oracle: Sequence[float],
    rng: np.random.Generator,
) -> tuple[float, tuple[float, float]]:
    """Compute (random - agent) / (random - oracle) of mean prices: 0 is random, 1 the optimum.

    Args:
        random: Price of every episode of the random policy, in actions or in seconds.
        agent: The same of the agent.
        oracle: The same of the policy that knows the hidden state.
        rng: For the bootstrap.

    Returns:
        The score and its 95 % interval (percentile bootstrap); all NaN unless the oracle beats
        random choice, which may fail with very few episodes.
    """
    means = [np.mean(random), np.mean(agent), np.mean(oracle)]
    if means[0] <= means[2]:
        return math.nan, (math.nan, math.nan)
    value = (means[0] - means[1]) / (means[0] - means[2])
    draws = [
        rng.choice(np.asarray(prices, float), (BOOTSTRAP_SAMPLES, len(prices))).mean(axis=1)
        for prices in (random, agent, oracle)
    ]
    # A draw in which the oracle does not win has no score, as above.
    span = draws[0] - draws[2]
    scores = (draws[0] - draws[1])[span > 0] / span[span > 0]
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(value), (float(low), float(high))


def score(
    prices: Mapping[str, Sequence[float] | None], seed: int, policy: str = "agent"
) -> dict[str, Any] | None:
    """Compute the normalised score of a policy from the prices of every policy's episodes.

    Args:
        prices: By policy, in actions or in seconds; None where they are unknown.
        seed: Of the bootstrap.
        policy: Whose score it is.

    Returns:
        ``value`` and ``ci95``, None where undefined or of fewer than `FEWEST` episodes; None unless
        random, the policy and oracle took part.
    """
    return _figure([prices.get(name) for name in ("random", policy, "oracle")], seed)


def saved_share(prices: Mapping[str, Sequence[float] | None], seed: int) -> dict[str, Any] | None:
    """Compute which share of random choice's mean price the agent saves, as `score`.

    An instrument has no oracle; this is the normalised score with one that costs nothing.
    """
    return _figure([prices.get("random"), prices.get("agent"), _COSTS_NOTHING], seed)


def summarise(results: Mapping[str, Sequence[Episode]], seed: int) -> dict[str, Any]:
    """Compute the figures of every policy, and compare the agent with random choice and the oracle.

    Args:
        results: Episodes by policy.
        seed: Of the bootstraps.

    Returns:
        ``policies.<name>.{episodes, mean_length, ci95, mean_seconds, seconds_ci95,
        mean_cpu_seconds, cpu_seconds_ci95, success_rate, truly_good_rate, classifier, mean_return,
        lengths, seconds, cut_off}``, the last one the indices of episodes that did not end; of the
        resets ``policies.<name>.resets.{mean_actions, actions_ci95, mean_seconds, seconds_ci95}``;
        ``policies.<name>.{normalised_score, normalised_score_seconds}.{value, ci95}``;
        ``policies.<name>.survival.{actions, seconds}.{prices, shares, low, high}``.
        ``normalised_score`` and ``saved_share`` (see the functions) in actions, and with
        ``_seconds`` in seconds of the instrument; ``logrank.{actions, seconds}``, the p value of
        agent against random; ``restricted_means.{actions, seconds}.{until, means}``. Figures that
        are undefined or unknown, or need more episodes, are None.
    """
    policies = {name: _policy(episodes) for name, episodes in results.items()}
    lengths, seconds = (
        {name: policy[price] for name, policy in policies.items()}
        for price in ("lengths", "seconds")
    )
    endings = {
        unit: {
            name: Endings(prices[name], [episode.success for episode in episodes])
            for name, episodes in results.items()
            if prices[name] is not None
        }
        for unit, prices in (("actions", lengths), ("seconds", seconds))
    }
    for name, policy in policies.items():
        policy["normalised_score"] = score(lengths, seed, name)
        policy["normalised_score_seconds"] = score(seconds, seed, name)
        policy["survival"] = {
            unit: survival_curve(found[name]).compact() if name in found else None
            for unit, found in endings.items()
        }
    return {
        "policies": policies,
        "normalised_score": score(lengths, seed),
        "normalised_score_seconds": score(seconds, seed),
        "saved_share": saved_share(lengths, seed),
        "saved_share_seconds": saved_share(seconds, seed),
        "logrank": {unit: _logrank(found) for unit, found in endings.items()},
        "restricted_means": {unit: _restricted(found) for unit, found in endings.items()},
    }


def _policy(episodes: Sequence[Episode]) -> dict[str, Any]:
    lengths = [episode.length for episode in episodes]
    interval = length_interval(lengths)
    seconds = _known([episode.seconds for episode in episodes])
    ended = [episode.success for episode in episodes]
    known = all(episode.truth for episode in episodes)
    # An episode that was cut off counts with its full length: left out, it would flatter.
    return {
        "episodes": len(episodes),
        "mean_length": float(np.mean(lengths)),
        "ci95": None if interval is None else list(interval),
        **_figures("seconds", seconds),
        **_figures("cpu_seconds", [episode.cpu_seconds for episode in episodes]),
        "resets": {
            **_figures("actions", _known([episode.reset_actions for episode in episodes])),
            **_figures("seconds", _known([episode.reset_seconds for episode in episodes])),
        },
        "success_rate": float(np.mean(ended)),
        "truly_good_rate": float(np.mean([each.truth[-1] for each in episodes])) if known else None,
        "classifier": _classified(episodes) if known else None,
        "mean_return": float(np.mean([episode.total_reward for episode in episodes])),
        "lengths": lengths,
        "seconds": seconds,
        "cut_off": [number for number, good in enumerate(ended) if not good],
    }


def _known(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _figures(name: str, values: Sequence[float] | None) -> dict[str, Any]:
    interval = None if values is None else price_interval(values)
    return {
        f"mean_{name}": None if values is None else float(np.mean(values)),
        f"{name}_ci95": None if interval is None else list(interval),
    }


def _figure(prices: Sequence[Sequence[float] | None], seed: int) -> dict[str, Any] | None:
    """Compute the normalised score of the prices of random, agent and oracle."""
    known = [each for each in prices if each is not None]
    if len(known) < len(prices):
        return None
    random, agent, oracle = known
    value, interval = normalised_score(random, agent, oracle, np.random.default_rng(seed))
    defined = math.isfinite(value)
    enough = min(map(len, known)) >= FEWEST
    return {
        "value": value if defined else None,
        "ci95": list(interval) if defined and enough else None,
    }


def _logrank(endings: Mapping[str, Endings]) -> float | None:
    if not {"agent", "random"} <= endings.keys():
        return None
    return logrank_p(endings["agent"], endings["random"])


def _restricted(endings: Mapping[str, Endings]) -> dict[str, Any] | None:
    found = restricted_means(endings)
    return None if found is None else asdict(found)


def _classified(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Compare the classifier with the truth on the images after the actions of these episodes."""
    # It has called the last image of every success good and all others bad: an episode ends with
    # the first image that is called good.
    truth = [good for episode in episodes for good in episode.truth]
    called = [episode.truth[-1] for episode in episodes if episode.success]
    right, good, bad = sum(called), sum(truth), len(truth) - sum(truth)
    return {
        "images": len(truth),
        "called_good": len(called),
        "precision": right / len(called) if called else None,
        "recall": right / good if good else None,
        "false_positive_rate": (len(called) - right) / bad if bad else None,
    }
