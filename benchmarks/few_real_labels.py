"""Real images with few labels: what pretraining without labels brings on other sessions.

    python benchmarks/few_real_labels.py --data images.npz

The images are divided into parts by session. Of each part the other sessions give the labels, a
random few of them, and all of their images, without labels, pretrain a network (`train.py
classifier`, ``classifier.start=pretrained``); no image of the part itself is used before it is
scored. A single network from scratch and one that is pretrained learn from the same labels, and so
does the small network on statistics that stands beside either of them (`classifier.statistics`).
Intervals are of 95 %, over the parts, each the mean over its draws of labels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from learning_report import markdown_table
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from agents.classifier import ProbeClassifier
from agents.classifier_fit import fit
from agents.labelled import Labelled, divisions
from agents.pretraining import pretrain
from agents.statistics_network import fit_statistics
from agents.vgg import VGG
from spm_gym.assembly.process import limit_threads
from spm_gym.config import LAB, LAB_PRETRAINED, ClassifierConfig
from spm_gym.datasets.labelled import load_labelled
from spm_gym.imaging import normalise
from spm_gym.imaging.statistics import image_statistics
from spm_gym.intervals import mean_interval

_ALL = 0
_COLUMNS = ("statistics", "scratch", "pretrained", "scratch + statistics",
            "pretrained + statistics")  # fmt: skip


def main() -> None:
    """Measure and print the learning curve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder or .npz of images")
    parser.add_argument(
        "--labels", type=int, nargs="+", default=[100, 300, 1000, _ALL],
        help="numbers of them, 0 for all; default: 100 300 1000 0",
    )  # fmt: skip
    parser.add_argument("--parts", type=int, default=5, help="of the sessions; default: 5")
    parser.add_argument("--draws", type=int, default=2, help="of labels; default: 2")
    parser.add_argument("--seed", type=int, default=0, help="of parts, labels and weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures here, part by part")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    print(report(measure(arguments), arguments.labels))


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Train with and without pretraining; returns the areas by part, labels and draw."""
    loaded = load_labelled(arguments.data, LAB["pixels"], "levels")
    images = np.stack([normalise(z, "image") for z in loaded.heights])
    labelled = Labelled(images, loaded.good, loaded.share)
    config = ClassifierConfig(**LAB | {"folds": arguments.parts})
    figures: list[dict[str, Any]] = []
    parts = divisions(loaded.good, loaded.session, config, arguments.seed)
    for number, (training, held_out) in enumerate(tqdm(parts, unit="part")):
        start = pretrain(images[training], config, arguments.seed + number)
        for labels in arguments.labels:
            for draw in range(1 if labels == _ALL else arguments.draws):
                rng = np.random.default_rng([arguments.seed, number, labels, draw])
                chosen = rng.choice(training, labels or len(training), replace=False)
                areas = _areas(labelled[chosen], labelled[held_out], draw, start)
                figures.append({"part": number, "labels": labels, "draw": draw} | areas)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def report(figures: list[dict[str, Any]], labels: list[int]) -> str:
    """Format means over the parts with their intervals, and what pretraining adds."""
    rows = []
    for count in labels:
        chosen = [each for each in figures if each["labels"] == count]
        parts = sorted({each["part"] for each in chosen})
        means = {
            name: np.array([
                np.mean([each[name] for each in chosen if each["part"] == part]) for part in parts
            ])
            for name in _COLUMNS
        }  # fmt: skip
        gains = [means["pretrained"] - means["scratch"],
                 means["pretrained + statistics"] - means["scratch + statistics"]]  # fmt: skip
        rows.append([str(count or "all"), *map(_with_interval, [*means.values(), *gains])])
    header = ["labels", *_COLUMNS, "pretraining adds", "... beside statistics"]
    return markdown_table(header, rows)


def _areas(training: Labelled, held_out: Labelled, seed: int, start: VGG) -> dict[str, float]:
    """Train with and without pretraining, and measure areas under the ROC curve."""
    statistics = fit_statistics(training, LAB["good_weight"], seed).answer(
        image_statistics(held_out.images[:, None])
    )
    outputs = {"statistics": statistics}
    for name, settings, trunk in (("scratch", LAB, None), ("pretrained", LAB_PRETRAINED, start)):
        network, _ = fit(training, ClassifierConfig(**settings), seed, start=trunk)
        outputs[name] = ProbeClassifier([network], average_flips=True).outputs(
            held_out.images[:, None]
        )
        # The command fits the weight to images that were held out; here both count the same.
        outputs[f"{name} + statistics"] = outputs[name] + statistics
    return {name: float(roc_auc_score(held_out.good, outputs[name])) for name in _COLUMNS}


def _with_interval(values: NDArray[np.float64]) -> str:
    mean, (low, high) = mean_interval(values.tolist())
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
