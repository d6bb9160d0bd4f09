"""Scans with fewer lines than pixels are stored and read to the last bit."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np

from spm_gym.analysis.consistency import find_inconsistencies, scan_files
from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.journal.reader import JOURNAL, Label, read_frame, read_scan, reading
from spm_gym.types import Frame
from tests.support.invented_runs import InventedRun

NM = 1e-9
FULL = Frame(20 * NM, -30 * NM, 10 * NM, 64, 0.3)


def stored(run: Path) -> list[int]:
    """A run with a full scan, a preview, and half a preview."""
    microscope = SimulatedMicroscope(SimulatorConfig(), seed=3)
    with InventedRun(run) as invented:
        invented.enter_area()
        numbers = [
            invented.journal.add_scan(
                microscope.scan(frame, fraction), fraction=fraction, area=0, elapsed=0.0,
                label=Label.BAD_PROBE, episode=None,
            )
            for frame, fraction in ((FULL, 1.0), (replace(FULL, lines=16), 1.0),
                                    (replace(FULL, lines=16), 0.5))
        ]  # fmt: skip
        invented.journal.keep()
    return numbers


def complaints(run: Path) -> list[str]:
    """All that does not fit together about the files of scans."""
    with reading(run) as db:
        found = find_inconsistencies(run, db, None, scan_files(run))
        return [sentence for sentence in found if "pixels" in sentence]


def test_a_preview_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    numbers = stored(tmp_path)
    microscope = SimulatedMicroscope(SimulatorConfig(), seed=3)
    with reading(tmp_path) as db:
        for number, fraction in zip(numbers, (1.0, 1.0, 0.5), strict=True):
            row = db.execute("SELECT * FROM scans WHERE id = ?", (number,)).fetchone()
            scan = read_scan(tmp_path, row)
            expected = microscope.scan(read_frame(row), fraction)
            assert scan.frame == expected.frame
            assert np.array_equal(scan.z, expected.z, equal_nan=True)
            assert (scan.z_range, scan.bias, scan.started) == (
                expected.z_range, expected.bias, expected.started,
            )  # fmt: skip
        assert [row["lines"] for row in db.execute("SELECT lines FROM scans")] == [64, 16, 16]


def test_a_journal_with_previews_is_whole_unless_a_row_names_other_lines(tmp_path: Path) -> None:
    numbers = stored(tmp_path)
    assert complaints(tmp_path) == []
    with sqlite3.connect(tmp_path / JOURNAL) as db:
        db.execute("UPDATE scans SET lines = 32 WHERE id = ?", (numbers[1],))
    db.close()
    assert complaints(tmp_path) == [
        f"scan {numbers[1]}: scans/000002.gsf has 16 x 64 pixels, its row says 32 x 64"
    ]
