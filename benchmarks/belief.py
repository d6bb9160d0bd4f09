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
import time
from pathlib import Path
from typing import Any

import numpy as np

from agents.baselines import OraclePolicy, RandomPolicy
from agents.belief.agent import BeliefAgent
from agents.belief.belief import VerdictRates
from agents.belief.recogniser import Recogniser
from agents.belief.recogniser_report import report_table, score_recogniser
from agents.classifier import ProbeClassifier
from agents.evaluation import Episode, interleave, run_episode, summarise
from spm_gym.assembly.environment import make_env
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.recogniser import load_recogniser
from spm_gym.assembly.recogniser_images import validation_images
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import Config, load_config
from spm_gym.envs.ground_truth import with_truth
from spm_gym.envs.hidden_process import HiddenProcess
from spm_gym.envs.optimum import reference_process
from spm_gym.instrument.sim.simulated import SimulatedMicroscope

_LEARNING, _EVALUATION = 1, 2
"""Set the worlds of learning and evaluation apart."""

_TEST_SEED = 0x726563


def main() -> None:
    """Score a recogniser, let agents learn, print a row for every evaluation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recogniser", type=Path, metavar="FILE", help="default: the included one")
    parser.add_argument("--steps", type=int, nargs="*", default=[100, 300, 1500])
    parser.add_argument("--prior", choices=("none", "simulator"), default="none")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=300, help="of each policy; default: 300")
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value")
    arguments = parser.parse_args()
    prepare_process(1)
    config = load_config(None, arguments.set)
    recogniser = load_recogniser(arguments.recogniser, config)
    images = validation_images(config, _TEST_SEED)
    print(
        report_table({lines: score_recogniser(recogniser, each) for lines, each in images.items()})
    )
    process = reference_process(config)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        measure(arguments, config, recogniser, process, seed)


def measure(
    arguments: argparse.Namespace,
    config: Config,
    recogniser: Recogniser,
    process: HiddenProcess,
    seed: int,
) -> None:
    """Let one agent learn, and evaluate it after each number of actions."""
    world, *draws = np.random.SeedSequence([_LEARNING, seed]).spawn(2)
    table = reference_table(config) if arguments.prior == "simulator" else None
    agent = BeliefAgent(
        recogniser, classifier_rates(), len(config.env.actions), np.random.default_rng(draws[0]),
        table,
    )  # fmt: skip
    env = make_env(config)
    first: int | None = int(world.generate_state(1)[0])
    spent = 0.0
    for steps in arguments.steps:
        started = time.process_time()
        while agent.steps < steps:
            run_episode(env, agent, first, agent.learn_from)
            first = None
        spent += time.process_time() - started
        print(
            row(seed, agent, evaluate(arguments, config, agent, process, seed), spent), flush=True
        )


def classifier_rates() -> VerdictRates:
    """Read how often the included classifier is right, from its validation."""
    found = ProbeClassifier.load(shipped_classifier()).summary["validation"]
    return VerdictRates(found["tpr"], found["fpr"])


def reference_table(config: Config) -> np.ndarray:
    """Transitions of the included table, also if the settings name another."""
    simulator = config.simulator.model_copy(update={"transitions": None})
    return reference_process(config.model_copy(update={"simulator": simulator})).steps


def evaluate(
    arguments: argparse.Namespace,
    config: Config,
    agent: BeliefAgent,
    process: HiddenProcess,
    seed: int,
) -> dict[str, Any]:
    """Play episodes of the agent, random choice and the oracle in turn."""
    env = make_env(config)
    microscope = env.instrument
    assert isinstance(microscope, SimulatedMicroscope)
    world, draws = np.random.SeedSequence([_EVALUATION, seed]).spawn(2)
    policies = {
        "agent": agent,
        "random": RandomPolicy(np.random.default_rng(draws)),
        "oracle": OraclePolicy(process.oracle, lambda: microscope.truth.index),
    }
    results: dict[str, list[Episode]] = {name: [] for name in policies}
    first = int(world.generate_state(1)[0])
    for name, episode in interleave(with_truth(env), policies, arguments.episodes, first):
        results[name].append(episode)
    return summarise(results, seed)


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
