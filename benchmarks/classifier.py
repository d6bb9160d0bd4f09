"""Classifier claim: its scores on freshly simulated images of seeds that are not in its training.

python benchmarks/classifier.py --images 20000 --seed 1234
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from agents.classifier import ProbeClassifier
from agents.classifier_report import score
from spm_gym.assembly.process import limit_threads
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import load_config
from spm_gym.datasets.simulated import prepared_images


def main() -> None:
    """Print the report and the false positives by hidden state."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classifier", type=Path, default=shipped_classifier())
    parser.add_argument("--config", type=Path, help="settings of the simulator")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=987_654)
    arguments = parser.parse_args()
    limit_threads(1)
    config = load_config(arguments.config)
    images = prepared_images(config, arguments.images, arguments.seed)
    classifier = ProbeClassifier.load(arguments.classifier)
    probability = classifier(images.observations)
    threshold = config.env.good_above
    print(score(probability, images.good, threshold).table())
    print(f"called good above {threshold:g}, by hidden state:")
    for state in np.unique(images.state):
        members = images.state == state
        share = (probability[members] > threshold).mean()
        print(f"  state {state:2d}: {share:7.2%} of {members.sum()}")


if __name__ == "__main__":
    main()
