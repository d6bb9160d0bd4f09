"""Checkpoints of a classifier in training, and of which images and settings they are."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from agents.checkpoint import (
    MISFITS,
    MODEL,
    CheckpointError,
    check,
    latest_checkpoint,
    read_state,
    remove_whole,
    write_checkpoint,
)
from agents.labelled import Labelled
from agents.network_training import NetworkTraining
from agents.vgg import VGG
from spm_gym.atomic_file import written_whole
from spm_gym.config import ClassifierConfig
from spm_gym.config.json_file import read_json
from spm_gym.errors import one_line
from spm_gym.imaging.conditions import TrainingConditions

REST = 100.0
"""Training between two checkpoints takes at least so many times as long as to write one: epochs of
a few images are faster than any disk, and large networks slower to write than to train."""

_FIRST_S = 0.05
"""Assumed duration of the first one."""

_FINGERPRINT = "fingerprint.json"
_PRETRAINED = "pretrained"


class NetworkCheckpoints:
    """Checkpoints of one network.

    Args:
        directory: Of this network.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._last, self._took = time.monotonic(), _FIRST_S

    def keep(self, training: NetworkTraining) -> None:
        """Write a checkpoint after an epoch, if there was none for a while or it is the last.

        Raises:
            CheckpointError: There is no space for it.
            OSError: It cannot be written.
        """
        began = time.monotonic()
        if not training.is_over and began - self._last < REST * self._took:
            return

        def write(folder: Path) -> None:
            try:
                save_file(training.tensors(), folder / MODEL)
            except SafetensorError as error:
                raise CheckpointError(f"{folder} cannot be written: {one_line(error)}") from None

        epochs = len(training.history)
        write_checkpoint(self._directory, "classifier", epochs, training.get_state(), write)
        self._last = time.monotonic()
        self._took = self._last - began

    def restore(self, training: NetworkTraining) -> None:
        """Go on from the newest checkpoint, if there is one.

        Raises:
            CheckpointError: It is damaged, foreign, or of another training.
        """
        path = latest_checkpoint(self._directory)
        if path is None:
            return
        meta = check(path, "classifier")
        try:
            training.restore(read_state(path), load_file(path / MODEL))
            if meta.step != len(training.history):
                raise ValueError(f"it is of {len(training.history)} epochs, not of {meta.step}")
        except MISFITS as error:
            raise CheckpointError(
                f"{path} does not fit this training: {one_line(error)}; remove it to go on from "
                "the one before, if there is one"
            ) from None


class ClassifierCheckpoints:
    """Checkpoints of all networks of a classifier, until its training has ended.

    Args:
        directory: Of the checkpoints.
        fingerprint: Of the training that goes on or begins, from `fingerprint`.

    Raises:
        CheckpointError: Those that are there are damaged, of other images or settings, or it is not
            known of which.
    """

    def __init__(self, directory: Path, fingerprint: Mapping[str, str]) -> None:
        self._directory = directory
        path = directory / _FINGERPRINT
        directory.mkdir(parents=True, exist_ok=True)
        networks = sorted([*directory.glob("network_*"), *directory.glob(_PRETRAINED)])
        if not networks and not path.exists():
            with written_whole(path) as beside:
                beside.write_text(json.dumps(dict(fingerprint)) + "\n", encoding="utf-8")
            return
        try:
            kept = read_json(path)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path}, which says of which images the checkpoints are, cannot be read "
                f"({one_line(error)}): put it back, or train again in another run directory"
            ) from None
        for name, value in fingerprint.items():
            if not isinstance(kept, dict) or kept.get(name) != value:
                raise CheckpointError(
                    f"{directory} has checkpoints of a training with other {name}: put back those "
                    "that it began with, or train again in another run directory"
                )
        # All of them now, and not when their turn comes: nothing has been written yet.
        for network in networks:
            if (newest := latest_checkpoint(network)) is not None:
                check(newest, "classifier")

    def of_network(self, number: int) -> NetworkCheckpoints:
        """Give those of one network, by its number from 0."""
        return NetworkCheckpoints(self._directory / f"network_{number + 1}")

    @property
    def of_pretraining(self) -> Path:
        """Directory of the one of a network that has learned without labels."""
        return self._directory / _PRETRAINED

    def remove(self) -> None:
        """Delete all of them."""
        remove_whole(self._directory)


def fingerprint(
    data: Labelled,
    session: NDArray[np.str_],
    conditions: TrainingConditions,
    config: ClassifierConfig,
    seed: int,
    start: VGG | None,
    unlabelled: NDArray[np.float32] | None = None,
) -> dict[str, str]:
    """Hash everything that decides what a training gives, by its name in the plural."""
    # Where the images lie and what computes may change; the images themselves may not.
    settings = config.model_dump_json(exclude={"data", "unlabelled", "device"})
    trunk = {} if start is None else start.trunk.state_dict()
    return {
        "images": _hash(data.images),
        "labels": _hash(data.good, data.share, data.weight, data.raters),
        "sessions": _hash_text(json.dumps(session.tolist())),
        "imaging conditions": _hash_text(json.dumps(conditions.to_json())),
        "settings": _hash_text(f"{settings} {seed}"),
        "initial weights": _hash(*(each.cpu().numpy() for each in trunk.values())),
        "unlabelled images": _hash(*([] if unlabelled is None else [unlabelled])),
    }


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hash(*arrays: NDArray[np.generic]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
