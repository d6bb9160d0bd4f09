"""Make a folder of labelled images of what a run has collected, to train a classifier on."""

from __future__ import annotations

import csv
import shutil
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from spm_gym.atomic_file import written_whole
from spm_gym.config import EnvConfig
from spm_gym.datasets.manifest import MANIFEST
from spm_gym.datasets.manifest_table import harmless_session
from spm_gym.imaging.files import FileFormatError, read_heights
from spm_gym.journal.reader import Label, reading, scan_file, scan_path
from spm_gym.journal.rows import scans_to_export
from spm_gym.paths import display_name

_COLUMNS = ("file", "label", "session", "probability", "scan", "area")
_IMAGES = "images"


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
    run: Path, folder: Path, config: EnvConfig, conditioning: bool = False
) -> Exported:
    """Copy the images of good and of bad probes, with a manifest that `load_folder` takes.

    The session of an image is its approach area, so that a division by sessions keeps areas apart.

    Args:
        run: The run directory; the run may be at work.
        folder: Where to; made if need be.
        config: Settings of the run.
        conditioning: Whether to take the images between conditioning actions as well that were
            classified clearly: above ``good_above`` or below ``damage_below``.

    Raises:
        JournalError: There is no journal.
        ExportError: The folder is not empty, or there are not both good and bad images.
    """
    # Read at one moment: the run may go on while files are copied.
    with reading(run) as db:
        scans = scans_to_export(db)
    labelled, left_out = _divide(scans, config, conditioning)
    found = Counter(label for _, label in labelled)
    if not (found["good"] and found["bad"]):
        raise ExportError(
            f"{run} has {found['good']} images of a good probe and {found['bad']} of a bad one: "
            "a classifier needs both"
        )
    make_empty(folder)
    entries = []
    for scan, label in tqdm(labelled, desc="images", unit="image", mininterval=1):
        try:
            entries.append(_copied(run, scan, label, folder))
        except FileFormatError:
            left_out["damaged files"] += 1
    with (
        written_whole(folder / MANIFEST) as beside,
        beside.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(entries)
    written = Counter(entry["label"] for entry in entries)
    return Exported(f"{written['good']} good and {written['bad']} bad images", left_out)


def session_of(run: Path, area: int) -> str:
    """Name the measurement session of the images of an approach area."""
    return harmless_session(f"{display_name(run)} area {area}")


def _divide(
    scans: list[sqlite3.Row], config: EnvConfig, conditioning: bool
) -> tuple[list[tuple[sqlite3.Row, str]], Counter[str]]:
    """Pair scans with their labels in the dataset, and count those that get none."""
    labelled, left_out = [], Counter[str]()
    for scan in scans:
        label = _label(scan, config, conditioning)
        if label:
            labelled.append((scan, label))
        else:
            left_out[scan["label"] or "undecided"] += 1
    return labelled, left_out


def _label(scan: sqlite3.Row, config: EnvConfig, conditioning: bool) -> str:
    plain = {Label.GOOD: "good", Label.BAD_PROBE: "bad"}.get(scan["label"], "")
    if scan["label"] != Label.CONDITIONING or not conditioning:
        return plain
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
        "probability": f"{scan['probability']:.9g}",
        "scan": str(scan["id"]),
        "area": str(scan["area"]),
    }
