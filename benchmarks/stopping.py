"""Measure how often the interval of an evaluation has the truth in it if a stopping rule ends it.

    python benchmarks/stopping.py --trials 1000

Lengths of episodes are drawn from their exact distributions in the hidden process: of random
choice, of the oracle, and of an agent that takes the oracle's action except for a share of random
ones. The last row of each quantity is a fixed number of episodes, without any rule.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from agents import evaluation
from agents.evaluation import Episode
from agents.stopping import ANALYSES_EVERY, FIRST_ANALYSIS, StoppingRule
from spm_gym.actions_to_go import onward_steps
from spm_gym.config import load_config
from spm_gym.envs.hidden_process import HiddenProcess
from spm_gym.envs.optimum import reference_process
from spm_gym.intervals import Interval, wilson_interval

Floats = NDArray[np.float64]


def main() -> None:
    """Print the coverage of the interval for every half-width, and for a fixed number of blocks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000, help="evaluations; default: 1000")
    parser.add_argument("--blocks", type=int, default=400, help="at most; default: 400")
    parser.add_argument("--random-share", type=float, default=0.3, help="of the agent's actions")
    parser.add_argument("--half-widths", type=float, nargs="+", default=[0.06, 0.08, 0.12])
    parser.add_argument("--bootstrap", type=int, default=1000, help="samples; default: 1000")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    # Fewer than an evaluation takes, so that thousands of trials are over in minutes.
    evaluation.BOOTSTRAP_SAMPLES = arguments.bootstrap
    config = load_config(None)
    process = reference_process(config)
    shares = {"random": 1.0, "agent": arguments.random_share, "oracle": 0.0}
    lengths = {
        name: length_distribution(process, share, config.env.max_steps)
        for name, share in shares.items()
    }
    means = {name: float(found @ np.arange(1, found.size + 1)) for name, found in lengths.items()}
    saved = means["random"] - means["agent"]
    truths = {
        "normalised_score": saved / (means["random"] - means["oracle"]),
        "saved_share": saved / means["random"],
    }
    print(", ".join(f"{name} {mean:.2f}" for name, mean in means.items()), "actions")
    for policies in (tuple(shares), ("random", "agent")):
        rules = [StoppingRule.of(policies, arguments.blocks, w) for w in arguments.half_widths]
        drawn = {name: lengths[name] for name in policies}
        for rule in (*rules, StoppingRule(FIRST_ANALYSIS, None, rules[0].quantity)):
            truth = truths[rule.quantity]
            rng = np.random.default_rng(arguments.seed)
            trials = [trial(rule, drawn, rng) for _ in range(arguments.trials)]
            hit = sum(low <= truth <= high for _, (low, high) in trials)
            low, high = wilson_interval(hit, len(trials))
            print(
                f"{rule.quantity} {truth:.3f}, half-width {rule.half_width}: in the interval in "
                f"{hit / len(trials):.3f} ({low:.3f} to {high:.3f}), after "
                f"{np.mean([blocks for blocks, _ in trials]):.0f} episodes of each policy",
                flush=True,
            )


def length_distribution(process: HiddenProcess, random_share: float, limit: int) -> Floats:
    """Compute the probabilities (limit,) of 1, 2, ... actions; the last has all longer episodes."""
    best = np.where(process.allowed, process.oracle[:, None], -np.inf).argmax(axis=-1)
    greedy = np.eye(len(process.steps))[best]
    uniform = process.policy(np.ones(len(process.steps)))
    policy = (1 - random_share) * greedy + random_share * uniform
    onward = onward_steps(
        np.einsum("sl,sla,ast->st", process.levels, policy, process.steps, optimize=True)
    )
    under_way, present = [1.0], process.start
    for _ in range(limit - 1):
        present = present @ onward
        under_way.append(float(present.sum()))
    return -np.diff([*under_way, 0.0])


def trial(
    rule: StoppingRule, lengths: dict[str, Floats], rng: np.random.Generator
) -> tuple[int, Interval]:
    """Play one evaluation; gives its number of blocks and its final interval."""
    results = {
        name: [
            Episode(int(length), 0.0, True)
            for length in 1 + rng.choice(found.size, rule.blocks, p=found)
        ]
        for name, found in lengths.items()
    }
    # Each trial has bootstraps of its own.
    seed = int(rng.integers(2**32))
    for blocks in (*range(FIRST_ANALYSIS, rule.blocks, ANALYSES_EVERY), rule.blocks):
        so_far = {name: each[:blocks] for name, each in results.items()}
        if rule.met(so_far, seed):
            break
    interval = rule.interval(so_far, seed)
    assert interval is not None
    return blocks, interval


if __name__ == "__main__":
    main()
