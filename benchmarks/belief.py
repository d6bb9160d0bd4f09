"""Belief agent: actions per episode after some hundred actions of learning.

    python benchmarks/belief.py --seeds 2 --steps 100 300 1500 5360
    python benchmarks/belief.py --prior simulator --steps 0 300

The recogniser, the included one or one of train.py recogniser, is scored first. An agent learns on
the simulator; after each number of actions it is evaluated without exploring, in turns with random
choice and the oracle on another microscope. An episode is finished before an evaluation begins.
Score: (random - agent) / (random - oracle) of the mean actions per episode.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from scoring import evaluate, learning_seeds

from agents.belief.agent import BeliefAgent
from agents.belief.recogniser_report import report_table, score_recogniser
from agents.evaluation import run_episode
from spm_gym.assembly.belief import new_belief_agent
from spm_gym.assembly.environment import make_env
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.recogniser import load_recogniser
from spm_gym.assembly.recogniser_images import validation_images
from spm_gym.config import Config, load_config
from spm_gym.envs.hidden_process import HiddenProcess
from spm_gym.envs.optimum import reference_process

_TEST_SEED = 0x726563


def main() -> None:
    """Score a recogniser, let agents learn, print a row for every evaluation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recogniser", metavar="FILE", help="default: the included one")
    parser.add_argument("--steps", type=int, nargs="*", default=[100, 300, 1500])
    parser.add_argument("--prior", choices=("none", "simulator"), default="none")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=300, help="of each policy; default: 300")
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value")
    arguments = parser.parse_args()
    prepare_process(1)
    own = [
        f"agent.belief.prior={arguments.prior}",
        f"agent.belief.recogniser={json.dumps(arguments.recogniser)}",
    ]
    config = load_config(None, [*own, *arguments.set])
    recogniser = load_recogniser(config)
    images = validation_images(config, _TEST_SEED)
    print(
        report_table({lines: score_recogniser(recogniser, each) for lines, each in images.items()})
    )
    process = reference_process(config)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        measure(arguments, config, process, seed)


def measure(
    arguments: argparse.Namespace,
    config: Config,
    process: HiddenProcess,
    seed: int,
) -> None:
    """Let one agent learn, and evaluate it after each number of actions."""
    first: int | None
    first, draws = learning_seeds(seed)
    agent = new_belief_agent(config, np.random.default_rng(draws))
    env = make_env(config)
    spent = 0.0
    for steps in arguments.steps:
        started = time.process_time()
        while agent.steps < steps:
            run_episode(env, agent, first, agent.learn_from)
            first = None
        spent += time.process_time() - started
        summary = evaluate(make_env(config), agent, process, arguments.episodes, seed)
        print(row(seed, agent, summary, spent), flush=True)


def row(seed: int, agent: BeliefAgent, summary: dict[str, Any], spent: float) -> str:
    """One evaluation for the terminal."""
    lengths = "  ".join(
        f"{name} {policy['mean_length']:5.2f}" for name, policy in summary["policies"].items()
    )
    score, interval = summary["normalised_score"]["value"], summary["normalised_score"]["ci95"]
    text = "-" if score is None else f"{score:.3f}"
    if interval is not None:
        text += f" ({interval[0]:.3f} .. {interval[1]:.3f})"
    return (
        f"seed {seed}, {agent.steps:5d} actions: {lengths}  score {text}  "
        f"learning {spent:.1f} CPU seconds"
    )


if __name__ == "__main__":
    main()
