"""Which scans there are to label, and in which order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spm_gym.analysis.scans import usable_files
from spm_gym.datasets.export import session_of
from spm_gym.datasets.labelled_folder import found_images, read_for_classifier
from spm_gym.datasets.manifest import unlistable
from spm_gym.imaging import read_scans
from spm_gym.imaging.dissimilar import dissimilar_first
from spm_gym.imaging.files import FileFormatError
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.imaging.statistics import STATISTICS, image_statistics
from spm_gym.journal.reader import JOURNAL, reading, scan_path
from spm_gym.scale import tunnelling_text
from spm_gym.types import UNKNOWN_RANGE, Classifier

Order = Literal["informative", "name", "random"]
_BATCH = 256

_SURE = 0.95
"""Probability of the likelier answer from which the classifier is sure of it."""


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
        measured: Bias and setpoint in words.
        probability: The classifier's, that the probe is good; None without a classifier, NaN if it
            does not know such images.
        statistics: By `image_statistics`, (K,).
    """

    file: str
    path: Path
    pixels: int
    width: float | None
    height: float | None
    measured: str = tunnelling_text(None, None)
    probability: float | None = None
    statistics: NDArray[np.float64] = field(
        default_factory=lambda: np.full(STATISTICS, np.nan), compare=False, repr=False
    )

    @property
    def answer(self) -> str:
        """The classifier's answer in words."""
        if self.probability is None:
            return "No classifier"
        if math.isnan(self.probability):
            return "Classifier: unknown"
        return f"Classifier: {100 * self.probability:.0f} % good"


def find_candidates(folder: Path) -> list[Candidate]:
    """Find image files in a folder and below; of a run, the whole images that are usable.

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
    with reading(run) as db:
        rows = usable_files(db)
    for row in rows:
        yield Candidate(row["file"], scan_path(run, row["file"]), session_of(run, row["area"]))


def read_images(
    candidates: Sequence[Candidate],
    pixels: int,
    preprocessing: Preprocessing,
    classifier: Classifier | None,
    progress: Callable[[int], object],
) -> tuple[list[Image], dict[str, str]]:
    """Read all files once, measure their statistics, and classify them.

    Args:
        candidates: The files.
        pixels: Side of the images that the classifier takes; larger ones are averaged.
        preprocessing: How they are levelled and normalised for it.
        classifier: The classifier; None classifies nothing, and each image is normalised by its own
            spread: nothing says yet how high the sample is.
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
        if read:
            images += _measured(read, small, preprocessing, classifier)
        progress(len(batch))
    return images, refused


def _read(candidate: Candidate, pixels: int) -> tuple[Image, NDArray[np.float32]]:
    if why := unlistable(candidate.file):
        raise FileFormatError(f"{str(candidate.path)!a}: {why}")
    topography, heights = read_for_classifier(candidate.path, pixels)
    side, width, height = len(topography.z), topography.width, topography.height
    measured = tunnelling_text(topography.bias, topography.setpoint)
    image = Image(candidate.file, candidate.path, side, width, height, measured)
    return image, heights.astype(np.float32)


def _measured(
    images: Sequence[Image],
    heights: Sequence[NDArray[np.float32]],
    preprocessing: Preprocessing,
    classifier: Classifier | None,
) -> list[Image]:
    # Files of scans do not say how far the z piezo reaches.
    unknown = np.tile(UNKNOWN_RANGE, (len(heights), 1))
    scale = "image" if classifier is None else preprocessing.scale
    observations = read_scans(
        np.stack(heights), unknown, preprocessing.method, scale=scale
    ).observations
    answers = [None] * len(images) if classifier is None else map(float, classifier(observations))
    return [
        replace(image, probability=probability, statistics=statistics)
        for image, probability, statistics in zip(
            images, answers, image_statistics(observations), strict=True
        )
    ]


def in_order(
    images: Sequence[Image],
    order: Order,
    labelled_before: Callable[[str], bool],
    labelled: Callable[[str], bool],
) -> list[Image]:
    """Put images into the order in which they come.

    Args:
        images: In any.
        order: By name; at random, but always the same; or the most informative first: those that
            the classifier does not know or is not sure of, then the others, at the end those that
            have a label from before; each time those first that are unlike one another.
        labelled_before: Whether a file has a label from before any that has a name.
        labelled: Whether it has any: images that resemble it can wait.
    """
    by_name = sorted(images, key=lambda image: image.file)
    # The same order for all: people who stop half-way have images in common.
    at_random = [by_name[n] for n in np.random.default_rng(0).permutation(len(by_name))]
    if order == "random":
        return at_random
    if order == "name":
        return by_name
    # Where the classifier is least sure, a label teaches it most; not in the order of the names,
    # for neighbours in time are often of one place.
    least_sure = sorted(at_random, key=_certainty)
    groups: list[list[int]] = [[], [], []]
    for number, image in enumerate(least_sure):
        before = labelled_before(image.file)
        groups[2 if before else _certainty(image) >= _SURE - 0.5].append(number)
    statistics = np.array([image.statistics for image in least_sure])
    known = [number for number, image in enumerate(least_sure) if labelled(image.file)]
    places = dissimilar_first(statistics, groups, known)
    return [least_sure[place] for place in places]


def _certainty(image: Image) -> float:
    if image.probability is None:
        return 0.0
    # Less than any: what the classifier does not know at all.
    return -1.0 if math.isnan(image.probability) else abs(image.probability - 0.5)
