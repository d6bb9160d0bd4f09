"""Classifiers from 150 labels of another molecule: with and without the included trunk.

    python benchmarks/few_labels.py

124 good and 26 bad simulated images of PTCDA, as a person may label them who picks uncertain ones
on a good evening; tested on fresh ones, equally many of either kind. The included classifier was
trained on another molecule.
"""

from __future__ import annotations

import argparse
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from agents.classifier import ProbeClassifier
from agents.classifier_report import score
from agents.classifier_training import train_classifier
from agents.labelled import Labelled
from spm_gym.assembly.process import limit_threads
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import ClassifierConfig, EnvConfig, load_config
from spm_gym.datasets.simulated import prepared_images
from spm_gym.imaging.conditions import TrainingConditions
from spm_gym.instrument.sim.dynamics import STATES

USUAL = EnvConfig().good_above


def main() -> None:
    """Train each variant with every seed and print its scores at both thresholds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds; default: 3")
    parser.add_argument("--good", type=int, default=124)
    parser.add_argument("--bad", type=int, default=26)
    parser.add_argument("--fresh", type=int, default=300, help="of either kind; default: 300")
    parser.add_argument("--molecule", default="PTCDA")
    arguments = parser.parse_args()
    limit_threads(1)
    included = ProbeClassifier.load(shipped_classifier())
    variants = {"from scratch, ten epochs": (10, None), "from scratch": (None, None),
                "from the included trunk": (None, included.network)}  # fmt: skip
    for seed in range(arguments.seeds):
        few = images(arguments, arguments.good, arguments.bad, seed)
        fresh = images(arguments, arguments.fresh, arguments.fresh, 1000 + seed)
        show("as included, untrained", included, fresh, USUAL)
        for name, (epochs, start) in variants.items():
            config = ClassifierConfig(epochs=epochs, refuse_poor=False)
            with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
                trained = train_classifier(
                    few, np.full(few.good.size, "an evening"), config, USUAL,
                    seed, Path(folder), TrainingConditions("simulated"), progress=False,
                    start=start,
                )  # fmt: skip
            show(name, trained, fresh, trained.summary["validation"]["recommended"])


def images(arguments: argparse.Namespace, good: int, bad: int, seed: int) -> Labelled:
    """Simulate images of good and bad probes, as many as asked for."""
    config = load_config(None, [f"simulator.molecule={arguments.molecule}"])
    states = np.random.default_rng(seed).integers(1, STATES, good + bad)
    states[:good] = 0
    simulated = prepared_images(config, good + bad, seed, states)
    return Labelled(simulated.observations[:, 0], simulated.good)


def show(name: str, classifier: ProbeClassifier, fresh: Labelled, recommended: float) -> None:
    """Print one line with the scores on fresh images."""
    probability = classifier.probability(fresh.images[:, None])
    usual, advised = (score(probability, fresh.good, at) for at in (USUAL, recommended))
    print(
        f"{name:25} AUC {usual.auc:.3f}"
        f"  at {USUAL:g}: finds {usual.tpr:6.1%}, passes {usual.fpr:6.1%}"
        f"  at {recommended:g}: finds {advised.tpr:6.1%}, passes {advised.fpr:6.1%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
