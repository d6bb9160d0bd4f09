"""Belief agent: actions per episode after some hundred actions of learning.

    python benchmarks/belief.py --seeds 2 --steps 100 300 1500 5360
    python benchmarks/belief.py --prior simulator --steps 0 300

The included recogniser is made again by

    python benchmarks/belief.py --train --steps --save spm_gym/data/recogniser.safetensors

in some two minutes of one core. An agent learns on the simulator; after each number of actions it
is evaluated without exploring, in turns with random choice and the oracle on another microscope. An
episode is finished before an evaluation begins.
Score: (random - agent) / (random - oracle) of the mean actions per episode.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from scoring import belief_agent, evaluate, learning_seeds, reference_table
from tqdm import tqdm

from agents.belief.agent import BeliefAgent
from agents.belief.recogniser import Recogniser
from agents.belief.recogniser_training import (
    ClassedImages,
    RecogniserTraining,
    score_recogniser,
)
from agents.evaluation import run_episode
from spm_gym.assembly.environment import make_env
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.recogniser_training import train_recogniser
from spm_gym.assembly.shipped_weights import shipped_recogniser
from spm_gym.config import Config, load_config
from spm_gym.datasets.simulated import prepared_images
from spm_gym.envs.hidden_process import HiddenProcess
from spm_gym.envs.optimum import reference_process

_TEST_SEED = 0x726563
_TEST_IMAGES = 3000


def main() -> None:
    """Load or train a recogniser, let agents learn, print a row for every evaluation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recogniser", type=Path, default=shipped_recogniser())
    parser.add_argument("--train", action="store_true", help="train a recogniser, load none")
    parser.add_argument("--images", type=int, default=30_000, help="to train it with")
    parser.add_argument("--save", type=Path, help="where to write the recogniser")
    parser.add_argument("--steps", type=int, nargs="*", default=[100, 300, 1500])
    parser.add_argument("--prior", choices=("none", "simulator"), default="none")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=300, help="of each policy; default: 300")
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value")
    arguments = parser.parse_args()
    prepare_process(1)
    config = load_config(None, arguments.set)
    recogniser = recognise(arguments, config)
    process = reference_process(config)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        measure(arguments, config, recogniser, process, seed)


def recognise(arguments: argparse.Namespace, config: Config) -> Recogniser:
    """Load or train the recogniser, and print its score on images of the settings."""
    if not arguments.train:
        recogniser = Recogniser.load(arguments.recogniser)
    else:
        started = time.process_time()
        with tqdm(total=arguments.images, desc="images", unit="image", mininterval=1) as bar:
            recogniser = train_recogniser(
                config, arguments.images, 0, RecogniserTraining(), bar.update,
                lambda epoch, loss: bar.set_postfix(epoch=epoch, loss=f"{loss:.3f}"),
            )  # fmt: skip
        print(f"recogniser trained in {time.process_time() - started:.0f} CPU seconds")
    if arguments.save is not None:
        recogniser.save(arguments.save)
    test = prepared_images(config, _TEST_IMAGES, _TEST_SEED)
    images = ClassedImages(test.observations.astype(np.float16), test.state)
    score = score_recogniser(recogniser, images)
    print(f"recogniser: accuracy {score.accuracy:.3f}, cross-entropy {score.cross_entropy:.3f}")
    return recogniser


def measure(
    arguments: argparse.Namespace,
    config: Config,
    recogniser: Recogniser,
    process: HiddenProcess,
    seed: int,
) -> None:
    """Let one agent learn, and evaluate it after each number of actions."""
    first: int | None
    first, draws = learning_seeds(seed)
    table = reference_table(config) if arguments.prior == "simulator" else None
    agent = belief_agent(config, recogniser, np.random.default_rng(draws), table)
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
