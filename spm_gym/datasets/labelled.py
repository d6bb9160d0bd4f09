"""Labelled images of a lab: a folder of scans, or a file of arrays."""

from __future__ import annotations

from pathlib import Path

from spm_gym.datasets.labelled_arrays import ENDING, load_arrays
from spm_gym.datasets.labelled_folder import LabelledImages, load_folder
from spm_gym.imaging.plane import Method


def load_labelled(data: Path, pixels: int, plane: Method, to_train: bool = True) -> LabelledImages:
    """Read and level labelled images; see `load_folder` and `load_arrays`.

    Raises:
        FileFormatError: As they do.
    """
    load = load_arrays if data.suffix.lower() == ENDING else load_folder
    return load(data, pixels, plane, to_train)
