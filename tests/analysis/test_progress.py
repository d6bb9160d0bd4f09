"""When a run is expected to end."""

from __future__ import annotations

import time

import pytest

from spm_gym.analysis.progress import Progress, progress
from spm_gym.analysis.session import Pace, RunSession, last_session
from spm_gym.config import Config
from spm_gym.journal.reader import Label, reading
from spm_gym.runner.run_state import read_run_state
from tests.support.invented_runs import InventedRun


def test_the_end_is_estimated_from_the_pace(run: InventedRun) -> None:
    for number in range(10):
        run.scan(Label.GOOD if number else Label.BAD_PROBE, 0.99)
    run.commit(elapsed=200.0)
    settings = Config.model_validate({"operation": {"hours": 1.0, "scans": 1000}})
    session = RunSession(1, 0.0, settings, Pace(operation=10.0, image_s=2.0))
    with reading(run.journal.run) as db:
        counted = progress(db, read_run_state(db), session, now=1e9)
        assert (counted.images, counted.good, counted.classified, counted.areas) == (10, 9, 10, 1)
        assert counted.recent == pytest.approx(0.9)
        assert counted.bound == "1 h"
        assert counted.share == pytest.approx(200 / 3600)
        assert counted.ends == pytest.approx(1e9 + 340)
        assert progress(db, read_run_state(db), session, None).ends is None
        unreadable = RunSession(1, 0.0, None, None)
        assert progress(db, read_run_state(db), unreadable, 1e9).share is None


def test_of_two_bounds_the_earlier_end_counts_though_less_of_it_is_over(run: InventedRun) -> None:
    run.scan(Label.GOOD, 0.99)
    run.commit(elapsed=3000.0)  # settling and trouble took almost all of it
    settings = Config.model_validate({"operation": {"hours": 1.0, "scans": 3}})

    def counted(pace: Pace | None) -> Progress:
        with reading(run.journal.run) as db:
            return progress(db, read_run_state(db), RunSession(1, 0.0, settings, pace), now=1e9)

    fast, slow = counted(Pace(1.0, image_s=60.0)), counted(Pace(1.0, image_s=500.0))
    assert (fast.bound, fast.share, fast.ends) == ("3 images", pytest.approx(1 / 3), 1e9 + 120)
    assert (slow.bound, slow.share, slow.ends) == ("1 h", pytest.approx(3000 / 3600), 1e9 + 600)
    unknown = counted(None)
    assert (unknown.bound, unknown.ends) == ("1 h", None)


def test_a_pause_does_not_slow_a_run_down(run: InventedRun) -> None:
    for _ in range(10):
        run.scan(Label.GOOD, 0.99)
    run.journal.add_event(0.0, "pause", "asked to pause: withdrawing")
    run.journal.add_event(0.0, "pause", "not withdrawn: no answer")
    run.journal.add_event(0.0, "pause", "goes on")
    run.journal.add_event(0.0, "area", "changed")
    run.commit()

    def pace(paused: bool) -> Pace | None:
        """Pace with an image every 4 s, but for an hour after the sixth."""
        db = run.journal._db
        for number in range(1, 11):
            late = 3600 if number > 6 else 0
            wall = 1000 + 4 * number + late
            db.execute("UPDATE scans SET wall = ? WHERE id = ?", (wall, number))
        walls = [1025, 1026, 4624, 1030] if paused else [0, 0, 9999, 1030]
        for number, wall in enumerate(walls, 1):
            db.execute("UPDATE events SET wall = ? WHERE id = ?", (wall, number))
        run.commit()
        with reading(run.journal.run) as other:
            return last_session(other).pace

    assert pace(paused=True) == Pace(operation=pytest.approx(5.0), image_s=pytest.approx(4.0))
    slow = pace(paused=False)
    assert slow is not None
    assert slow.image_s == pytest.approx((3600 + 36) / 9)
    assert slow.operation == pytest.approx(180 / 3636)


def test_the_pace_is_that_of_the_last_session(run: InventedRun) -> None:
    for number in range(9):
        run.scan(Label.GOOD, 0.99)
        time.sleep(0.001 * (number + 1))
    run.commit()
    with reading(run.journal.run) as db:
        pace = last_session(db).pace
        walls = [wall for (wall,) in db.execute("SELECT wall FROM scans ORDER BY id")]
    assert pace is not None
    assert pace.image_s == pytest.approx((walls[-1] - walls[0]) / 8)
    assert pace.operation == pytest.approx(160 / (walls[-1] - walls[0]))
