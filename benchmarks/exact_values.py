"""Exact values of the hidden-state process, and the environment that must reproduce them.

    python benchmarks/exact_values.py --episodes 2000

The environment ends its episodes by the ground truth, so no learning and no classifier enter. The
masks of the exact process are measured on images of their own.
"""

from __future__ import annotations

import argparse
import math
from functools import partial

import numpy as np
from tqdm import tqdm

from agents.baselines import CountingPolicy, MixturePolicy, OraclePolicy, RandomPolicy
from agents.evaluation import interleave
from spm_gym.assembly.environment import make_env
from spm_gym.assembly.process import limit_threads
from spm_gym.config import load_config
from spm_gym.envs.counting import counting_length, counting_plan
from spm_gym.envs.optimum import level_of, reference_process
from spm_gym.intervals import length_interval


def main() -> None:
    """Print exact and simulated mean episode lengths of every policy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=2000, help="of each policy; default: 2000")
    parser.add_argument("--images", type=int, default=500, help="for the masks, of each class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value")
    arguments = parser.parse_args()
    limit_threads(1)
    config = load_config(None, ["env.ground_truth=true", *arguments.set])
    process = reference_process(config, arguments.images, arguments.seed + 1)
    level = partial(level_of, levels=process.allowed)
    plans = {
        "counting": counting_plan(process, False),
        "counting-mask": counting_plan(process, True),
    }
    exact = {
        "random": process.random_length,
        "single": process.length(process.single),
        "blind": process.length(process.blind),
        "mask": process.length(process.mask_only),
        **{name: counting_length(process, plan) for name, plan in plans.items()},
        "oracle": process.oracle_length,
    }
    env = make_env(config)
    rng = np.random.default_rng(arguments.seed)
    policies = {
        "random": RandomPolicy(rng),
        "single": MixturePolicy(process.single, rng),
        "blind": MixturePolicy(process.blind, rng),
        "mask": MixturePolicy(process.mask_only, rng, level),
        **{name: CountingPolicy(plan, rng, level) for name, plan in plans.items()},
        "oracle": OraclePolicy(process.oracle, lambda: env.instrument.truth.index),
    }
    lengths: dict[str, list[int]] = {name: [] for name in policies}
    turns = interleave(env, policies, arguments.episodes, arguments.seed)
    for name, episode in tqdm(turns, "episodes", arguments.episodes * len(policies), mininterval=5):
        lengths[name].append(episode.length)
    print(f"{'policy':13} {'exact':>7} {'simulated':>10} {'95 % interval':>16} {'episodes':>9}")
    for name, value in exact.items():
        mean = np.mean(lengths[name])
        low, high = length_interval(lengths[name]) or (math.nan, math.nan)
        verdict = "" if low <= value <= high else "  outside"
        print(f"{name:13} {value:7.3f} {mean:10.3f} {f'{low:.3f} .. {high:.3f}':>16} "
              f"{len(lengths[name]):9d}{verdict}")  # fmt: skip
    print("levels (share of images of each class whose clean square allows so many actions):")
    for allowed, share in zip(process.allowed, process.levels.mean(axis=0), strict=True):
        print(f"  {allowed.sum():2d} actions: {share:.3f}")


if __name__ == "__main__":
    main()
