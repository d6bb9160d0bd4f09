"""One training run of the classifier, on simulated images or on a folder of labelled ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from agents import classifier
from agents.board import write_closing, write_opening
from spm_gym.cli.process import prepare_process
from spm_gym.cli.run_directory import TENSORBOARD
from spm_gym.config import Config
from spm_gym.imaging.folder import LabelledImages, load_folder
from spm_gym.prepared import prepared_images
from spm_gym.types import BoolArray

Labelled = tuple[NDArray[np.float32], BoolArray, NDArray[np.str_]]


def train_classifier(
    config: Config,
    create_run: Callable[[], AbstractContextManager[Path]],
    data: Path | None,
    output: Path | None,
) -> int:
    """Train on what the settings or ``data`` give.

    Args:
        config: Settings of the run.
        create_run: Makes the run directory, which gets the classifier and its report, and keeps it
            from others.
        data: Folder of labelled images; None for simulated ones.
        output: Where else to write the classifier.

    Returns:
        Exit status.
    """
    prepare_process(config.run.threads)
    loaded = None if data is None else load_folder(data, config.env.pixels, config.env.plane)
    with create_run() as run:
        images, good, session = _simulated(config) if loaded is None else _as_told(loaded, config)
        with SummaryWriter(str(run / TENSORBOARD)) as writer:
            write_opening(writer, config, "classifier", run)
            trained = classifier.train_classifier(
                images, good, session, config.classifier, config.seed, run, writer=writer
            )
            write_closing(writer)
        if output is not None:
            trained.save(output)
    print(f"trained on {len(good)} images: {output or run / 'classifier.safetensors'}")
    return 0


def _simulated(config: Config) -> Labelled:
    count = config.classifier.images
    with tqdm(total=count, desc="images", unit="image", mininterval=1) as bar:
        simulated = prepared_images(
            config, count, config.seed, processes=config.run.threads, progress=bar.update
        )
    return simulated.observations[:, 0], simulated.good, np.full(count, "simulated")


def _as_told(loaded: LabelledImages, config: Config) -> Labelled:
    _tell(loaded, config.env.pixels)
    return loaded.images, loaded.good, loaded.session


def _tell(loaded: LabelledImages, pixels: int) -> None:
    sessions = len(set(loaded.session))
    print(f"{loaded.good.sum()} good and {(~loaded.good).sum()} bad images, {sessions} sessions")
    sizes = ", ".join(f"{count} of {side} x {side} px" for side, count in loaded.averaged.items())
    if sizes:
        print(f"  averaged to {pixels} x {pixels} px: {sizes}")
    for label, count in loaded.ignored.items():
        print(
            f"  left out: {count} labelled {label!r}"
            if label
            else f"  left out: {count} unlabelled"
        )
