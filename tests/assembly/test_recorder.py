"""The record of a training agrees with itself and goes on, wherever the program is killed."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_gym.analysis.summary import summarise
from spm_gym.assembly.recorder import EpisodeRecorder
from spm_gym.assembly.recording import session_record
from spm_gym.config import Config, load_config
from spm_gym.envs.observer import EnvObserver
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import Aborted
from spm_gym.instrument.guard import Guard
from spm_gym.journal.reader import reading
from spm_gym.journal.writer import Journal
from spm_gym.runner.run_state import RunState
from spm_gym.types import Expectation
from tests.support.faulty import bare, faulty

SETTINGS = ["env.max_steps=4", "env.regions.area_nm=90", "env.settle_fraction=0.5",
            "env.creep_wait_s=5"]  # fmt: skip


class Killed(BaseException):
    """Nothing that the program does after it reaches the journal."""


class MortalJournal(Journal):
    """Kills the program at the n-th entry."""

    def __init__(self, run: Path, entries: float) -> None:
        self._left = entries
        super().__init__(run, RunState.references, durable=False)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Killed

    def _insert(self, table: str, **values: Any) -> int:
        self._count()
        return super()._insert(table, **values)

    def _update(self, table: str, number: int, **values: Any) -> None:
        self._count()
        super()._update(table, number, **values)

    def commit(self, runner: dict[str, Any], instrument: Any) -> None:
        self._count()
        super().commit(runner, instrument)

    def record_act(self, entry: dict[str, Any]) -> None:
        self._count()
        super().record_act(entry)


def opinions(images: np.ndarray) -> np.ndarray:
    """Call every fourth image good, by a digit of its mean height."""
    even = np.floor(np.abs(images.mean(axis=(1, 2, 3))) * 1e3) % 4 == 0
    return np.where(even, 0.95, 0.02).astype(np.float32)


def episodes(
    run: Path, steps: int, entries: float = np.inf, config: Config | None = None, **session: Any
) -> ProbeConditioningEnv:
    """Do so many steps as a training does, with its record, on a microscope with accidents."""
    config = config or load_config(None, SETTINGS)
    stop = session.pop("stop", lambda: False)
    microscope = faulty(1, lost_contact=0.05, crash=0.03)
    with MortalJournal(run, entries) as journal:
        guard = Guard(microscope, None, journal.record_act, journal.acts())
        env = ProbeConditioningEnv(guard, opinions, config.env)
        journal.begin_session(session_record(config, None, False, "train"), 1)
        recorder = EpisodeRecorder(config, journal, stop)
        recorder.expectation = lambda image: Expectation(tuple(np.arange(12.0)))
        recorder.follow(env, 0)
        rng = np.random.default_rng(0)
        _, info = env.reset(seed=0)
        for _ in range(steps):
            action = rng.choice(np.flatnonzero(info["action_mask"]))
            _, _, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                _, info = env.reset()
    return env


def rows(run: Path, query: str) -> list[tuple[Any, ...]]:
    with reading(run) as db:
        return [tuple(row) for row in db.execute(query)]


def test_everything_that_happens_is_in_the_journal(tmp_path: Path) -> None:
    episodes(tmp_path, 30)
    summary = summarise(tmp_path)
    assert summary.consistent, summary.inconsistencies
    assert summary.actions["total"] == 30
    assert summary.areas > 1
    assert summary.recoveries["by_trouble"]
    assert min(summary.episodes["good"], summary.episodes["limit"]) > 0
    # Each decision rests on the image that the one before has led to, and has what it rests on.
    steps = rows(tmp_path, "SELECT episode, scan, scan_after, reward, q, mask, policy FROM steps")
    for earlier, later in itertools.pairwise(steps):
        assert earlier[0] != later[0] or earlier[2] == later[1]
    assert {step[3] for step in steps} == {-1.0, 10.0}
    assert all(len(step[4].split(",")) == len(step[5].split(",")) == 12 for step in steps)
    # What was read from an image stands with it.
    labels = {row[0] for row in rows(tmp_path, "SELECT label FROM scans WHERE probability > 0")}
    assert labels == {"conditioning"}
    assert not rows(tmp_path, "SELECT id FROM scans WHERE label = 'discarded' AND fraction = 1")
    acts = rows(tmp_path, "SELECT COUNT(*) FROM steps WHERE act IS NULL AND NOT refused")
    assert acts == [(0,)]


def test_a_training_without_a_record_is_the_same(tmp_path: Path) -> None:
    """The observer changes nothing: equal images and rewards without one."""
    trajectories = []
    for observed in (False, True):
        env = ProbeConditioningEnv(bare(), opinions, load_config(None, SETTINGS).env)
        if observed:
            env.observer = EnvObserver()
        observation, info = env.reset(seed=3)
        images = [observation]
        for _ in range(5):
            step = env.step(int(np.flatnonzero(info["action_mask"])[-1]))
            images.append(step[0])
            info = step[4]
        trajectories.append(images)
    assert all(np.array_equal(this, other) for this, other in zip(*trajectories, strict=True))


@pytest.mark.slow
def test_a_kill_at_any_entry_leaves_a_journal_that_goes_on(tmp_path: Path) -> None:
    for entries in range(3, 220, 9):
        run = tmp_path / str(entries)
        with pytest.raises(Killed):
            episodes(run, 30, entries)
        killed = summarise(run)
        assert killed.consistent, (entries, killed.inconsistencies)
        marks = rows(run, "SELECT area, x, y FROM marks")
        env = episodes(run, 2)
        resumed = summarise(run)
        assert resumed.consistent, (entries, resumed.inconsistencies)
        assert resumed.episodes["under_way"] <= 1
        assert resumed.acts_under_way == 0
        # Nothing that was used up before the kill is free again.
        known = {(mark.x, mark.y) for mark in env.navigator.regions.marks}
        here = rows(run, "SELECT MAX(number) FROM areas")[0][0]
        assert {(x, y) for area, x, y in marks if area == here} <= known
        numbers = rows(run, "SELECT number FROM acts WHERE number")
        assert len(set(numbers)) == len(numbers)


def test_a_request_is_obeyed_before_the_next_scan_act_or_wait(tmp_path: Path) -> None:
    """Also with a driver that cannot end a scan early."""
    asked: list[bool] = []
    config = load_config(None, SETTINGS)
    with MortalJournal(tmp_path, np.inf) as journal:
        microscope = bare()
        env = ProbeConditioningEnv(Guard(microscope, None), opinions, config.env)
        recorder = EpisodeRecorder(config, journal, lambda: bool(asked))
        recorder.follow(env, 0)
        _, info = env.reset(seed=0, options={"damage": False})
        asked.append(True)
        before = microscope.status().time
        with pytest.raises(Aborted):
            env.step(int(np.flatnonzero(info["action_mask"])[0]))
        with pytest.raises(Aborted):
            env.reset(options={"damage": False})
        with pytest.raises(Aborted):
            env.navigator.await_creep()
        assert microscope.status().time == before
