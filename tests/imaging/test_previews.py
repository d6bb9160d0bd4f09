"""Sixteen lines over the whole frame are diagnosed, levelled and searched as sixty-four are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.imaging import (
    Diagnosis,
    clean_pixels,
    diagnose,
    largest_clean_square,
    level,
    normalise,
    read_scans,
)
from spm_gym.instrument.sim.dynamics import STATES, HiddenState
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Frame, Scan

NM = 1e-9
FULL = Frame(0.0, 0.0, 10 * NM, 64)


def microscope(seed: int = 4, **changes: Any) -> SimulatedMicroscope:
    events = ("tip_change_rate", "contact_loss_rate", "crash_rate")
    calm = {**dict.fromkeys(events, 0.0), "rough_fraction": 0.0, **changes}
    return SimulatedMicroscope(SimulatorConfig(**calm), seed=seed)


def both(
    here: SimulatedMicroscope, rng: np.random.Generator, lines: int, classes: int = STATES
) -> tuple[Scan, Scan]:
    """A full scan and a preview of a random place by a probe of one of so many classes."""
    here.set_probe(HiddenState.of(int(rng.integers(classes))))
    x, y = rng.uniform(-400, 400, 2) * NM
    full = replace(FULL, x=x, y=y)
    here.move_to(x, y)
    here.wait(30)
    return here.scan(full), here.scan(replace(full, lines=lines))


@pytest.mark.parametrize("lines", [8, 16, 32])
def test_a_clean_sample_is_fine_in_every_preview(lines: int) -> None:
    here, rng = microscope(), np.random.default_rng(0)
    for _ in range(60):
        _, preview = both(here, rng, lines)
        assert diagnose(preview) is Diagnosis.FINE


def test_a_rough_sample_is_rough_in_nine_of_ten_previews_and_fine_ones_are_not() -> None:
    here, rng = microscope(rough_fraction=0.5), np.random.default_rng(0)
    found = [
        [diagnose(scan) is Diagnosis.ROUGH for scan in both(here, rng, 16)] for _ in range(150)
    ]
    full, preview = np.array(found).T
    # The edge of a patch may lie between two lines.
    assert full.sum() > 40
    assert preview[full].mean() > 0.8
    assert preview[~full].mean() < 0.15


@pytest.mark.parametrize(
    ("accident", "diagnosis"),
    [("lost contact", Diagnosis.LOST_CONTACT), ("crash", Diagnosis.CRASH)],
)
@pytest.mark.parametrize("line", [0, 8, 14])
def test_accidents_are_found(accident: Any, diagnosis: Diagnosis, line: int) -> None:
    here = microscope()
    running = here.begin_scan(replace(FULL, lines=16))
    running.advance(line)
    here.inject(accident)
    running.advance(16)
    assert diagnose(running.scan()) is diagnosis


def test_one_missing_line_of_sixteen_is_tolerated_and_two_are_not() -> None:
    here, preview = microscope(), replace(FULL, lines=16)
    found = [diagnose(here.scan(preview, lines / 16)) for lines in range(17)]
    assert found == [Diagnosis.PARTIAL] * 15 + [Diagnosis.FINE] * 2


def test_the_substrate_and_what_is_clean_are_those_of_the_full_scan() -> None:
    here, rng = microscope(creep_fraction=0, drift_pm_per_s=0), np.random.default_rng(4)
    for _ in range(60):
        whole, preview = both(here, rng, 16, classes=1)
        there, found = level(whole.z)[preview.frame.rows], level(preview.z)
        assert abs(np.median(found - there)) < 3e-12
        assert np.mean(clean_pixels(found) == clean_pixels(there)) > 0.95


def test_a_batch_of_previews_is_read_as_each_of_them() -> None:
    here, rng = microscope(rough_fraction=0.3), np.random.default_rng(1)
    scans = [both(here, rng, 16)[1] for _ in range(12)]
    ranges = np.array([scan.z_range_or_nan for scan in scans])
    readings = read_scans(np.stack([scan.z for scan in scans]), ranges)
    for index, scan in enumerate(scans):
        above = level(scan.z)
        assert readings.diagnoses[index] is diagnose(scan)
        assert np.array_equal(readings.observations[index, 0], normalise(above))
        assert readings.squares[index] == largest_clean_square(above)
