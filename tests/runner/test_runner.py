"""The end of a run, requests to it, and what it reads and reports."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_gym.errors import (
    CommandFailed,
)
from spm_gym.imaging import observed
from spm_gym.journal.reader import JournalError
from spm_gym.runner import image_handlers
from spm_gym.runner.control import Request
from spm_gym.runner.states import State
from tests.support.scripted_runs import Verdicts, lab

GOOD, BAD = 0.95, 0.02


def test_a_run_ends_after_its_images_or_hours_with_the_tip_withdrawn(tmp_path: Path) -> None:
    with lab(tmp_path / "a", Verdicts(GOOD), "operation.scans=3") as it:
        outcome = it.runner.run()
        assert it.labels() == ["good"] * 3
        assert outcome.safe
        assert not it.microscope.status().approached
        assert it.notified[-1][0] == "stop"
    with lab(tmp_path / "b", Verdicts(GOOD), "operation.hours=0.1") as it:
        it.runner.run()
        assert 360 <= it.runner.run_state.clock.elapsed < 360 + 60


def test_a_fault_of_the_program_withdraws_before_it_shows(tmp_path: Path) -> None:
    def broken(images: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("a bug")

    with lab(tmp_path, broken) as it:
        with pytest.raises(ZeroDivisionError):
            it.runner.run()
        assert not it.microscope.status().approached
        assert it.notified == [("recovery failed", it.notified[0][1])]


def test_a_tip_that_cannot_be_withdrawn_is_said(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=1") as it:

        def stuck() -> None:
            raise CommandFailed("the motor is stuck")

        it.microscope.withdraw = stuck  # type: ignore[method-assign]
        outcome = it.runner.run()
        assert not outcome.safe
        assert "stuck" in outcome.trouble
        assert "NOT WITHDRAWN" in it.notified[-1][1]


def test_a_disk_that_is_full_does_not_keep_the_tip_at_the_surface(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD)) as it:
        it.until(State.IMAGE)

        def full(*_: Any, **__: Any) -> Any:
            raise sqlite3.OperationalError("database or disk is full")

        it.journal._insert = full  # type: ignore[method-assign]
        with pytest.raises(sqlite3.OperationalError):
            it.runner.run()
        assert not it.microscope.status().approached
        assert it.notified[-1][0] == "recovery failed"
        assert "disk is full; tip withdrawn" in it.notified[-1][1]


def test_an_act_has_one_result(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD)) as it:
        entry = {"time": 0.0, "act": "dip", "number": 1}
        it.journal.record_act(entry | {"result": "intended"})
        it.journal.record_act(entry | {"result": "done"})
        with pytest.raises(JournalError, match="act 1 has a result"):
            it.journal.record_act(entry | {"result": "failed"})


def test_requests_are_obeyed_before_the_next_command(tmp_path: Path) -> None:
    requested: list[Request | None] = [None]
    with lab(tmp_path, Verdicts(GOOD), requests=lambda: requested[0]) as it:
        it.until(State.IMAGE)
        requested[0] = Request.PAUSE
        assert it.runner.step() is State.PAUSE
        assert it.runner.step() is State.PAUSE
        assert not it.microscope.status().approached
        requested[0] = Request.RESUME
        assert it.runner.step() is State.APPROACH
        it.until(State.COLLECT)
        requested[0] = Request.STOP
        outcome = it.runner.run()
        assert outcome.ending == "asked to stop"
        assert it.labels() == ["good"]


def test_a_stop_does_not_leave_an_image_unclassified(tmp_path: Path) -> None:
    requested: list[Request | None] = [None]
    with lab(tmp_path, Verdicts(GOOD), requests=lambda: requested[0]) as it:
        it.until(State.DIAGNOSE)
        requested[0] = Request.STOP
        it.runner.run()
        assert it.labels() == ["good"]


def test_a_daily_summary_comes_daily(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=6", "env.creep_wait_s=0") as it:
        for _ in range(8):
            it.runner.step()
        it.microscope.wait(86_400)
        it.runner.run()
        assert [kind for kind, _ in it.notified] == ["daily summary", "stop"]


def test_an_image_is_diagnosed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole one, also in conditioning, together with all else that is read from it."""
    counted: list[str] = []

    def count(module: Any, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a: counted.append(name) or function(*a))

    count(observed, "readings_of")
    count(image_handlers, "diagnose")
    settings = ("operation.scans=8", "operation.condition_after=1")
    with lab(tmp_path, Verdicts(GOOD, BAD, BAD, BAD, GOOD), *settings) as it:
        it.until(State.CLASSIFY)
        assert counted == ["diagnose", "readings_of"]
        it.runner.run()
        assert counted.count("readings_of") == 8
        [(partial,)] = it.rows("SELECT COUNT(*) FROM scans WHERE fraction < 1")
        assert counted.count("diagnose") == partial
        assert it.rows("SELECT outcome FROM episodes") == [("good",)]
