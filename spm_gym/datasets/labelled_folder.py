"""A folder of labelled images, as the classifier's training takes it.

Labels come from ``manifest.csv`` in the folder if there is one: columns ``file`` (relative to the
folder), ``label`` and optionally ``session``. Otherwise every image file in the folder and below
is taken, and the nearest of file name and folder names with a word that starts with "good" or
"bad" is its label; its session is its folder without the label folders or, directly in those, the
file name up to its trailing number and without the label.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spm_gym.datasets.manifest import MANIFEST, NO_FILE, Manifest, read_listed
from spm_gym.imaging import level
from spm_gym.imaging.averaging import box_averaged
from spm_gym.imaging.files import (
    READERS,
    FileFormatError,
    NoTopographyError,
    Topography,
    read_topography,
)
from spm_gym.imaging.plane import Method
from spm_gym.types import BoolArray, FloatImage

# At the beginning of a word: "forbad" is no label.
_LABEL = re.compile(r"(?<![a-z])(good|bad)", re.IGNORECASE)
_TRAINED_ON = ("good", "bad")
_NAMED = 5
_TRAILING_NUMBER = re.compile(r"[\W_]*\d*$")


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images with the verdict of people.

    Attributes:
        heights: Levelled, (N, pixels, pixels) float32, m.
        metres: Whether they are heights; otherwise only differences within an image mean anything.
        good: Whether the probe was classified good, (N,).
        share: Of the people who call it good, (N,).
        raters: How many people have labelled it, (N,); 0 without labels, and then `good` says
            nothing.
        session: Measurement session of each image, (N,) strings.
        paths: Files, in the same order.
        ignored: How many files had no label or another one, by label ("" for none).
        averaged: How many images had more pixels and were averaged, by their side.
        bias: Sample bias of each image, V (N,); NaN where its file does not tell it.
        setpoint: Current setpoint, A; likewise.
        width: Side, m; likewise.
    """

    heights: NDArray[np.float32]
    metres: bool
    good: BoolArray
    share: NDArray[np.float32]
    raters: NDArray[np.int64]
    session: NDArray[np.str_]
    paths: tuple[Path, ...]
    ignored: dict[str, int]
    averaged: dict[int, int]
    bias: NDArray[np.float64]
    setpoint: NDArray[np.float64]
    width: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Entry:
    """An image file with its label, by manifest or name; "" for none.

    Attributes:
        path: Its file.
        label: The one that training takes.
        session: When it was measured.
        votes: Labels of all who labelled it, if they are known.
    """

    path: Path
    label: str
    session: str
    votes: tuple[str, ...] = ()


def load_folder(
    folder: Path, pixels: int = 64, plane: Method = "levels", to_train: bool = True
) -> LabelledImages:
    """Read and level the labelled images of a folder.

    Levelling an image that is levelled already changes nothing that matters. Images with more
    pixels are averaged over the areas of fewer ones.

    Args:
        folder: Laid out as described above.
        pixels: Side that the images get; they must be square and have as many or more.
        plane: How to find the substrate, as in `spm_gym.imaging.level`.
        to_train: Whether both classes are needed; otherwise, if there are no labels, all images are
            read, as labelled by nobody.

    Raises:
        FileFormatError: No images, no labels, only one class where both are needed, a manifest
            that makes no sense, or a file that is not there, not in the folder, or as for
            `read_for_classifier`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileFormatError(f"{folder}: there is no such folder of labelled images")
    manifest = folder / MANIFEST
    entries = list(_listed(manifest) if manifest.is_file() else found_images(folder))
    labelled = [entry for entry in entries if entry.label in _TRAINED_ON]
    if not (to_train or labelled):
        labelled = entries
    good = np.array([entry.label == "good" for entry in labelled], dtype=np.bool_)
    if to_train or not labelled:
        _check_classes(folder, entries, good)
    if manifest.is_file():
        _refuse_untrainable(manifest, len(labelled))
    sides = Counter[int]()
    images, given = [], []
    for entry in labelled:
        topography, z = read_for_classifier(entry.path, pixels)
        sides[len(topography.z)] += 1
        images.append(levelled(entry.path, z, plane))
        given.append((topography.bias, topography.setpoint, topography.width))
    # None becomes NaN; nothing tunnels at 0, so that stands for unknown.
    conditions = np.array(given, np.float64)
    conditions[conditions == 0] = np.nan
    bias, setpoint, width = conditions.T
    share, raters = _votes(labelled)
    return LabelledImages(
        heights=np.stack(images),
        metres=True,
        good=good,
        share=share,
        raters=raters,
        session=np.array([entry.session for entry in labelled], dtype=np.str_),
        paths=tuple(entry.path for entry in labelled),
        ignored=dict(Counter(e.label for e in entries if e.label not in _TRAINED_ON)),
        averaged={side: sides[side] for side in sorted(sides) if side != pixels},
        bias=bias,
        setpoint=setpoint,
        width=width,
    )


def _votes(labelled: list[Entry]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Share of the people who call each image good, and their number."""

    def trained_on(words: Iterable[str]) -> list[str]:
        return [word for word in words if word in _TRAINED_ON]

    votes = [trained_on(entry.votes) or trained_on([entry.label]) for entry in labelled]
    raters = np.array([len(each) for each in votes], np.int64)
    good = np.array([each.count("good") for each in votes], np.float32)
    return np.asarray(good / np.maximum(raters, 1), np.float32), raters


def _check_classes(folder: Path, entries: list[Entry], good: BoolArray) -> None:
    # Of one class alone a classifier learns that everything is of that class.
    if 0 < good.sum() < good.size:
        return
    found = f"found {len(entries)} images, {good.sum()} good and {(~good).sum()} bad"
    raise FileFormatError(
        f"{folder}: good and bad images are needed ({found}); label them in {MANIFEST} with "
        f"columns file and label, or by folders or file names that start with good or bad; "
        f"image files end in {', '.join(READERS)}"
    )


def levelled(path: Path, z: FloatImage, plane: Method) -> NDArray[np.float32]:
    """Level the heights (H, W), m, of an image.

    Raises:
        FileFormatError: Too little of it was scanned; the path is named.
    """
    try:
        return np.asarray(level(z, plane), np.float32)
    except ValueError as error:
        raise FileFormatError(f"{path}: {error}") from None


def read_for_classifier(path: Path, pixels: int) -> tuple[Topography, FloatImage]:
    """Read an image that shows a probe, and its heights as the classifier takes them.

    Args:
        path: Its file.
        pixels: Side of the heights; of images with more, they are averages.

    Raises:
        NoTopographyError: The feedback was off.
        FileFormatError: As for `spm_gym.imaging.files.read_topography`; or the image or its pixels
            are not square, or it has too few.
    """
    topography = read_topography(path)
    if why := topography.unclassifiable:
        kind = NoTopographyError if topography.feedback is False else FileFormatError
        raise kind(f"{path}: {why}")
    z = topography.z
    # Fewer pixels are not interpolated: a sharp tip would look blunt.
    if z.shape[0] != z.shape[1] or len(z) < pixels:
        raise FileFormatError(
            f"{path}: the image has {z.shape[0]} x {z.shape[1]} px, "
            f"the classifier takes {pixels} x {pixels} px, or larger squares"
        )
    return topography, z if len(z) == pixels else box_averaged(z, pixels)


def untrainable(manifest: Path) -> list[str]:
    """Explain which rows training refuses: good or bad ones without a file in the folder.

    Raises:
        FileFormatError: The manifest makes no sense.
    """
    rows = (file for file, label, _ in read_listed(manifest) if label in _TRAINED_ON)
    return [why for file in rows if (why := _untrainable(manifest.parent, file))]


def _untrainable(folder: Path, file: str) -> str:
    if file == NO_FILE:
        return "its file is empty"
    if Path(file).is_absolute() or ".." in Path(file).parts:
        return f"{file!r} is outside the folder"
    if os.path.isfile(folder / file):  # Path.is_file fails on names that are too long
        return ""
    # Manifests come from other computers, whose paths may have backslashes.
    forward = file.replace("\\", "/")
    hint = f": write {forward}" if forward != file else ""
    return f"{file!r} is missing{hint}"


def _refuse_untrainable(manifest: Path, labelled: int) -> None:
    reasons = untrainable(manifest)
    if reasons:
        more = f", and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
        raise FileFormatError(
            f"{manifest}: {len(reasons)} of {labelled} labelled rows have no image in the folder: "
            f"{', '.join(reasons[:_NAMED])}{more}; repair or delete these rows"
        )


def _listed(manifest: Path) -> Iterator[Entry]:
    listed = Manifest.read(manifest)
    for file, labels in listed.entries.items():
        path = manifest.parent / file
        session = listed.session(file) or _session(path.stem)
        # What they agreed on afterwards is what all of them think now.
        votes = () if labels.consensus else tuple(labels.by.values())
        yield Entry(path, labels.label, session, votes)


def image_files(folder: Path) -> Iterator[Path]:
    """Find image files in a folder and below, in the order of their names."""
    # Sorted, or a seed would divide the same folder differently on another disk.
    for path in sorted(folder.rglob("*")):
        hidden = path.name.startswith(".")
        if not hidden and path.suffix.lower() in READERS and path.is_file():
            yield path


def found_images(folder: Path) -> Iterator[Entry]:
    """Find image files in a folder and below, with the labels of file and folder names.

    Raises:
        FileFormatError: A name says both good and bad.
    """
    for path in image_files(folder):
        parents = path.relative_to(folder).parent.parts
        sessions = [part for part in parents if not _LABEL.search(part)]
        yield Entry(path, _label(path, parents), "/".join(sessions) or _session(path.stem))


def _label(path: Path, parents: tuple[str, ...]) -> str:
    # The nearest name counts: people sort files of one evening into folders of their own.
    for name in (path.stem, *reversed(parents)):
        labels = {str(match).lower() for match in _LABEL.findall(name)}
        if len(labels) > 1:
            raise FileFormatError(f"{path}: {name!r} says both good and bad")
        if labels:
            return labels.pop()
    return ""


def _session(stem: str) -> str:
    unnumbered = _TRAILING_NUMBER.sub("", _LABEL.sub("", stem))
    return unnumbered.strip("_- .")
