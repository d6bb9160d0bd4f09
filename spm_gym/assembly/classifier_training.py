"""One training run of the classifier, on simulated images or on a folder of labelled ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from agents import classifier_training
from agents.classifier import ProbeClassifier
from agents.classifier_training import Labelled
from agents.summaries import write_closing, write_opening
from agents.vgg import VGG
from spm_gym.assembly.process import prepare_process
from spm_gym.assembly.run_directory import TENSORBOARD
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import Config, ConfigError
from spm_gym.datasets.labelled_folder import LabelledImages, load_folder
from spm_gym.datasets.simulated import prepared_images
from spm_gym.imaging.conditions import TrainingConditions, described
from spm_gym.instrument.sim.running_scan import BIAS, SETPOINT
from spm_gym.paths import as_typed
from spm_gym.scale import NM, PA

_Sessions = NDArray[np.str_]

_OF_FOLDERS = ("material", "bias_V", "setpoint_pA", "image_nm")


def train_classifier(
    config: Config,
    create_run: Callable[[], AbstractContextManager[Path]],
    data: Path | None,
    output: Path | None,
) -> int:
    """Train on simulated images, or on a folder of labelled ones.

    Args:
        config: Settings of the run.
        create_run: Makes the run directory, which gets the classifier and its report, and keeps it
            from others.
        data: Folder of labelled images; None for simulated ones.
        output: Where else to write the classifier.

    Returns:
        Exit status.

    Raises:
        ConfigError: The settings give conditions of simulated images, which the simulator knows.
    """
    prepare_process(config.run.threads)
    # Before there is a run directory: a folder that cannot be used leaves none behind.
    simulated = simulated_conditions(config) if data is None else None
    loaded = None if data is None else load_folder(data, config.env.pixels, config.env.plane)
    with create_run() as run:
        images, session = _simulated(config) if loaded is None else _of_folder(loaded, config)
        conditions = simulated if loaded is None else folder_conditions(loaded, config)
        assert conditions is not None
        start = None if loaded is None else _start(config)
        with SummaryWriter(str(run / TENSORBOARD)) as writer:
            write_opening(writer, config, "classifier", run)
            trained = classifier_training.train_classifier(
                images, session, config.classifier, config.env.good_above, config.seed, run,
                conditions, writer=writer, start=start,
            )  # fmt: skip
            write_closing(writer)
        if output is not None:
            trained.save(output)
    for name, value in described(trained.conditions):
        print(f"{name:12} {value}")
    written = output or run / "classifier.safetensors"
    print(f"trained on {len(images.good)} images: {written}")
    recommended = trained.summary["validation"]["recommended"]
    print(f"use it with --set env.classifier={as_typed(written)} env.good_above={recommended:g}")
    return 0


def _start(config: Config) -> VGG | None:
    """Load the network whose trunk training on a folder begins with."""
    # A few hundred labels do not suffice from scratch (docs/classifier.md, *Few labels*).
    if not config.classifier.from_shipped:
        return None
    network = ProbeClassifier.load(shipped_classifier()).network
    # Weights fit only the network that they were trained in.
    if (network.config, network.pixels) != (config.classifier.network, config.env.pixels):
        print("  begins from scratch: the included classifier is of another network")
        return None
    print("  begins with the included classifier (classifier.from_shipped)")
    return network


def simulated_conditions(config: Config) -> TrainingConditions:
    """Describe the conditions of the simulator's images.

    Raises:
        ConfigError: The settings give conditions of images in a folder.
    """
    given = [key for key in _OF_FOLDERS if getattr(config.classifier, key) is not None]
    if given:
        raise ConfigError(
            f"setting classifier.{given[0]} is for images in a folder (--data); what is simulated "
            "is known"
        )
    pixel = config.env.image_nm * NM / config.env.pixels
    return TrainingConditions(
        "simulated",
        config.simulator.material,
        bias=(BIAS, BIAS),
        setpoint=(SETPOINT, SETPOINT),
        pixel=(pixel, pixel),
    )


def folder_conditions(loaded: LabelledImages, config: Config) -> TrainingConditions:
    """Describe the conditions of a folder's images: from their files, or else from the settings."""
    given = config.classifier
    setpoint = None if given.setpoint_pA is None else given.setpoint_pA * PA
    width = None if given.image_nm is None else given.image_nm * NM
    pixel = _range(loaded.width, width, "the size", "image_nm")
    return TrainingConditions(
        given.origin,
        given.material,
        bias=_range(loaded.bias, given.bias_V, "the bias", "bias_V"),
        # Some controllers write the setpoint with the sign of the current; trained for is its
        # magnitude.
        setpoint=_range(np.abs(loaded.setpoint), setpoint, "the setpoint", "setpoint_pA"),
        pixel=pixel and (pixel[0] / config.env.pixels, pixel[1] / config.env.pixels),
    )


def _range(
    given: NDArray[np.float64], otherwise: float | None, what: str, key: str
) -> tuple[float, float] | None:
    """Find the lowest and highest value in the files; None if a file and the settings lack it."""
    missing = np.isnan(given)
    if otherwise is not None:
        # Only where the file is silent: what it says is what the image was taken at.
        given = np.where(missing, otherwise, given)
    elif missing.any():
        print(
            f"  {missing.sum()} of {len(given)} files do not tell {what} of the image, and neither "
            f"does the setting classifier.{key}: the classifier will be refused unless that is "
            "accepted by name (env.accept_mismatch)"
        )
        return None
    return float(given.min()), float(given.max())


def _simulated(config: Config) -> tuple[Labelled, _Sessions]:
    count = config.classifier.images
    with tqdm(total=count, desc="images", unit="image", mininterval=1) as bar:
        simulated = prepared_images(
            config, count, config.seed, processes=config.run.threads or 1, progress=bar.update
        )
    images = Labelled(simulated.observations[:, 0], simulated.good)
    return images, np.full(count, "simulated")


def _of_folder(loaded: LabelledImages, config: Config) -> tuple[Labelled, _Sessions]:
    _print_contents(loaded, config.env.pixels)
    return Labelled(loaded.images, loaded.good), loaded.session


def _print_contents(loaded: LabelledImages, pixels: int) -> None:
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
