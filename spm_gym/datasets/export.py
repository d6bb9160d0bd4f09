"""Make a folder of labelled images of what a run has collected, to train a classifier on."""

from __future__ import annotations

import csv
import shutil
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from spm_gym.atomic_file import written_whole
from spm_gym.config import EnvConfig
from spm_gym.datasets.manifest import MANIFEST, Manifest
from spm_gym.datasets.manifest_table import harmless_session
from spm_gym.imaging.files import FileFormatError, read_heights
from spm_gym.journal.reader import Label, reading, scan_file, scan_path
from spm_gym.journal.rows import scans_to_export
from spm_gym.paths import as_typed, display_name

Whose = Literal["people", "classifier"]

_COLUMNS = ("file", "label", "session", "label from", "probability", "scan", "area")
_IMAGES = "images"
_SAID_BY: dict[Whose, str] = {
    "people": "by the labels that people gave",
    "classifier": "by the opinions of the run's own classifier, which no person has confirmed",
}
_NEVER_LABELLED = (Label.DISCARDED, Label.PREVIEW, Label.UNUSABLE)
"""Scans that the labelling page does not offer."""


class ExportError(ValueError):
    """A dataset cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Exported:
    """Contents of a dataset.

    Attributes:
        written: In words.
        left_out: How much of what was not taken.
    """

    written: str
    left_out: dict[str, int]

    def __str__(self) -> str:
        left_out = ", ".join(f"{count} {what}" for what, count in self.left_out.items() if count)
        return f"{self.written}; left out: {left_out or 'nothing'}"


def make_empty(folder: Path) -> None:
    """Make a folder, or check that the existing one is empty.

    Raises:
        ExportError: It is not.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} is there already and not empty: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)


def export_images(
    run: Path, folder: Path, config: EnvConfig, whose: Whose = "people", conditioning: bool = False
) -> Exported:
    """Copy the images of good and of bad probes, with a manifest that `load_folder` takes.

    The session of an image is its approach area, so that a division by sessions keeps areas apart.

    Args:
        run: The run directory; the run may be at work.
        folder: Where to; made if need be.
        config: Settings of the run.
        whose: Whose labels: those that people gave on the labelling page, or the opinions of the
            run's own classifier. The manifest says it of every image.
        conditioning: Whether to take the classifier's opinions on images between conditioning
            actions as well, where they are clear: above ``good_above`` or below ``damage_below``.

    Raises:
        JournalError: There is no journal.
        FileFormatError: The labels that people gave cannot be read.
        ExportError: The folder is not empty, or there are not both good and bad images.
    """
    # Read at one moment: the run may go on while files are copied.
    with reading(run) as db:
        scans = scans_to_export(db)
    if whose == "people":
        labelled, left_out = _by_people(run, scans)
    else:
        labelled, left_out = _by_classifier(scans, config, conditioning)
    _refuse_one_sided(run, whose, Counter(label for _, label in labelled))
    # Only now: a run that cannot be exported leaves no folder behind.
    make_empty(folder)
    entries = []
    for scan, label in tqdm(labelled, desc="images", unit="image", mininterval=1):
        try:
            entries.append(_copied(run, scan, label, folder) | {"label from": whose})
        except FileFormatError:
            left_out["damaged files"] += 1
    with (
        written_whole(folder / MANIFEST) as beside,
        # The module csv writes its own line ends; translated ones would stand doubled on Windows.
        beside.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(entries)
    written = Counter(entry["label"] for entry in entries)
    return Exported(
        f"{written['good']} good and {written['bad']} bad images, {_SAID_BY[whose]}", left_out
    )


def session_of(run: Path, area: int) -> str:
    """Name the measurement session of the images of an approach area."""
    return harmless_session(f"{display_name(run)} area {area}")


def _by_people(
    run: Path, scans: list[sqlite3.Row]
) -> tuple[list[tuple[sqlite3.Row, str]], Counter[str]]:
    """Pair scans with the labels that people gave, and count the others.

    Raises:
        ExportError: Nobody has labelled the run.
        FileFormatError: The manifest makes no sense.
    """
    manifest = run / MANIFEST
    listed = Manifest.read(manifest).entries if manifest.is_file() else {}
    given = {file: entry.label for file, entry in listed.items() if entry.label}
    if not given:
        raise ExportError(
            f"nobody has labelled images of {run}: label them with 'spm-gym label {as_typed(run)}'"
            " (--labels classifier exports the opinions of the run's classifier instead)"
        )
    labelled, left_out = [], Counter[str]()
    for scan in scans:
        label = given.get(scan["file"], "")
        if label in ("good", "bad"):
            labelled.append((scan, label))
        elif label:
            left_out[f"labelled {label}"] += 1
        elif scan["label"] in _NEVER_LABELLED:
            left_out[scan["label"]] += 1
        else:
            left_out["not labelled"] += 1
    return labelled, left_out


def _by_classifier(
    scans: list[sqlite3.Row], config: EnvConfig, conditioning: bool
) -> tuple[list[tuple[sqlite3.Row, str]], Counter[str]]:
    """Pair scans with the classifier's opinions, and count those on which it has none."""
    labelled, left_out = [], Counter[str]()
    for scan in scans:
        label = _label(scan, config, conditioning)
        if label:
            labelled.append((scan, label))
        else:
            left_out[scan["label"] or "undecided"] += 1
    return labelled, left_out


def _refuse_one_sided(run: Path, whose: Whose, found: Counter[str]) -> None:
    if found["good"] and found["bad"]:
        return
    more = f"; label more with 'spm-gym label {as_typed(run)}'" if whose == "people" else ""
    raise ExportError(
        f"{run} has {found['good']} images of a good probe and {found['bad']} of a bad one, "
        f"{_SAID_BY[whose]}: a classifier needs both{more}"
    )


def _label(scan: sqlite3.Row, config: EnvConfig, conditioning: bool) -> str:
    plain = {Label.GOOD: "good", Label.BAD_PROBE: "bad"}.get(scan["label"], "")
    if scan["label"] != Label.CONDITIONING or not conditioning:
        return plain
    # Clear ones alone: of the others the label would be the classifier's own guess.
    if scan["probability"] > config.good_above:
        return "good"
    return "bad" if scan["probability"] < config.damage_below else ""


def _copied(run: Path, scan: sqlite3.Row, label: str, folder: Path) -> dict[str, str]:
    source = scan_path(run, scan["file"])
    file = f"{_IMAGES}/{Path(scan_file(scan['id'])).name}"
    read_heights(source)  # a single damaged file would keep the whole folder from being loaded
    (folder / _IMAGES).mkdir(exist_ok=True)
    shutil.copyfile(source, folder / file)
    return {
        "file": file,
        "label": label,
        "session": session_of(run, scan["area"]),
        # Nine digits bring back every float32, and no classifier has more.
        "probability": "" if scan["probability"] is None else f"{scan['probability']:.9g}",
        "scan": str(scan["id"]),
        "area": str(scan["area"]),
    }
