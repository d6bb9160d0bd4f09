"""Real, labelled images: the classifier's training beside gradient boosting, fold by fold.

    python benchmarks/real_images.py --data images.npz

The images are divided into five folds by session; of each fold the others train a network, with the
settings of `train.py classifier`, the small network on statistics of the image that goes with it
(spectrum, heights, noise of lines, directions), and gradient boosting (scikit-learn) on the same
statistics. All are asked about the same images; "both" is the sum of the two networks, with the
weight that suits the other folds. Then the command's whole training, with all sessions but some, is
scored on those (``--sessions``).
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from learning_report import markdown_table
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from agents.calibration import fitted_mixture, fitted_temperature
from agents.classifier import ProbeClassifier
from agents.classifier_fit import fit
from agents.classifier_report import calibration_error
from agents.classifier_score import summarise_score
from agents.classifier_training import train_classifier
from agents.labelled import Labelled, divisions
from agents.statistics_network import fit_statistics
from spm_gym.assembly.process import limit_threads
from spm_gym.cli.evaluate_classifier import table
from spm_gym.config import LAB, ClassifierConfig
from spm_gym.datasets.labelled import load_labelled
from spm_gym.imaging import normalise
from spm_gym.imaging.conditions import TrainingConditions
from spm_gym.imaging.statistics import image_statistics
from spm_gym.types import BoolArray

NAMES = ("network", "statistics", "both", "boosting")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder or .npz of images")
    parser.add_argument("--seed", type=int, default=0, help="of folds and weights; default: 0")
    parser.add_argument("--pixels", type=int, default=LAB["pixels"], help="side of the images")
    parser.add_argument(
        "--sessions", type=int, default=8, help="that the whole training does not see; default: 8"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    figures = measure(arguments.data, arguments.pixels, arguments.seed)
    rows = [[name, *(f"{figures[name][key]:.3f}" for key in ("auc", "agreed", "ece", "seconds"))]
            for name in NAMES]  # fmt: skip
    print(markdown_table(["", "AUC", "AUC where people agree", "ECE", "seconds a fold"], rows))
    for name in NAMES:
        print(name, "AUC of the folds:", *(f"{auc:.3f}" for auc in figures[name]["folds"]))
    figures["unseen"] = unseen(arguments.data, arguments.pixels, arguments.seed, arguments.sessions)
    print(table({"classifier": "", "data": "", **figures["unseen"]}))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(data: Path, pixels: int, seed: int) -> dict[str, Any]:
    """Train both on every fold, and score them on the images that were held out."""
    loaded = load_labelled(data, pixels, "levels")
    config = ClassifierConfig(**LAB)
    images = np.stack([normalise(z, "image") for z in loaded.heights])
    labelled = Labelled(images, loaded.good, loaded.share, raters=loaded.raters)
    statistics = image_statistics(images[:, None])
    logits = {name: np.zeros(len(images)) for name in NAMES}
    seconds = dict.fromkeys(logits, 0.0)
    parts = divisions(loaded.good, loaded.session, config, seed)
    for number, (training, held_out) in enumerate(tqdm(parts, unit="fold")):
        times = [time.monotonic()]
        network, _ = fit(labelled[training], config, seed + number)
        member = ProbeClassifier([network], average_flips=config.average_flips)
        logits["network"][held_out] = member.outputs(images[held_out][:, None])
        times.append(time.monotonic())
        other = fit_statistics(labelled[training], config.good_weight, seed + number)
        logits["statistics"][held_out] = other.answer(statistics[held_out])
        times.append(time.monotonic())
        boosting = HistGradientBoostingClassifier(
            max_iter=200, learning_rate=0.05, random_state=seed
        ).fit(statistics[training], loaded.good[training])
        logits["boosting"][held_out] = boosting.decision_function(statistics[held_out])
        times.append(time.monotonic())
        for name, spent in zip(("network", "statistics", "boosting"), np.diff(times), strict=True):
            seconds[name] += spent / len(parts)
    seconds["both"] = seconds["network"] + seconds["statistics"]
    for training, held_out in parts:
        # The weight of the other folds: that of these images would flatter.
        outputs = logits["network"], logits["statistics"]
        _, weight = fitted_mixture(*(each[training] for each in outputs), loaded.good[training])
        logits["both"][held_out] = outputs[0][held_out] + weight * outputs[1][held_out]
    return {
        name: _figures(each, loaded.good, labelled.agreed, parts) | {"seconds": seconds[name]}
        for name, each in logits.items()
    }


def unseen(data: Path, pixels: int, seed: int, sessions: int) -> dict[str, Any]:
    """Train as `train.py classifier` does without some sessions, and score on these."""
    loaded = load_labelled(data, pixels, "levels")
    images = np.stack([normalise(z, "image") for z in loaded.heights])
    order = np.random.default_rng(seed).permutation(np.unique(loaded.session))
    chosen = np.isin(loaded.session, order[:sessions])
    labelled = Labelled(images, loaded.good, loaded.share, raters=loaded.raters)
    training = labelled[np.flatnonzero(~chosen)]
    config = ClassifierConfig(**LAB)
    conditions = TrainingConditions("real")
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        classifier = train_classifier(
            training, loaded.session[~chosen], config, 0.9, seed, Path(folder), conditions, False
        )
    fresh, good = images[chosen][:, None], loaded.good[chosen]
    probability = classifier.probability(fresh).astype(np.float64)
    return summarise_score(
        probability, classifier.unknown(fresh), good, loaded.session[chosen],
        classifier.summary["validation"]["recommended"], labelled.agreed[chosen],
    )  # fmt: skip


def _figures(
    logits: NDArray[np.float64],
    good: BoolArray,
    agreed: BoolArray,
    parts: list[tuple[NDArray[np.intp], NDArray[np.intp]]],
) -> dict[str, Any]:
    """Compute AUC, fold by fold and where people agree, and the calibrated error."""
    folds = [float(roc_auc_score(good[part], logits[part])) for _, part in parts]
    sure = [float(roc_auc_score(good[chosen], logits[chosen])) for _, part in parts
            if 0 < good[chosen := part[agreed[part]]].sum() < len(chosen)]  # fmt: skip
    errors = []
    for training, part in parts:
        # The temperature of the other folds: that of these images would flatter.
        temperature = fitted_temperature(logits[training], good[training])
        errors.append(calibration_error(1 / (1 + np.exp(-logits[part] / temperature)), good[part]))
    return {
        "folds": folds,
        "auc": float(np.mean(folds)),
        "agreed": float(np.mean(sure)) if sure else float("nan"),
        "ece": float(np.mean(errors)),
    }


if __name__ == "__main__":
    main()
