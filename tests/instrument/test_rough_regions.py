"""Regions that faults make rough: where they lie and how many they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spm_gym.imaging import Diagnosis, diagnose
from spm_gym.instrument.contract import Instrument
from spm_gym.types import Direction, Frame, Pulse
from tests.support.faulty import bare, beset, faulty, same

NM = 1e-9
QUIET = {
    "white_noise_pm": 0.0,
    "line_noise_pm": 0.0,
    "creep_fraction": 0.0,
    "drift_pm_per_s": 0.0,
}
HERE = Frame(20 * NM, -30 * NM, 10 * NM, 64)


def test_scheduled_debris_stays_where_it_is() -> None:
    microscope = faulty(schedule={2: "debris"})
    elsewhere = Frame(-40 * NM, 40 * NM, 10 * NM, 64)
    found = [diagnose(microscope.scan(frame)) for frame in (HERE, HERE, HERE, elsewhere, HERE)]
    rough, fine = Diagnosis.ROUGH, Diagnosis.FINE
    assert found == [fine, rough, rough, fine, rough]


def _rough_places(microscope: Instrument, places: np.ndarray[Any, Any]) -> list[bool]:
    frames = [Frame(x * NM, y * NM, 10 * NM, 32) for x, y in places]
    return [diagnose(microscope.scan(frame)) is Diagnosis.ROUGH for frame in frames]


def test_rough_regions_cover_their_share_and_belong_to_place_and_area() -> None:
    places = np.random.default_rng(0).uniform(-410, 410, (200, 2))
    microscope = beset(bare(850, **QUIET), 1, rough_region=0.3)
    first = _rough_places(microscope, places)
    assert first == _rough_places(microscope, places)
    assert first == _rough_places(beset(bare(850, **QUIET), 2, rough_region=0.3), places)
    microscope.move_area(Direction.X_PLUS)
    assert first != _rough_places(microscope, places)
    microscope.move_area(Direction.X_MINUS)
    assert first == _rough_places(microscope, places)
    assert not any(_rough_places(beset(bare(850, **QUIET)), places))
    # Patches are few and large, so the share varies from area to area.
    assert 0.1 < np.mean(first) < 0.55


def test_outside_rough_regions_nothing_changes() -> None:
    this, other = bare(850), beset(bare(850), rough_region=0.2)
    unchanged = 0
    for x, y in np.random.default_rng(0).uniform(-410, 410, (60, 2)):
        frame = Frame(x * NM, y * NM, 10 * NM, 32)
        unchanged += same(this.scan(frame), other.scan(frame))
    assert 20 < unchanged < 60


def test_rough_regions_come_besides_those_of_the_simulator() -> None:
    microscope = beset(bare(rough_fraction=0.1), rough_region=0.2).microscope
    assert microscope.config.rough_fraction == pytest.approx(0.28)


def test_rough_regions_come_to_areas_seen_before_and_leave_what_was_done_there() -> None:
    places = np.random.default_rng(0).uniform(-60, 60, (40, 2))
    places = places[np.hypot(*places.T) > 25]  # away from the traces of the pulse
    events = bare(**QUIET)
    events.surface.mark(Pulse(8.0), 0, 0, np.random.default_rng(0))
    kept = repr(events.surface.get_state())
    found = _rough_places(beset(events, rough_region=0.5), places)
    assert found == _rough_places(beset(bare(**QUIET), rough_region=0.5), places)
    assert any(found)
    assert repr(events.surface.get_state()) == kept


def test_scheduled_debris_leaves_what_was_done_there() -> None:
    microscope = faulty(schedule={1: "debris"})
    microscope.condition(Pulse(8.0), HERE.x, HERE.y)
    before = microscope.microscope.surface.get_state()
    microscope.scan(HERE)
    after = microscope.microscope.surface.get_state()
    assert np.array_equal(before["taken"], after["taken"])
    old, new = before["marks"], after["marks"]
    assert len(new) > len(old) > 0
    assert np.array_equal(old, new[: len(old)])
