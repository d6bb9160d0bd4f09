"""Serve a page on which people label scans with the keyboard, to train a classifier on them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from spm_gym.cli.options import add_config, add_set
from spm_gym.cli.page import add_address, serve_page
from spm_gym.config import Config, load_config
from spm_gym.errors import UsageError
from spm_gym.imaging.files import READERS

if TYPE_CHECKING:
    from spm_gym.types import Classifier

# Not the live page's: both may be open on the same computer.
PORT = 8766
NO_CLASSIFIER = "none"
_MOST_REASONS = 5
EPILOG = """examples:
  spm-gym label my_scans/                              .sxm, .gsf and .npy, also in folders below
  spm-gym label RUN_DIR                                the images of a run of spm-gym run
  spm-gym label my_scans/ --classifier mine.safetensors    what it is not sure of comes first
  spm-gym label my_scans/ --host 0.0.0.0 --token T     for phones in the same network

The labels are in manifest.csv in the folder, which spm-gym train classifier --data takes as it is.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="scans, or a run directory")
    parser.add_argument("--labeller", metavar="NAME", help="who labels; default: the page asks")
    parser.add_argument(
        "--classifier",
        metavar="FILE",
        help=f"rates the images first; {NO_CLASSIFIER!r}: nothing does (default: env.classifier)",
    )
    parser.add_argument(
        "--order",
        choices=["informative", "name", "random"],
        default="informative",
        help="which images come first (default: unlike one another, and not sure or unknown)",
    )
    add_config(parser)
    add_set(parser, "env.pixels=128")
    add_address(parser, PORT, "only needed together with --host")
    parser.set_defaults(command=label)


def label(arguments: argparse.Namespace) -> int:
    """Read and classify the images, then serve the page."""
    # Here, for they are slow to import, and every command would wait for them.
    from spm_gym.datasets.manifest import EARLIER, labeller_name
    from spm_gym.imaging.conditions import with_height_scale
    from spm_gym.imaging.preprocessing import Preprocessing
    from spm_gym.web.labelling.candidates import find_candidates, in_order, read_images
    from spm_gym.web.labelling.desk import Desk
    from spm_gym.web.labelling.labels import Labels
    from spm_gym.web.labelling.page import Setup, labelling

    folder: Path = arguments.folder
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder of scans")
    if arguments.labeller is not None and labeller_name(arguments.labeller) is None:
        raise UsageError(
            f"--labeller {arguments.labeller!r}: a name begins with a letter, has at most 40 "
            f"letters, digits and blanks, and is not {EARLIER!r}"
        )
    config = load_config(arguments.config, arguments.set)
    candidates = find_candidates(folder)
    if not candidates:
        raise UsageError(f"{folder}: there is no image to label ({', '.join(READERS)})")
    with Labels(folder, candidates) as labels:
        classifier = _classifier(config, arguments.classifier)
        env = config.env if classifier is None else with_height_scale(config.env, classifier)
        pixels, preprocessing = env.pixels, Preprocessing.of(env)
        with tqdm(total=len(candidates), desc="reading", unit="image", mininterval=1) as bar:
            images, refused = read_images(candidates, pixels, preprocessing, classifier, bar.update)
        # Training refuses a manifest with rows that it cannot read.
        labels.leave_out(refused)
        reasons = list(refused.values())
        _print_reasons("left out", reasons, _MOST_REASONS if images else len(reasons))
        if not images:
            raise UsageError(f"{folder}: there is no image to label among {len(candidates)} files")
        in_turn = in_order(images, arguments.order, labels.labelled_before, labels.labelled)
        desk = Desk(in_turn, labels)
        name = arguments.labeller and desk.known_as(arguments.labeller)
        _warn_of_manifest(folder)
        setup = Setup(folder, pixels, preprocessing, name, reasons)
        return serve_page(
            arguments,
            lambda access: labelling(desk, setup, access),
            f"{len(images)} images to label",
            # Labels concern only files of the person who has started the page.
            acting_is_free=True,
        )


def _classifier(config: Config, classifier: str | None) -> Classifier | None:
    if classifier == NO_CLASSIFIER:
        return None
    from agents.classifier import ProbeClassifier  # torch is slow to import
    from spm_gym.assembly.process import prepare_process
    from spm_gym.assembly.shipped_weights import shipped_classifier

    prepare_process(config.run.threads)
    # Whatever it was trained for: here it only puts images in order, and nothing is done on it.
    given = config.env.classifier if classifier is None else Path(classifier)
    return ProbeClassifier.load(given or shipped_classifier())


def _warn_of_manifest(folder: Path) -> None:
    from spm_gym.datasets.labelled_folder import untrainable
    from spm_gym.datasets.manifest import MANIFEST

    manifest = folder / MANIFEST
    refused_rows = untrainable(manifest) if manifest.is_file() else []
    if number := len(refused_rows):
        print(f"{manifest}: training will refuse {number} of its rows; repair or delete them")
        _print_reasons("refused", refused_rows, number)


def _print_reasons(what: str, reasons: Sequence[str], most: int) -> None:
    for reason in reasons[:most]:
        print(f"{what}: {reason}")
    if len(reasons) > most:
        print(f"{what}: {len(reasons) - most} more: the page lists all of them under Train")
