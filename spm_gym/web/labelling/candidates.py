"""Which scans there are to label, and in which order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spm_gym.analysis.scans import classified_files
from spm_gym.datasets.export import session_of
from spm_gym.datasets.labelled_folder import found_images, read_for_classifier
from spm_gym.datasets.manifest import unlistable
from spm_gym.imaging import read_scans
from spm_gym.imaging.files import FileFormatError
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.reader import JOURNAL, Label, reading, scan_path
from spm_gym.types import UNKNOWN_RANGE, Classifier

Order = Literal["uncertain", "name", "random"]
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be an image to label.

    Attributes:
        file: Its name, relative to the folder.
        path: Where it is.
        session: Its measurement session.
        label: By the names of file and folders, or "".
    """

    file: str
    path: Path
    session: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """An image to label.

    Attributes:
        file: Its name, relative to the folder.
        path: Where it is.
        pixels: Its side.
        width: Its extent along x, m; None if the file does not say.
        height: Its extent along y, m.
        probability: The classifier's, that the probe is good; None without a classifier, NaN if it
            does not know such images.
    """

    file: str
    path: Path
    pixels: int
    width: float | None
    height: float | None
    probability: float | None = None

    @property
    def answer(self) -> str:
        """The classifier's answer in words."""
        if self.probability is None:
            return "No classifier"
        if math.isnan(self.probability):
            return "Classifier: unknown"
        return f"Classifier: {100 * self.probability:.0f} % good"


def find_candidates(folder: Path) -> list[Candidate]:
    """Find image files in a folder and below; of a run, the whole images that a classifier saw.

    Raises:
        FileFormatError: A name says both good and bad.
        JournalError: The run's journal cannot be read.
    """
    if (folder / JOURNAL).is_file():
        return list(_of_run(folder))
    return [
        Candidate(entry.path.relative_to(folder).as_posix(), entry.path, entry.session, entry.label)
        for entry in found_images(folder)
    ]


def _of_run(run: Path) -> Iterator[Candidate]:
    labels = (Label.GOOD, Label.BAD_PROBE, Label.BAD_SAMPLE, Label.UNKNOWN, Label.CONDITIONING)
    with reading(run) as db:
        rows = classified_files(db, labels)
    for row in rows:
        yield Candidate(row["file"], scan_path(run, row["file"]), session_of(run, row["area"]))


def read_images(
    candidates: Sequence[Candidate],
    pixels: int,
    preprocessing: Preprocessing,
    classifier: Classifier | None,
    progress: Callable[[int], object],
) -> tuple[list[Image], dict[str, str]]:
    """Read all files once, and classify them.

    Args:
        candidates: The files.
        pixels: Side of the images that the classifier takes; larger ones are averaged.
        preprocessing: How they are levelled and normalised for it.
        classifier: The classifier; None classifies nothing.
        progress: Takes the number of files that are read.

    Returns:
        The images, in the same order, and why other files are none that training would take, by
        name.
    """
    images: list[Image] = []
    refused: dict[str, str] = {}
    # In batches, which the network classifies faster than single images, and memory holds.
    for start in range(0, len(candidates), _BATCH):
        batch = candidates[start : start + _BATCH]
        read: list[Image] = []
        small: list[NDArray[np.float32]] = []
        for candidate in batch:
            try:
                image, heights = _read(candidate, pixels)
            except FileFormatError as error:
                refused[candidate.file] = str(error)
                continue
            read.append(image)
            small.append(heights)
        images += (
            read
            if classifier is None or not read
            else _classified(read, small, preprocessing, classifier)
        )
        progress(len(batch))
    return images, refused


def _read(candidate: Candidate, pixels: int) -> tuple[Image, NDArray[np.float32]]:
    if why := unlistable(candidate.file):
        raise FileFormatError(f"{str(candidate.path)!a}: {why}")
    topography, heights = read_for_classifier(candidate.path, pixels)
    side, width, height = len(topography.z), topography.width, topography.height
    image = Image(candidate.file, candidate.path, side, width, height)
    return image, heights.astype(np.float32)


def _classified(
    images: Sequence[Image],
    heights: Sequence[NDArray[np.float32]],
    preprocessing: Preprocessing,
    classifier: Classifier,
) -> list[Image]:
    # Files of scans do not say how far the z piezo reaches.
    unknown = np.tile(UNKNOWN_RANGE, (len(heights), 1))
    method, scale = preprocessing
    readings = read_scans(np.stack(heights), unknown, method, scale=scale)
    probabilities = classifier(readings.observations)
    return [
        replace(image, probability=float(probability))
        for image, probability in zip(images, probabilities, strict=True)
    ]


def in_order(
    images: Sequence[Image], order: Order, classified_before: Callable[[str], bool]
) -> list[Image]:
    """Put images into the order in which they come.

    Args:
        images: In any.
        order: By name; at random, but always the same; or the most uncertain first, after them
            those that have a label from before. What the classifier does not know is the most
            uncertain.
        classified_before: Whether a file has one.
    """
    by_name = sorted(images, key=lambda image: image.file)
    if order == "random":
        # The same order for all: people who stop half-way have images in common.
        return [by_name[n] for n in np.random.default_rng(0).permutation(len(by_name))]
    if order == "name":
        return by_name
    # Where the classifier is least sure, a label teaches it most.
    return sorted(by_name, key=lambda image: (classified_before(image.file), _certainty(image)))


def _certainty(image: Image) -> float:
    if image.probability is None:
        return 0.0
    # Less than any: what the classifier does not know at all.
    return -1.0 if math.isnan(image.probability) else abs(image.probability - 0.5)
