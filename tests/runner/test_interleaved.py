"""Agent and random policy in turn on one microscope, and what the journal says of each."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from agents.checkpoint import latest_checkpoint
from agents.double_dqn_checkpoint import load_checkpoint
from spm_gym.analysis.policies import PolicyEpisodes, policy_episodes, saved_actions
from spm_gym.cli import main
from spm_gym.intervals import FEWEST
from spm_gym.journal.reader import reading
from spm_gym.web.report import render_report
from tests.support.command_runs import LIVELY, summary
from tests.support.invented_runs import PULSE, InventedRun

pytestmark = pytest.mark.usefixtures("fresh_folder")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InventedRun]:
    with InventedRun(tmp_path / "invented") as run:
        run.enter_area()
        yield run


def policies_by_steps(run: str) -> dict[int, set[str]]:
    """Who chose the steps of every episode."""
    with reading(Path(run)) as db:
        found: dict[int, set[str]] = {}
        for episode, policy in db.execute("SELECT episode, policy FROM steps"):
            found.setdefault(episode, set()).add(policy)
        return found


def test_of_every_two_episodes_one_is_left_to_random_also_after_a_resume(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--run-dir", "run", "--set", *LIVELY, "operation.checkpoint_every=3",
               "simulator.tip_change_rate=0.3"]  # fmt: skip
    assert main(["run", "--policy", "interleaved", "--scans", "90", *options]) == 0
    assert main(["run", "--resume", "--run-dir", "run", "--scans", "180"]) == 0
    found = policies_by_steps("run")
    assert len(found) >= 4
    for first in range(1, len(found), 2):
        assert sorted([*found[first], *found[first + 1]]) == ["agent", "random"]
    figures = summary(capsys)
    assert figures["consistent"], figures["inconsistencies"]
    over = figures["episodes"]["good"] + figures["episodes"]["limit"]
    assert sum(each["episodes"] for each in figures["policies"].values()) == over
    with reading(Path("run")) as db:
        query = "SELECT SUM(elapsed_end - elapsed) FROM episodes WHERE outcome IS NOT NULL"
        total = db.execute(query).fetchone()[0]
    times = [each["episodes"] * each["mean_seconds"] for each in figures["policies"].values()]
    assert sum(times) == pytest.approx(total)
    with reading(Path("run")) as db:
        certain = "SELECT COUNT(*) FROM steps WHERE scan_after IS NOT NULL AND NOT uncertain"
        learned = db.execute(certain).fetchone()[0]
    newest = latest_checkpoint(Path("run/checkpoints"))
    assert newest is not None
    assert load_checkpoint(newest).model.replay_buffer.size() == learned
    assert main(["report", "run"]) == 0
    assert "Agent and random policy took turns" in Path("run/report.html").read_text()


def test_a_run_of_the_agent_alone_has_nothing_to_compare(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "--scans", "60", "--run-dir", "run", "--set", *LIVELY]) == 0
    assert set(summary(capsys)["policies"]) == {"agent"}
    assert main(["report", "run"]) == 0
    assert "took turns" not in Path("run/report.html").read_text()


def test_an_episode_with_two_policies_is_an_inconsistency(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "--policy", "random", "--scans", "60", "--run-dir", "run",
                 "--set", *LIVELY]) == 0  # fmt: skip
    db = sqlite3.connect("run/journal.sqlite")
    try:
        row = db.execute("SELECT MAX(id) FROM steps WHERE number > 1").fetchone()[0]
        db.execute("UPDATE steps SET policy = 'agent' WHERE id = ?", (row,))
        db.commit()
    finally:
        db.close()
    assert any("more than one policy" in each for each in summary(capsys)["inconsistencies"])


def invented(episodes: Sequence[tuple[str | None, list[str]]]) -> sqlite3.Connection:
    """A journal with these outcomes, and the policies of the steps that led to them."""
    db = sqlite3.connect(":memory:")
    db.row_factory = sqlite3.Row
    db.execute(
        "CREATE TABLE episodes"
        " (id INTEGER, actions INTEGER, outcome TEXT, elapsed REAL, elapsed_end REAL)"
    )
    db.execute("CREATE TABLE steps (episode INTEGER, policy TEXT)")
    for number, (outcome, values) in enumerate(episodes, 1):
        # Twenty seconds an action, and a time that has passed before the first episode.
        began, ended = 1000.0 * number, 1000.0 * number + 20 * len(values)
        row = (number, len(values), outcome, began, ended if outcome else None)
        db.execute("INSERT INTO episodes VALUES (?, ?, ?, ?, ?)", row)
        db.executemany("INSERT INTO steps VALUES (?, ?)", [(number, each) for each in values])
    return db


def test_lengths_and_seconds_go_to_those_who_chose() -> None:
    db = invented(
        [
            ("good", ["agent"] * 2),
            ("limit", ["random"] * 7),
            ("good", []),  # good again before anything was done
            ("good", ["agent"] * 4),
            (None, ["random"]),
        ]
    )
    try:
        found = policy_episodes(db)
    finally:
        db.close()
    assert found == {
        "agent": PolicyEpisodes((1, 4), (2, 4), (40.0, 80.0), (True, True)),
        "random": PolicyEpisodes((2,), (7,), (140.0,), (False,)),
    }


def policy(lengths: Sequence[int]) -> PolicyEpisodes:
    whole = tuple(map(int, lengths))
    seconds = tuple(20.0 * length for length in whole)
    return PolicyEpisodes(tuple(range(len(lengths))), whole, seconds, (True,) * len(lengths))


def mirrored(rng: np.random.Generator, number: int) -> list[int]:
    """Lengths without skewness: each has its counterpart on the other side of 50."""
    half = rng.integers(1, 50, number // 2).tolist()
    return [*half, *(100 - each for each in half)]


def test_without_skewness_intervals_are_those_of_student_and_welch() -> None:
    rng = np.random.default_rng(0)
    agent, random = mirrored(rng, 12), mirrored(rng, 20)
    expected = stats.ttest_1samp(agent, 0).confidence_interval(0.95)
    assert policy(agent).mean == pytest.approx(50)
    assert policy(agent).interval == pytest.approx((expected.low, expected.high))
    welch = stats.ttest_ind(random, agent, equal_var=False).confidence_interval(0.95)
    saved = saved_actions(policy(agent), policy(random))
    assert saved.actions == pytest.approx(0)
    assert saved.interval == pytest.approx((welch.low, welch.high))


def test_skewed_intervals_are_those_of_a_studentised_bootstrap() -> None:
    rng = np.random.default_rng(2)
    agent, random = rng.geometric(0.3, 80), rng.geometric(0.1, 60)

    def resampled(x: NDArray[np.int_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        drawn = rng.choice(x, (20_000, x.size))
        return drawn.mean(axis=1), drawn.var(axis=1, ddof=1) / x.size

    (mean, variance), (other, of_other) = resampled(agent), resampled(random)
    ratio = (mean - agent.mean()) / np.sqrt(variance)
    expected = agent.mean() - np.quantile(ratio, [0.975, 0.025]) * stats.sem(agent)
    assert policy(agent).interval == pytest.approx(tuple(expected), abs=0.1)
    saved = random.mean() - agent.mean()
    ratio = (other - mean - saved) / np.sqrt(variance + of_other)
    error = np.hypot(stats.sem(agent), stats.sem(random))
    expected = saved - np.quantile(ratio, [0.975, 0.025]) * error
    found = saved_actions(policy(agent), policy(random))
    assert found.actions == pytest.approx(saved)
    assert found.interval == pytest.approx(tuple(expected), abs=0.2)


@pytest.mark.parametrize("share_that_ends", [0.1, 0.3, 0.6])
def test_nineteen_of_twenty_intervals_have_the_true_mean(share_that_ends: float) -> None:
    rng = np.random.default_rng(3)
    intervals = [policy(rng.geometric(share_that_ends, 15)).interval for _ in range(2000)]
    stated = [each for each in intervals if each is not None]
    assert len(stated) > 1990
    hit = np.mean([low <= 1 / share_that_ends <= high for low, high in stated])
    assert 0.93 < hit < 0.99  # Student's has it in 0.90 of them


@given(st.lists(st.integers(1, 100), min_size=FEWEST, max_size=60))
def test_an_interval_has_its_mean_and_nothing_below_one_action(lengths: list[int]) -> None:
    found = policy(lengths)
    if len(set(lengths)) == 1:
        assert found.interval is None
    else:
        assert found.interval is not None
        low, high = found.interval
        assert 1 <= low <= found.mean < high


@pytest.mark.parametrize("lengths", [[1] * 5, [1, 1, 1, 1, 20], [2, 3, 4], [7], list(range(1, 10))])
def test_few_episodes_have_no_interval(lengths: list[int]) -> None:
    few, many = policy(lengths), policy(range(1, 31))
    assert few.interval is None
    assert few.interval_in_words == f"too few to tell ({len(lengths)} of 10 episodes)"
    for saved in (saved_actions(few, many), saved_actions(many, few), saved_actions(few, few)):
        assert saved.interval is None
        assert saved.interval_in_words == few.interval_in_words
    assert saved_actions(few, many).actions == pytest.approx(many.mean - few.mean)


def test_equal_episodes_have_no_interval_however_many() -> None:
    equal, other = policy([2] * 50), policy(range(1, 31))
    for found in (equal, saved_actions(equal, equal), saved_actions(equal, other)):
        assert found.interval is None
        assert found.interval_in_words.startswith("too alike to tell")


def test_pages_and_journal_say_what_is_too_few(
    run: InventedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(20):
        values = [0.1, 0.2] if number % 2 else None
        run.condition([PULSE] * (1 + number % 5), values=values)
        if number == 17:
            assert intervals(run, capsys) == ["too few to tell (9 of 10 episodes)"] * 9
    *journal, saved = intervals(run, capsys)[:5]
    report = intervals(run, capsys)[5:]
    assert report == journal
    assert journal[0] == journal[2] == policy([1, 2, 3, 4, 5] * 2).interval_in_words
    assert all(re.fullmatch(r"\d+\.\d to \d+\.\d", seconds) for seconds in journal[1::2])
    assert re.fullmatch(r"-\d\.\d to \d\.\d", saved)


def intervals(run: InventedRun, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Intervals in the journal and in the report, which begins with that of the saved actions.

    Of actions and seconds in turn, first the agent's, then those of the random policy.
    """
    run.commit()
    folder = run.journal.run
    main(["journal", str(folder)])
    stated = re.findall(r"95 % interval: ((?:\(.+?\)|[^()])+)\)", capsys.readouterr().out)
    page = render_report(folder).html
    stated += re.findall(r"95 % interval: (.+?)\. Below", page)
    table = page.partition("Finished episodes by policy")[2].partition("</table>")[0]
    return stated + re.findall(r'<td class="n">([^<]* to [^<]*)</td>', table)
