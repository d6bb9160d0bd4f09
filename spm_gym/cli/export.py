"""Export a run: images for a classifier, episodes for offline learning, a learned table."""

from __future__ import annotations

import argparse
from pathlib import Path

from spm_gym.assembly.run_directory import existing_record
from spm_gym.cli.options import add_force, refuse_unwritable
from spm_gym.datasets.export import Whose, export_images
from spm_gym.datasets.offline import DATASET, export_episodes
from spm_gym.errors import UsageError
from spm_gym.paths import as_typed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="directory of the run")
    parser.add_argument(
        "--classifier",
        type=Path,
        metavar="FOLDER",
        help="copy the images of good and bad probes, as 'train.py classifier --data' takes them, "
        "with the labels that people gave (spm-gym label RUN_DIR)",
    )
    parser.add_argument(
        "--labels",
        choices=["people", "classifier"],
        help="with --classifier: whose labels; 'classifier': the opinions of the run's own "
        "classifier, which a new one would only learn to repeat (default: people)",
    )
    parser.add_argument(
        "--conditioning",
        action="store_true",
        help="with --labels classifier: those between conditioning actions too, if classified "
        "clearly",
    )
    parser.add_argument(
        "--offline",
        type=Path,
        metavar="FOLDER",
        help="write the finished conditioning episodes as a Minari dataset",
    )
    parser.add_argument(
        "--transitions",
        type=Path,
        metavar="FILE",
        help="write what a belief agent has learned of the actions, and its prior (.csv); also of "
        "a run of train.py, or of a checkpoint",
    )
    add_force(parser)
    parser.set_defaults(command=export)


def export(arguments: argparse.Namespace) -> int:
    """Write the datasets, and print what was left out."""
    images, episodes = arguments.classifier, arguments.offline
    transitions = arguments.transitions
    if images is None and episodes is None and transitions is None:
        raise UsageError(
            "name what to make: --classifier FOLDER, --offline FOLDER, --transitions FILE"
        )
    refuse_unwritable("--transitions", transitions, arguments.force)
    if arguments.labels and images is None:
        raise UsageError("--labels goes with --classifier")
    whose: Whose = arguments.labels or "people"
    if arguments.conditioning and (images is None or whose != "classifier"):
        raise UsageError(
            "--conditioning goes with --classifier and --labels classifier: people's labels are "
            "taken wherever they gave one"
        )
    if transitions is not None:
        from spm_gym.assembly.belief import export_transitions  # torch is slow to import

        export_transitions(arguments.run, transitions)
        print(f"{transitions}: {transitions.stat().st_size / 1e3:.0f} kB")
    if images is None and episodes is None:
        return 0
    run, config = existing_record(arguments.run)
    if images is not None:
        exported = export_images(run, images, config.env, whose, arguments.conditioning)
        print(f"{images}: {exported}")
        print(f"  train on it     python train.py classifier --data {as_typed(images)}")
    if episodes is not None:
        print(f"{episodes}: {export_episodes(run, episodes, config)}")
        print(
            f"  load it         MINARI_DATASETS_PATH={as_typed(episodes.absolute())} python -c "
            f"\"import minari; print(minari.load_dataset('{DATASET}').spec)\""
        )
    return 0
