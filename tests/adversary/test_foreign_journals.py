"""Journals of others: a run goes on from data that fits, or ends with one line."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from spm_gym.cli import main
from spm_gym.plain_state import from_bytes, to_bytes
from tests.support.foreign import NO_SAFETENSORS, OF_A_MICROSCOPE, changed, refused

pytestmark = pytest.mark.usefixtures("fresh_folder")


def with_journal(run: Path, statement: str, *values: Any) -> None:
    """A copy of a run with something else in its journal."""
    shutil.copytree(run, "run")
    with sqlite3.connect("run/journal.sqlite") as db:
        db.execute(statement, values)
    db.close()


def resume() -> int:
    return main(["run", "--resume", "--run-dir", "run", "--scans", "14"])


def test_without_harm_a_run_goes_on(operated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(operated, "run")
    assert resume() == 0, capsys.readouterr().err


@pytest.mark.parametrize("kind", NO_SAFETENSORS)
def test_a_journal_with_something_else_for_a_microscope(
    operated: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_journal(operated, "UPDATE state SET instrument = ?", NO_SAFETENSORS[kind])
    refused(capsys, resume(), "journal.sqlite", "another version of this program")


@pytest.mark.parametrize(("place", "value"), OF_A_MICROSCOPE)
def test_a_journal_with_wrong_values_of_a_microscope(
    operated: Path, place: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(operated / "journal.sqlite") as db:
        kept = from_bytes(db.execute("SELECT instrument FROM state").fetchone()[0])
    db.close()
    kept = changed(kept, place, value) if place else value
    with_journal(operated, "UPDATE state SET instrument = ?", to_bytes(kept))
    refused(capsys, resume(), "cannot go on from run")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE state SET instrument = 'text'",
        "UPDATE state SET instrument = NULL",
        "UPDATE state SET runner = x'80'",
        "UPDATE state SET runner = 'x'",
        "UPDATE state SET runner = '[]'",
        "UPDATE state SET runner = '{}'",
        "UPDATE state SET runner = json_set(runner, '$.state', 'explode')",
        "UPDATE state SET runner = json_set(runner, '$.clock.elapsed', 'long')",
        "UPDATE state SET runner = json_set(runner, '$.foreign', 1)",
        "UPDATE state SET runner = json_set(runner, '$.place.frame', json('[1, 2]'))",
        "UPDATE state SET runner = json_set(runner, '$.imaging.labels', json('{}'))",
        "UPDATE state SET runner = json_set(runner, '$.imaging.labels.good', json('[]'))",
        "UPDATE state SET runner = json_set(runner, '$.kept.rng', json('{}'))",
        "UPDATE state SET runner = json_set(runner, '$.kept.policy', json('{}'))",
        "UPDATE state SET runner = json_set(runner, '$.kept.policy', 3)",
        "UPDATE marks SET x = 'abc'",
        "UPDATE marks SET radius = 9e999",
    ],
)
def test_a_journal_with_wrong_values_of_a_run(
    operated: Path, statement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_journal(operated, statement)
    refused(capsys, resume(), "run")


@pytest.mark.parametrize("name", ["../outside.gsf", "{}/outside.gsf", "scans/../../outside.gsf"])
def test_a_journal_names_only_its_own_scans(
    operated: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = name.format(tmp_path)
    shutil.copyfile(operated / "scans" / "000001.gsf", tmp_path / "outside.gsf")
    with_journal(operated, "UPDATE scans SET file = ? WHERE id = 1", name)
    refused(capsys, main(["show", "run", "--scan", "1"]), "names", "as the file of a scan")


def test_a_run_whose_checkpoint_is_another_kind_of_run(
    trained: Path, operated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(operated, "run")
    shutil.rmtree("run/checkpoints")
    shutil.copytree(trained / "checkpoints", "run/checkpoints")
    refused(capsys, resume(), "no checkpoint of a run of spm-gym run")
