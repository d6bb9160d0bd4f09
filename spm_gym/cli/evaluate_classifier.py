"""Score a classifier on labelled images, without training."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from spm_gym.atomic_file import written_whole
from spm_gym.cli.options import add_config, add_force, add_set, refuse_unwritable
from spm_gym.config import load_config
from spm_gym.errors import UsageError

_FIGURES = {
    "auc": "area under ROC curve",
    "auc_agreed": "where people agree",
    "ece": "calibration error",
    "true_positive_rate": "true-positive rate",
    "false_positive_rate": "false-positive rate",
    "good_share": "called good",
    "unknown_share": "unknown",
}

EPILOG = """An image that is unlike all that the classifier was trained with is unknown, and called
neither good nor bad. Intervals of 95 % are those of a bootstrap over sessions.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--classifier", type=Path, metavar="FILE", help="default: that of the settings"
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="PATH",
        help="folder of images with labels, or .npz file (docs/classifier.md)",
    )  # fmt: skip
    parser.add_argument(
        "--threshold", type=float, metavar="P",
        help="call images good above it; default: the one that its training recommended",
    )  # fmt: skip
    add_config(parser, "default: configs/default.yaml")
    add_set(parser, "env.plane=ransac")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw curves and the worst mistakes"
    )
    add_force(parser)
    parser.set_defaults(command=score)


def score(arguments: argparse.Namespace) -> int:
    """Score, print the figures and write what is asked for."""
    threshold = arguments.threshold
    # Not negated: a comparison with NaN is false.
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"--threshold must be a probability, from 0 to 1, not {threshold:g}")
    for option, path in (("--json", arguments.json), ("--plot", arguments.plot)):
        refuse_unwritable(option, path, arguments.force)
    changes = list(arguments.set)
    if arguments.classifier is not None:
        changes.append(f"env.classifier={json.dumps(str(arguments.classifier))}")
    config = load_config(arguments.config, changes)

    from spm_gym.assembly.classifier_score import score_classifier  # torch is slow to import

    scored = score_classifier(config, arguments.data, threshold)
    print(table(scored.summary))
    if arguments.json is not None:
        # NaN is no JSON: other programs would refuse the whole file.
        text = json.dumps(scored.summary, indent=1, allow_nan=False)
        with written_whole(arguments.json) as beside:
            beside.write_text(text + "\n", encoding="utf-8")
    if arguments.plot is not None:
        from agents.classifier_report import reliability_bins
        from spm_gym.figures.classifier_score import draw_score

        good = scored.good
        bins = () if good is None else reliability_bins(scored.probability, good)
        figure = draw_score(
            scored.images, scored.probability, scored.unknown, good, scored.names,
            [(each.probability, each.good) for each in bins], scored.summary["threshold"],
        )  # fmt: skip
        with written_whole(arguments.plot) as beside:
            figure.savefig(beside)
    return 0


def table(summary: dict[str, Any]) -> str:
    """Format a summary for the terminal."""
    kinds = f"{summary['good']} good and {summary['bad']} bad images"
    if summary["good"] is None:
        kinds = f"{summary['images']} images without labels"
    lines = [
        f"{kinds}, {summary['sessions']} sessions",
        f"{'called good above':22} {summary['threshold']:g}",
    ]
    for name, words in _FIGURES.items():
        value, interval = summary[name], summary["ci95"][name]
        if value is None:
            lines.append(f"{words:22} -")
        else:
            low, high = interval or (value, value)
            line = f"{words:22} {value:.4f}  ({low:.4f} .. {high:.4f})"
            if name == "ece":
                line += f", {summary['ece_calibrated']:.4f} of calibrated ones"
            lines.append(line)
    return "\n".join(lines)
