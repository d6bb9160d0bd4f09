"""One training run of the classifier, on simulated images or on a folder of labelled ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from agents import classifier
from spm_gym.cli.run_directory import TENSORBOARD
from spm_gym.cli.threads import limit_threads
from spm_gym.config import Config
from spm_gym.imaging import level, normalise
from spm_gym.imaging.folder import LabelledImages, load_folder
from spm_gym.instrument.sim.images import simulated_images
from spm_gym.types import BoolArray


def train_classifier(
    config: Config, create_run: Callable[[], Path], data: Path | None, output: Path | None
) -> int:
    """Train on what the settings or ``data`` give.

    Args:
        config: Settings of the run.
        create_run: Makes the run directory, which gets the classifier and its report.
        data: Folder of labelled images; None for simulated ones.
        output: Where else to write the classifier.

    Returns:
        Exit status.
    """
    limit_threads(config.run.threads)
    if data is None:
        run = create_run()
        images, good = simulated(config, config.classifier.images, config.seed)
        session = np.full(len(good), "simulated")
    else:
        loaded = load_folder(data, config.env.pixels, config.env.plane)
        run = create_run()
        _tell(loaded)
        images, good, session = loaded.images, loaded.good, loaded.session
    with SummaryWriter(str(run / TENSORBOARD)) as writer:
        trained = classifier.train_classifier(
            images, good, session, config.classifier, config.seed, run, writer=writer
        )
    if output is not None:
        trained.save(output)
    print(f"trained on {len(good)} images: {output or run / 'classifier.safetensors'}")
    return 0


def simulated(config: Config, count: int, seed: int) -> tuple[NDArray[np.float32], BoolArray]:
    """Simulate images and prepare them as the environment does.

    Args:
        config: Settings of simulator and environment.
        count: How many.
        seed: Of the images.

    Returns:
        Images (count, pixels, pixels) and whether each was taken with a good probe.
    """
    with tqdm(total=count, desc="images", unit="image", mininterval=1) as bar:
        raw = simulated_images(
            count,
            seed,
            config.simulator,
            image_nm=config.env.image_nm,
            pixels=config.env.pixels,
            progress=bar.update,
        )
    bar = tqdm(raw.z, desc="levelling", unit="image", mininterval=1)
    prepared = [normalise(level(z, method=config.env.plane)) for z in bar]
    return np.stack(prepared), raw.good


def _tell(loaded: LabelledImages) -> None:
    sessions = len(set(loaded.session))
    print(f"{loaded.good.sum()} good and {(~loaded.good).sum()} bad images, {sessions} sessions")
    for label, count in loaded.ignored.items():
        print(
            f"  left out: {count} labelled {label!r}"
            if label
            else f"  left out: {count} unlabelled"
        )
