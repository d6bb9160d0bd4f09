"""Scans of a lab that nobody has labelled, for pretraining."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from spm_gym.datasets.labelled_arrays import ENDING, Unread, read_arrays
from spm_gym.datasets.labelled_folder import image_files, levelled, read_for_classifier
from spm_gym.imaging.files import FileFormatError
from spm_gym.imaging.plane import Method


@dataclass(frozen=True, slots=True)
class UnlabelledImages:
    """Images without the verdict of people.

    Attributes:
        heights: Levelled, (N, pixels, pixels) float32, m.
        metres: Whether they are heights, as in `LabelledImages`.
        paths: Files, in the same order; images in a file have its name and their number.
        left_out: How many images show nothing of a probe, or cannot be read.
    """

    heights: NDArray[np.float32]
    metres: bool
    paths: tuple[Path, ...]
    left_out: int


def load_unlabelled(
    path: Path, pixels: int, plane: Method, known: Iterable[Path]
) -> UnlabelledImages:
    """Read and level all images that are not known yet, whatever their labels.

    Args:
        path: A folder, or an ``.npz`` file as for `load_arrays`.
        pixels: Side that the images get; larger ones are averaged.
        plane: How to find the substrate, as in `spm_gym.imaging.level`.
        known: Paths of images, as here and in `LabelledImages`.

    Raises:
        FileFormatError: There is no such folder, or it is no such file.
    """
    resolved = {each.resolve() for each in known}
    metres = True
    if path.suffix.lower() == ENDING:
        metres, found = read_arrays(path, pixels, plane)
    elif path.is_dir():
        found = _scans(path, pixels, plane)
    else:
        raise FileFormatError(f"{path}: there is no such folder or .npz file of unlabelled images")
    images, paths, left_out = [], [], 0
    # A lab's archive takes minutes; no bar for what takes seconds.
    for file, read in tqdm(found, desc="unlabelled", unit="image", delay=2, mininterval=1):
        if file.resolve() in resolved:
            continue
        try:
            images.append(read())
            paths.append(file)
        except FileFormatError:
            # Nobody has looked at them: among thousands some are cut off, or of constant height.
            left_out += 1
    heights = np.stack(images) if images else np.empty((0, pixels, pixels), np.float32)
    return UnlabelledImages(heights, metres, tuple(paths), left_out)


def _scans(folder: Path, pixels: int, plane: Method) -> Iterator[Unread]:
    for file in image_files(folder):
        yield file, partial(_scan, file, pixels, plane)


def _scan(file: Path, pixels: int, plane: Method) -> NDArray[np.float32]:
    return levelled(file, read_for_classifier(file, pixels)[1], plane)
