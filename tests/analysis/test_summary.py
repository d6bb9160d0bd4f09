from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_gym import cli
from spm_gym.analysis.summary import Summary, summarise
from spm_gym.config import load_config
from spm_gym.imaging.files import read_gsf_scan, write_gsf
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.journal.reader import Label, scan_file
from spm_gym.journal.writer import SessionRecord
from spm_gym.runner.states import State
from spm_gym.types import Frame, Scan
from tests.support.scripted_runs import CALM, Lab, Verdicts, lab

GOOD, BAD = 0.95, 0.02
SESSION = SessionRecord("config", "classifier", "agent", {}, resumed=False)
Damage = Callable[[Path], None]


def work(it: Lab) -> None:
    """Three good images, two bad ones that start conditioning, two actions that end it."""
    it.journal.begin_session(SESSION, 1)
    it.runner.run()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "finished"
    verdicts = Verdicts(GOOD, GOOD, GOOD, BAD, BAD, BAD, GOOD, GOOD)
    with lab(run, verdicts, "operation.condition_after=2", "operation.scans=8") as it:
        work(it)
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def sql(*statements: str) -> Damage:
    def damage(run: Path) -> None:
        with closing(sqlite3.connect(run / "journal.sqlite")) as db:
            for statement in statements:
                db.execute(statement)
            db.commit()

    return damage


def truncate(run: Path) -> None:
    file = run / scan_file(3)
    file.write_bytes(file.read_bytes()[:-4])


def resize(run: Path) -> None:
    small = Scan(Frame(0, 0, 1e-8, 8), np.zeros((8, 8), np.float32))
    write_gsf(run / scan_file(3), small)


def leave_file(number: int) -> Damage:
    def damage(run: Path) -> None:
        shutil.copy(run / scan_file(1), run / scan_file(number))

    return damage


def go_back_to(state: str) -> Damage:
    return sql(f"UPDATE state SET runner = json_set(runner, '$.state', '{state}')")


def without_unique_numbers(run: Path) -> None:
    """Nothing but a table without its constraint can hold an act twice."""
    sql(
        "CREATE TABLE loose AS SELECT * FROM acts",
        "INSERT INTO loose SELECT id + 1000, session, number, act, details, wall, before, result,"
        " reason, wall_result, after FROM acts WHERE number = 1",
        "DROP TABLE acts",
        "ALTER TABLE loose RENAME TO acts",
    )(run)


def inconsistencies(run: Path) -> tuple[str, ...]:
    summary = summarise(run)
    assert summary.consistent is not bool(summary.inconsistencies)
    return summary.inconsistencies


# --- figures --------------------------------------------------------------------------------------


def test_figures_of_a_run(finished: Path) -> None:
    summary = summarise(finished)
    assert summary.inconsistencies == ()
    assert summary.labels == {
        "good": 4,
        "bad probe": 2,
        "bad sample": 0,
        "unknown": 0,
        "unclassified": 0,
        "discarded": 8,
        "conditioning": 2,
        "preview": 0,
        "unusable": 0,
        "undecided": 0,
    }
    assert (summary.scans, summary.images) == (16, 8)
    assert summary.share_good == 4 / 6
    assert summary.good_per_hour == pytest.approx(4 / summary.hours)
    assert summary.episodes == {
        "total": 1, "good": 1, "limit": 0, "under_way": 0, "mean_actions": 2.0
    }  # fmt: skip
    actions = summary.actions
    assert (actions["total"], actions["refused"], actions["uncertain"]) == (2, 0, 0)
    assert sum(actions["by_name"].values()) == 2
    conditioned = [summary.acts.get(act, {}).get("done", 0) for act in ("pulse", "dip", "stall")]
    assert sum(conditioned) == 2
    assert summary.acts["withdraw"] == {"done": 1}
    assert (summary.unknown_outcomes, summary.acts_under_way) == (0, 0)
    assert summary.recoveries == {"total": 0, "by_trouble": {}, "by_result": {}}
    assert (summary.areas, summary.sessions, summary.resumes) == (1, 1, 0)
    assert summary.blocked_places == 10  # images and actions
    assert (summary.state, summary.finished, summary.failed) == ("stop", True, False)
    assert "8 images" in summary.ending


def test_hours_are_those_of_the_instrument(finished: Path) -> None:
    with closing(sqlite3.connect(finished / "journal.sqlite")) as db:
        first, last = db.execute("SELECT MIN(time), MAX(time) FROM scans").fetchone()
    assert summarise(finished).hours > (last - first) / 3600 > 0


def test_a_run_can_be_looked_at_while_it_works(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(BAD), "operation.condition_after=2") as it:
        it.journal.begin_session(SESSION, 1)
        for _ in range(60):
            it.runner.step()
            summary = summarise(tmp_path)
            assert summary.inconsistencies == ()
            assert (summary.state, summary.finished) == (it.runner.state, False)
        assert summary.episodes["under_way"] == 1
        assert summary.episodes["mean_actions"] is None


def test_a_run_that_has_only_started(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD)):
        summary = summarise(tmp_path)
    assert summary.inconsistencies == ()
    assert (summary.share_good, summary.good_per_hour, summary.scans) == (None, None, 0)


# --- what does not fit together -------------------------------------------------------------------

BROKEN: dict[str, tuple[Damage, str]] = {
    "file gone": (lambda run: (run / scan_file(3)).unlink(), "scan 3: its file scans/000003.gsf"),
    "file truncated": (truncate, "scan 3: "),
    "file of another size": (resize, "scan 3: scans/000003.gsf has 8 x 8 pixels"),
    "file too many": (leave_file(17), "scans/000017.gsf: there is no scan"),
    "foreign file": (lambda run: (run / "scans" / "notes.txt").touch(), "scans/notes.txt: there"),
    "row gone": (sql("DELETE FROM scans WHERE id = 16"), "scans/000016.gsf: there is no scan"),
    "label unknown": (sql("UPDATE scans SET label = 'fine' WHERE id = 2"), "scan 2: 'fine' is not"),
    "label changed": (
        sql("UPDATE scans SET label = 'good' WHERE label = 'bad probe'"),
        "counter 'good': says 4, the journal has 6",
    ),
    "state gone": (sql("DELETE FROM state"), "counter 'scans': says 0, the journal has 16"),
    "act twice": (without_unique_numbers, "act 1: recorded 2 times"),
    "act of two steps": (
        sql("UPDATE steps SET act = (SELECT MAX(act) FROM steps)"),
        "claimed by 2 steps",
    ),
    "step with an act of another kind": (
        sql("UPDATE steps SET act = (SELECT number FROM acts WHERE act = 'withdraw')"
            " WHERE number = 1"),
        "is a withdraw",
    ),
    "act without result": (
        sql("UPDATE acts SET result = NULL, wall_result = NULL WHERE number = 1"),
        "act row 1: no result, although other acts came after it",
    ),
    "result without time": (
        sql("UPDATE acts SET wall_result = NULL WHERE number = 2"),
        "act row 2: a result without its time",
    ),
    "time without result": (
        sql("UPDATE acts SET result = NULL WHERE number = 2"),
        "act row 2: the time of a result",
    ),
    "step without its image": (
        sql("UPDATE steps SET scan = 99 WHERE id = 1"),
        "steps row 1: its scan 99 is not among the scans",
    ),
    "step without its outcome": (
        sql("UPDATE steps SET scan_after = 99 WHERE id = 2"),
        "steps row 2: its scan_after 99 is not among the scans",
    ),
    "reward for nothing": (
        sql("UPDATE steps SET scan_after = NULL WHERE id = 1"),
        "step row 1: a reward, but no image",
    ),
    "step of no episode": (
        sql("UPDATE steps SET episode = 7 WHERE id = 2"),
        "steps row 2: its episode 7 is not among the episodes",
    ),
    "step of no act": (
        sql("UPDATE steps SET act = 99 WHERE id = 1"),
        "steps row 1: its act 99 is not among the acts",
    ),
    "step gone": (sql("DELETE FROM steps WHERE id = 2"), "episode 1: says 2 actions, has 1 steps"),
    "episode of no area": (sql("UPDATE episodes SET area = 5"), "episodes row 1: its area 5"),
    "episode of no scan": (sql("UPDATE episodes SET first_scan = 99"), "its first_scan 99"),
    "mark of no area": (sql("UPDATE marks SET area = 5 WHERE id = 1"), "marks row 1: its area 5"),
    "scan of no area": (sql("UPDATE scans SET area = 5 WHERE id = 1"), "scans row 1: its area 5"),
    "scan of no session": (
        sql("UPDATE scans SET session = 5 WHERE id = 1"),
        "scans row 1: its session 5 is not among the sessions",
    ),
    "scan of no episode": (sql("UPDATE scans SET episode = 5 WHERE id = 1"), "its episode 5"),
    "database damaged": (
        sql("PRAGMA writable_schema = ON", "UPDATE sqlite_master SET sql ="
            " replace(sql, 'episode INTEGER', 'episode INTEGER NOT NULL') WHERE name = 'scans'"),
        "the database is damaged: NULL value in scans.episode",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "sentence"), BROKEN.values(), ids=BROKEN)
def test_damage_is_named(run: Path, damage: Damage, sentence: str) -> None:
    damage(run)
    assert any(sentence in each for each in inconsistencies(run)), inconsistencies(run)


@pytest.mark.parametrize(
    "counter", [*map(str, Label), "scans", "episodes", "actions", "recoveries", "areas"]
)
def test_every_counter_must_equal_its_rows(run: Path, counter: str) -> None:
    places = {"scans": "imaging.scans", "episodes": "conditioning.episodes",
              "actions": "conditioning.actions", "recoveries": "recovery.total",
              "areas": "place.entered"}  # fmt: skip
    place = places.get(counter, f'imaging.labels."{counter}"')
    key = f"'$.{place}'"
    sql(f"UPDATE state SET runner = json_set(runner, {key}, json_extract(runner, {key}) + 1)")(run)
    (found,) = inconsistencies(run)
    assert found.startswith(f"counter {counter!r}: says ")


# --- what is under way ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.PARTIAL, State.IMAGE])
def test_the_file_of_a_scan_under_way_has_no_row_yet(run: Path, state: State) -> None:
    go_back_to(state)(run)
    leave_file(17)(run)
    assert inconsistencies(run) == ()


def test_only_the_next_file_can_be_under_way(run: Path) -> None:
    go_back_to(State.IMAGE)(run)
    leave_file(18)(run)
    assert inconsistencies(run) == ("scans/000018.gsf: there is no scan with this file in the"
                                    " journal",)  # fmt: skip


@pytest.mark.parametrize("state", sorted({*State} - {State.PARTIAL, State.IMAGE}))
def test_no_file_is_under_way_where_nothing_is_scanned(run: Path, state: State) -> None:
    go_back_to(state)(run)
    leave_file(17)(run)
    assert inconsistencies(run) != ()


def test_half_a_file_is_under_way_too(run: Path) -> None:
    (run / "scans" / ".000017-123.gsf").write_bytes(b"Gwyddion")
    assert inconsistencies(run) == ()


class Killed(BaseException):
    """Stands for a kill: nobody catches it, and what was not committed is lost."""


class Mortal(SimulatedMicroscope):
    """A microscope at whose second action something happens."""

    def __init__(self, error: BaseException) -> None:
        self._error, self._actions = error, 0
        config = load_config(None, [*CALM]).simulator
        super().__init__(config, seed=5)

    def condition(self, *arguments: Any) -> None:
        self._actions += 1
        if self._actions == 2:
            raise self._error
        super().condition(*arguments)


SETTINGS = ("operation.condition_after=2", "operation.scans=8")


def killed_in_an_action(run: Path) -> None:
    with lab(run, Verdicts(BAD), *SETTINGS, microscope=Mortal(Killed())) as it:
        it.journal.begin_session(SESSION, 1)
        with pytest.raises(Killed):
            it.until(State.STOP)


def test_a_kill_in_the_middle_of_an_action_leaves_it_under_way(tmp_path: Path) -> None:
    killed_in_an_action(tmp_path)
    summary = summarise(tmp_path)
    assert summary.inconsistencies == ()
    assert (summary.state, summary.acts_under_way) == ("condition", 1)
    assert summary.actions["total"] == 2


def test_an_interrupted_run_withdraws_and_stays_consistent(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(BAD), *SETTINGS, microscope=Mortal(KeyboardInterrupt())) as it:
        work(it)
    summary = summarise(tmp_path)
    assert summary.inconsistencies == ()
    assert summary.acts["withdraw"] == {"done": 1}
    assert (summary.state, summary.acts_under_way) == ("condition", 1)


def test_a_decision_ahead_of_the_counters_needs_an_act_under_way(tmp_path: Path) -> None:
    killed_in_an_action(tmp_path)
    sql("UPDATE acts SET result = 'done', wall_result = wall WHERE result IS NULL")(tmp_path)
    assert inconsistencies(tmp_path) == ("counter 'actions': says 1, the journal has 2",)


# --- command line ---------------------------------------------------------------------------------


def test_json_has_the_attributes_of_the_summary(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["journal", str(finished), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == [field.name for field in fields(Summary)]
    assert printed["consistent"] is True
    assert printed["labels"]["bad probe"] == 2


@pytest.mark.parametrize("mode", [[], ["--json"]])
def test_the_exit_status_says_whether_it_is_consistent(
    run: Path, capsys: pytest.CaptureFixture[str], mode: list[str]
) -> None:
    assert cli.main(["journal", str(run), *mode]) == 0
    assert "scan 3: " not in capsys.readouterr().out
    (run / scan_file(3)).unlink()
    assert cli.main(["journal", str(run), *mode]) == 1
    assert "scan 3: its file scans/000003.gsf is missing" in capsys.readouterr().out


def test_people_get_a_table_and_the_first_findings(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sql("UPDATE scans SET area = 5", "UPDATE marks SET area = 5")(run)
    assert cli.main(["journal", str(run)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "good 4, bad probe 2, bad sample 0" in " ".join(lines)
    assert "NOT consistent: 26 findings" in lines
    assert lines[-1].strip() == "and 6 more; --json lists all"


@pytest.mark.parametrize("content", [None, b"", b"no database, but long enough to look like one"])
def test_what_is_not_a_run_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "journal.sqlite").write_bytes(content)
    assert cli.main(["journal", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert "journal" in error


def test_a_journal_that_cannot_be_counted_is_refused_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sql("DROP TABLE marks")(run)
    assert cli.main(["journal", str(run)]) == 2
    assert "is damaged: no such table: marks" in capsys.readouterr().err


def test_looking_changes_nothing(run: Path) -> None:
    before = {path.name: path.read_bytes() for path in (run / "scans").iterdir()}
    database = (run / "journal.sqlite").read_bytes()
    summarise(run)
    assert (run / "journal.sqlite").read_bytes() == database
    assert {path.name: path.read_bytes() for path in (run / "scans").iterdir()} == before
    assert read_gsf_scan(run / scan_file(1)).shape == (64, 64)
