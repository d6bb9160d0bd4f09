"""Journals that were damaged and recovered, copied back, or put beside the leftovers of others."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from spm_gym.analysis.summary import summarise
from spm_gym.assembly.run_directory import write_settings
from spm_gym.cli import main
from spm_gym.journal.reader import VERSION, JournalError, has_started, reading
from spm_gym.journal.recovered import UNLISTED
from spm_gym.journal.writer import Journal
from spm_gym.runner.run_state import RunState
from spm_gym.runner.states import State
from tests.support.scripted_runs import Verdicts, lab

GOOD = 0.99


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of six images that could go on."""
    folder = tmp_path / "run"
    with lab(folder, Verdicts(GOOD)) as it:
        for _ in range(6):
            it.until(State.COLLECT)
            it.runner.step()
        write_settings(folder / "config.yaml", it.config)
    return folder


def recover(journal: Path, *changes: str) -> None:
    """Copy it as ``sqlite3 old .dump | sqlite3 new`` does: without the number of the format."""
    damaged = journal.with_name("damaged.sqlite")
    with contextlib.closing(sqlite3.connect(journal)) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        dump = "\n".join(old.iterdump())
    journal.rename(damaged)
    for name in ("-wal", "-shm"):
        journal.with_name(journal.name + name).unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(journal)) as new:
        new.executescript(dump)
        for change in changes:
            new.execute(change)
        new.commit()
        assert new.execute("PRAGMA user_version").fetchone()[0] == 0


def scans(run: Path) -> list[str]:
    return sorted(file.name for file in (run / "scans").glob("*.gsf"))


def test_a_recovered_journal_goes_on(run: Path) -> None:
    before = scans(run)
    recover(run / "journal.sqlite", "CREATE TABLE lost_and_found(rootpgno, pgno, nfield, id, c0)")
    with lab(run, Verdicts(GOOD)) as it:
        assert it.rows("PRAGMA user_version") == [(VERSION,)]
        assert it.runner.run_state.imaging.images == 6
        it.until(State.COLLECT)
        it.runner.step()
        assert it.runner.run_state.imaging.images == 7
        [(kind,)] = it.rows("SELECT kind FROM events WHERE text LIKE '%recovered%'")
        assert kind == "recovered"
    assert set(before) < set(scans(run))


def test_a_recovered_journal_is_read_before_anybody_goes_on(run: Path) -> None:
    recover(run / "journal.sqlite")
    with reading(run) as db:
        assert db.execute("SELECT COUNT(*) FROM scans").fetchone()[0] == len(scans(run))
    assert has_started(run)
    assert summarise(run)


def test_the_command_goes_on_with_a_recovered_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--scans", "3", "--run-dir", "r"]) == 0
    recover(Path("r/journal.sqlite"))
    assert main(["run", "--resume", "--run-dir", "r", "--scans", "5"]) == 0
    with reading(Path("r")) as db:
        found = db.execute("SELECT COUNT(*) FROM scans WHERE fraction = 1").fetchone()[0]
    assert found == 5


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("DELETE FROM state", "state"),
        ("UPDATE state SET runner = '{'", "state"),
        ("UPDATE state SET runner = '[]'", "state"),
        ("DROP TABLE steps", "steps"),
        ("ALTER TABLE scans DROP COLUMN clean_side", "scans.clean_side"),
        ("DELETE FROM scans", "scans"),
        ("DELETE FROM areas", "areas"),
    ],
)
def test_what_cannot_go_on_is_said_in_a_line_and_left_as_it_is(
    run: Path, change: str, word: str
) -> None:
    journal = run / "journal.sqlite"
    with lab(run, Verdicts(GOOD)) as it:
        it.until(State.CLASSIFY)  # an image is in hand
    recover(journal, change)
    before = scans(run)
    kept = journal.read_bytes()
    with pytest.raises(JournalError, match=word) as refused:
        Journal(run, RunState.references)
    assert "\n" not in str(refused.value)
    assert journal.read_bytes()[100:] == kept[100:]
    assert scans(run) == before


def test_scans_whose_rows_were_lost_are_kept(run: Path) -> None:
    last = scans(run)[-1]
    content = (run / "scans" / last).read_bytes()
    recover(
        run / "journal.sqlite",
        f"DELETE FROM scans WHERE file = 'scans/{last}'",
        "UPDATE state SET runner = json_set(runner, '$.imaging.scan', NULL)",
    )
    with lab(run, Verdicts(GOOD)) as it:
        it.until(State.COLLECT)
        [(text,)] = it.rows("SELECT text FROM events WHERE kind = 'recovered'")
    assert "1 scans without a row" in text
    assert (run / "scans" / UNLISTED / last).read_bytes() == content


def test_an_older_copy_of_the_journal_overwrites_no_scan(run: Path, tmp_path: Path) -> None:
    older = tmp_path / "older.sqlite"
    shutil.copyfile(run / "journal.sqlite", older)
    with lab(run, Verdicts(GOOD)) as it:
        for _ in range(4):
            it.until(State.COLLECT)
            it.runner.step()
    before = {name: (run / "scans" / name).read_bytes() for name in scans(run)}
    shutil.copyfile(older, run / "journal.sqlite")
    with lab(run, Verdicts(GOOD)) as it:
        it.until(State.COLLECT)
    kept = [file.read_bytes() for file in (run / "scans").rglob("*.gsf")]
    assert all(content in kept for content in before.values())


def test_without_a_journal_the_scans_are_not_started_again(run: Path) -> None:
    (run / "journal.sqlite").unlink()
    before = scans(run)
    with pytest.raises(JournalError, match="has scans, but no"):
        Journal(run, RunState.references)
    (run / "journal.sqlite").touch()
    with pytest.raises(JournalError, match="has scans, but no"):
        Journal(run, RunState.references)
    assert (run / "journal.sqlite").exists()
    assert scans(run) == before


def test_the_log_of_the_damaged_file_is_not_written_into_the_recovered_one(run: Path) -> None:
    log = run / "journal.sqlite-wal"
    with lab(run, Verdicts(GOOD)) as it:
        it.until(State.COLLECT)
        left = log.read_bytes()
        assert left
    recover(run / "journal.sqlite")
    log.write_bytes(left)
    content = (run / "journal.sqlite").read_bytes()
    for read in (lambda: Journal(run, RunState.references), lambda: reading(run).__enter__()):
        with pytest.raises(JournalError, match="move it away"):
            read()
    assert has_started(run), "what cannot be read may be all of it: it is not thrown away"
    assert ((run / "journal.sqlite").read_bytes(), log.read_bytes()) == (content, left)


def test_a_foreign_database_is_not_touched(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db:
        db.execute("CREATE TABLE diary (day TEXT)")
        db.commit()
    with pytest.raises(JournalError, match=r"acts\.act"):
        Journal(tmp_path, RunState.references)
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("diary",)]
