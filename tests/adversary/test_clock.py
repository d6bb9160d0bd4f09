"""Somebody sets the computer's clock, or a server does."""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.cli import main
from spm_gym.config.real import LimitsConfig
from spm_gym.errors import LimitExceeded
from spm_gym.instrument.guard import Guard
from spm_gym.journal.reader import reading
from spm_gym.journal.writer import Journal
from spm_gym.runner.clock import steady_clock
from spm_gym.runner.run_state import RunState
from spm_gym.types import Conditioning, Pulse, Status
from tests.support.scripted_runs import Verdicts, lab
from tests.support.virtual import virtual_nanonis

HOUR_S = 3600.0
LIMITS = LimitsConfig(actions_per_hour=5)


class Recorder:
    """A microscope that counts what it is told to do."""

    def __init__(self) -> None:
        self.pulses = 0

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        self.pulses += 1

    def status(self) -> Status:
        return Status(0.0, 0.0, 0.0, (-1e-7, 1e-7), 0.1, 1e-11, 0.0, True, time.time())


def pulse(guard: Guard) -> bool:
    """Whether a pulse passes."""
    try:
        guard.condition(Pulse(2.5), 0.0, 0.0)
    except LimitExceeded:
        return False
    return True


@pytest.mark.parametrize("step", [400.0, 3600.0, 1e6, -400.0, -1e6])
def test_a_clock_that_is_set_gives_no_action_back_and_takes_none(
    monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    set_to, now = itertools.count(1.7e9, step), [50_000.0]
    monkeypatch.setattr(time, "time", lambda: next(set_to))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    recorder = Recorder()
    guard = Guard(recorder, LIMITS, clock=time.monotonic)  # type: ignore[arg-type]
    assert sum(pulse(guard) for _ in range(20)) == 5
    now[0] += HOUR_S + 1
    assert sum(pulse(guard) for _ in range(20)) == 5
    assert recorder.pulses == 10


@pytest.mark.parametrize("step", [1e6, -1e6])
def test_nor_does_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    set_to, now, recorder = itertools.count(1.7e9, step), [50_000.0], Recorder()
    monkeypatch.setattr(time, "time", lambda: next(set_to))

    def pulse_after_resume() -> bool:
        with Journal(tmp_path, RunState.references) as journal:
            args = (journal.record_act, journal.acts(), lambda: now[0])
            return pulse(Guard(recorder, LIMITS, *args))  # type: ignore[arg-type]

    for _ in range(8):
        pulse_after_resume()
        now[0] += 60.0
    assert recorder.pulses == 5
    now[0] += HOUR_S
    assert pulse_after_resume()


@pytest.mark.parametrize("recorded", [None, math.nan, math.inf])
def test_an_act_without_a_time_counts_as_done_just_now(recorded: float | None) -> None:
    entry = {"number": 1, "act": "pulse", "result": "intended", "monotonic": recorded}
    now = [9e5]
    limits = LimitsConfig(actions_per_hour=1)
    guard = Guard(Recorder(), limits, history=[entry], clock=lambda: now[0])  # type: ignore[arg-type]
    assert not pulse(guard)
    now[0] += HOUR_S + 1
    assert pulse(guard)


moves = st.one_of(
    st.just(("pulse", 0.0)),
    st.tuples(st.just("wait"), st.floats(0, 5000)),
    st.just(("resume", 0.0)),
    st.tuples(st.just("restart"), st.floats(0, 3000)),
)


@given(st.lists(moves, max_size=60))
def test_never_more_in_an_hour_whatever_happens(moves: list[tuple[str, float]]) -> None:
    """True time goes on; the clock of the computer begins at zero whenever that is restarted."""
    true, started, history = 1e6, 0.0, []
    limits = LimitsConfig(actions_per_hour=3)

    def resumed() -> Guard:
        # As it is kept: in JSON.
        kept: list[dict[str, Any]] = [json.loads(json.dumps(entry)) for entry in history]
        return Guard(recorder, limits, history.append, kept, lambda: true - started)  # type: ignore[arg-type]

    recorder, done = Recorder(), []
    guard = resumed()
    for move, seconds in moves:
        if move == "pulse" and pulse(guard):
            done.append(true)
        true += seconds
        if move == "restart":
            started = true
        if move in ("resume", "restart"):
            guard = resumed()
    for first, fourth in zip(done, done[3:], strict=False):
        assert fourth - first >= HOUR_S * (1 - 1e-9)
    true += HOUR_S + 1  # and nothing is refused for longer than that
    assert pulse(guard)


def test_a_steady_clock_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.time()
    clock = steady_clock()
    assert before <= clock() + 1e-3
    assert clock() <= time.time() + 1e-3
    now = clock()
    monkeypatch.setattr(time, "time", lambda: before + 1e7)
    assert 0 <= clock() - now < 1e6
    monkeypatch.setattr(time, "time", lambda: before - 1e7)
    assert 0 <= clock() - now < 1e6


def test_a_run_on_a_nanonis_lasts_as_long_as_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    set_to = itertools.count(1.7e9, 36_000.0)  # ten hours forward whenever somebody looks
    with virtual_nanonis("--seed", "4", quiet=True) as ports:
        monkeypatch.setattr(time, "time", lambda: next(set_to))
        options = [f"real.nanonis.ports={ports[:2]}", "env.creep_wait_s=0", "operation.confirm_s=0"]
        command = ["run", "--env", "real", "--run-dir", "run", "--hours", "9", "--scans", "4"]
        assert main([*command, "--set", *options]) == 0
    assert "4 images are taken" in capsys.readouterr().out
    with reading(Path("run")) as db:
        hours = db.execute("SELECT MAX(elapsed) / 3600 FROM scans").fetchone()[0]
    assert hours < 9


def test_a_simulated_run_does_not_ask_the_computer_for_the_time(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(0.99)) as it:
        for _ in range(30):
            it.runner.step()
        assert it.rows("SELECT COUNT(*) FROM acts WHERE details LIKE '%monotonic%'") == [(0,)]
