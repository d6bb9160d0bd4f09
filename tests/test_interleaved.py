"""Agent and chance in turn on one microscope, and what the journal says of each."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from test_operation import LIVELY, summary

from agents.checkpoint import latest_checkpoint, load_checkpoint
from spm_gym.cli import main
from spm_gym.runner.reading import reading
from spm_gym.view.drivers import Driver, driver_lengths, saved_actions


@pytest.fixture(autouse=True)
def in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def drivers_by_steps(run: str) -> dict[int, set[str]]:
    """Who chose the steps of every episode."""
    with reading(Path(run)) as db:
        found: dict[int, set[str]] = {}
        for episode, values in db.execute("SELECT episode, q FROM steps"):
            found.setdefault(episode, set()).add("random" if values == "null" else "agent")
        return found


def test_every_other_episode_is_left_to_chance_also_after_a_resume(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--run-dir", "run", "--set", *LIVELY, "operation.checkpoint_every=3"]
    assert main(["run", "--policy", "interleaved", "--scans", "90", *options]) == 0
    assert main(["run", "--resume", "--run-dir", "run", "--scans", "180"]) == 0
    found = drivers_by_steps("run")
    assert len(found) >= 4
    assert found == {number: {"agent" if number % 2 else "random"} for number in found}
    figures = summary(capsys)
    assert figures["consistent"], figures["inconsistencies"]
    over = figures["episodes"]["good"] + figures["episodes"]["limit"]
    assert sum(each["episodes"] for each in figures["drivers"].values()) == over
    with reading(Path("run")) as db:
        certain = "SELECT COUNT(*) FROM steps WHERE scan_after IS NOT NULL AND NOT uncertain"
        learned = db.execute(certain).fetchone()[0]
    newest = latest_checkpoint(Path("run/checkpoints"))
    assert newest is not None
    assert load_checkpoint(newest).model.replay_buffer.size() == learned
    assert main(["report", "run"]) == 0
    assert "Agent and chance took turns" in Path("run/report.html").read_text()


def test_a_run_of_the_agent_alone_has_nothing_to_compare(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "--scans", "60", "--run-dir", "run", "--set", *LIVELY]) == 0
    assert set(summary(capsys)["drivers"]) == {"agent"}
    assert main(["report", "run"]) == 0
    assert "took turns" not in Path("run/report.html").read_text()


def test_an_episode_with_two_drivers_is_an_inconsistency(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "--policy", "random", "--scans", "60", "--run-dir", "run",
                 "--set", *LIVELY]) == 0  # fmt: skip
    db = sqlite3.connect("run/journal.sqlite")
    try:
        row = db.execute("SELECT MAX(id) FROM steps WHERE number > 1").fetchone()[0]
        db.execute("UPDATE steps SET q = '[0.0]' WHERE id = ?", (row,))
        db.commit()
    finally:
        db.close()
    assert any("both the agent and chance" in each for each in summary(capsys)["inconsistencies"])


def invented(episodes: Sequence[tuple[str | None, list[str]]]) -> sqlite3.Connection:
    """A journal with these outcomes, and the values of the steps that led to them."""
    db = sqlite3.connect(":memory:")
    db.row_factory = sqlite3.Row
    db.execute("CREATE TABLE episodes (id INTEGER, actions INTEGER, outcome TEXT)")
    db.execute("CREATE TABLE steps (episode INTEGER, q TEXT)")
    for number, (outcome, values) in enumerate(episodes, 1):
        db.execute("INSERT INTO episodes VALUES (?, ?, ?)", (number, len(values), outcome))
        db.executemany("INSERT INTO steps VALUES (?, ?)", [(number, each) for each in values])
    return db


def test_lengths_go_to_those_who_chose() -> None:
    values = json.dumps([0.5, -1.0])
    db = invented(
        [
            ("good", [values] * 2),
            ("limit", ["null"] * 7),
            ("good", []),  # good again before anything was done
            ("good", [values] * 4),
            (None, ["null"]),
        ]
    )
    try:
        found = driver_lengths(db)
    finally:
        db.close()
    assert found == {"agent": Driver((1, 4), (2, 4), 2), "random": Driver((2,), (7,), 0)}


def test_intervals_are_those_of_student_and_welch() -> None:
    rng = np.random.default_rng(0)
    agent, chance = rng.geometric(0.3, 12), rng.geometric(0.1, 9)
    drivers = [Driver(tuple(range(x.size)), tuple(x.tolist()), x.size) for x in (agent, chance)]
    expected = stats.ttest_1samp(agent, 0).confidence_interval(0.95)
    assert drivers[0].mean == pytest.approx(agent.mean())
    assert drivers[0].interval == pytest.approx((expected.low, expected.high))
    welch = stats.ttest_ind(chance, agent, equal_var=False).confidence_interval(0.95)
    saved, interval = saved_actions(*drivers)
    assert saved == pytest.approx(chance.mean() - agent.mean())
    assert interval == pytest.approx((welch.low, welch.high))


def test_one_episode_has_no_interval_and_equal_ones_no_width() -> None:
    one, equal = Driver((1,), (5,), 1), Driver((2, 3, 4), (2, 2, 2), 3)
    assert one.mean == 5
    assert all(map(math.isnan, one.interval))
    assert saved_actions(equal, one)[0] == 3
    assert all(map(math.isnan, saved_actions(equal, one)[1]))
    assert saved_actions(equal, equal) == (0, (0, 0))
