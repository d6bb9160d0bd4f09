"""Worlds claim: scores of the included agent and classifier in worlds of other settings.

    python benchmarks/worlds.py --configs configs/default.yaml configs/lab-4k.yaml

The agent takes turns with random choice and the optimum; score: (random - agent) / (random -
optimum) of the mean actions per episode. The classifier classifies freshly simulated images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from agents.baselines import OraclePolicy, RandomPolicy
from agents.classifier import ProbeClassifier
from agents.classifier_report import score
from agents.evaluation import Episode, interleave, summarise
from agents.weights import load_weights
from spm_gym.assembly.environment import make_env
from spm_gym.assembly.process import limit_threads
from spm_gym.assembly.shipped_weights import shipped_agent, shipped_classifier
from spm_gym.config import Config, load_config
from spm_gym.datasets.simulated import prepared_images
from spm_gym.envs.optimum import reference_process
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Policy

ROOT = Path(__file__).parent.parent
WORLDS = [ROOT / "configs" / name for name in ("default.yaml", "lab-4k.yaml")]


def main() -> None:
    """Measure every world and print a row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", nargs="+", type=Path, default=WORLDS, metavar="FILE")
    parser.add_argument("--episodes", type=int, default=200, help="of each policy; default: 200")
    parser.add_argument("--images", type=int, default=4000, help="default: 4000")
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    arguments = parser.parse_args()
    limit_threads(1)
    rows = {}
    for path in arguments.configs:
        config = load_config(path, [])
        rows[path.stem] = row = {
            **evaluate(config, arguments.episodes, arguments.seed),
            **classifier(config, arguments.images, arguments.seed),
        }
        lengths = ", ".join(f"{name} {length:.2f}" for name, length in row["lengths"].items())
        low, high = row["score_ci95"]
        print(
            f"{path.stem}: {lengths}; score {row['score']:.3f} ({low:.3f} .. {high:.3f}), ends "
            f"with a truly good tip in {row['truly_good']:.1%}; AUC {row['auc']:.5f}, "
            f"TPR {row['tpr']:.2%}, FPR {row['fpr']:.3%}",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def evaluate(config: Config, episodes: int, seed: int) -> dict[str, Any]:
    """Count the actions of agent, random choice and optimum, in turn on one microscope."""
    env = make_env(config)
    microscope = env.instrument
    assert isinstance(microscope, SimulatedMicroscope)
    names = [action.name for action in config.env.actions]
    policies: dict[str, Policy] = {
        "agent": load_weights(shipped_agent(), env, config.agent, names, seed),
        "random": RandomPolicy(np.random.default_rng(seed)),
        "oracle": OraclePolicy(reference_process(config).oracle, lambda: microscope.truth.index),
    }
    results: dict[str, list[Episode]] = {name: [] for name in policies}
    good = []
    for name, episode in interleave(env, policies, episodes, seed):
        results[name].append(episode)
        if name == "agent":
            good.append(microscope.truth.good)
    summary = summarise(results, seed)
    return {
        "lengths": {name: policy["mean_length"] for name, policy in summary["policies"].items()},
        "score": summary["normalised_score"]["value"],
        "score_ci95": summary["normalised_score"]["ci95"],
        "truly_good": float(np.mean(good)),
    }


def classifier(config: Config, count: int, seed: int) -> dict[str, float]:
    """Score the included classifier on images of this world."""
    images = prepared_images(config, count, seed)
    classifier = ProbeClassifier.load(shipped_classifier())
    report = score(classifier(images.observations), images.good, config.env.good_above)
    return {"auc": report.auc, "tpr": report.tpr, "fpr": report.fpr}


if __name__ == "__main__":
    main()
