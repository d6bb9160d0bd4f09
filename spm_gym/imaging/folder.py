"""A folder of labelled images, as the classifier's training takes it.

Labels come from ``manifest.csv`` in the folder if there is one: columns ``file`` (relative to the
folder), ``label`` and optionally ``session``. Otherwise every image file in the folder and below
is taken, and the nearest of file name and folder names with a word that starts with "good" or
"bad" is its label; its session is its folder without the label folders or, directly in those, the
file name up to its trailing number and without the label.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spm_gym.imaging import level, normalise
from spm_gym.imaging.files import READERS, FileFormatError, read_heights
from spm_gym.imaging.plane import Method
from spm_gym.types import BoolArray

MANIFEST = "manifest.csv"
_LABEL = re.compile(r"(?<![a-z])(good|bad)", re.IGNORECASE)
_TRAILING_NUMBER = re.compile(r"[\W_]*\d*$")


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images with the judgement of a person.

    Attributes:
        images: Levelled and normalised, (N, pixels, pixels) float32.
        good: Whether the probe was judged good, (N,).
        session: Measurement session of each image, (N,) strings.
        paths: Files, in the same order.
        ignored: How many files had no label or another one, by label ("" for none).
    """

    images: NDArray[np.float32]
    good: BoolArray
    session: NDArray[np.str_]
    paths: tuple[Path, ...]
    ignored: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    label: str
    session: str


def load_folder(folder: Path, pixels: int = 64, plane: Method = "levels") -> LabelledImages:
    """Read, level and normalise the labelled images of a folder.

    Levelling an image that is levelled already changes nothing that matters, so the published
    data set loads as it is.

    Args:
        folder: Laid out as described above.
        pixels: Side that every image must have.
        plane: How to find the substrate, as in `spm_gym.imaging.level`.

    Raises:
        FileFormatError: No images, no labels, only one class, a manifest that makes no sense, or a
            file that is not an image of the asked size.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileFormatError(f"{folder}: there is no such folder of labelled images")
    manifest = folder / MANIFEST
    entries = list(_listed(manifest) if manifest.is_file() else _found(folder))
    labelled = [entry for entry in entries if entry.label in ("good", "bad")]
    good = np.array([entry.label == "good" for entry in labelled], dtype=np.bool_)
    _check_classes(folder, entries, good)
    return LabelledImages(
        images=np.stack([_read(entry.path, pixels, plane) for entry in labelled]),
        good=good,
        session=np.array([entry.session for entry in labelled], dtype=np.str_),
        paths=tuple(entry.path for entry in labelled),
        ignored=dict(Counter(e.label for e in entries if e.label not in ("good", "bad"))),
    )


def _check_classes(folder: Path, entries: list[_Entry], good: BoolArray) -> None:
    if 0 < good.sum() < good.size:
        return
    found = f"found {len(entries)} images, {good.sum()} good and {(~good).sum()} bad"
    raise FileFormatError(
        f"{folder}: good and bad images are needed ({found}); label them in {MANIFEST} with "
        f"columns file and label, or by folders or file names that start with good or bad; "
        f"image files end in {', '.join(READERS)}"
    )


def _read(path: Path, pixels: int, plane: Method) -> NDArray[np.float32]:
    z = read_heights(path)
    if z.shape != (pixels, pixels):
        raise FileFormatError(
            f"{path}: the image has {z.shape[0]} x {z.shape[1]} px, "
            f"the classifier takes {pixels} x {pixels} px"
        )
    return normalise(level(z, plane))


def _listed(manifest: Path) -> Iterator[_Entry]:
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{manifest}: not a readable CSV file: {error}") from error
    seen: set[str] = set()
    for line, row in enumerate(rows, start=2):
        missing = [column for column in ("file", "label") if column not in row]
        if missing:
            found = ", ".join(map(str, row))
            raise FileFormatError(
                f"{manifest}: needs the columns file and label; found are {found}"
            )
        if row["file"] in seen:
            raise FileFormatError(f"{manifest}: line {line} lists {row['file']!r} again")
        seen.add(row["file"])
        path = manifest.parent / row["file"]
        yield _Entry(path, row["label"].strip().lower(), row.get("session") or _session(path.stem))


def _found(folder: Path) -> Iterator[_Entry]:
    for path in sorted(folder.rglob("*")):
        hidden = path.name.startswith(".")
        if hidden or path.suffix.lower() not in READERS or not path.is_file():
            continue
        parents = path.relative_to(folder).parent.parts
        sessions = [part for part in parents if not _LABEL.search(part)]
        yield _Entry(path, _label(path, parents), "/".join(sessions) or _session(path.stem))


def _label(path: Path, parents: tuple[str, ...]) -> str:
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
