"""The live page over journals that a run never writes: it says so, and lives on."""

from __future__ import annotations

import sqlite3
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from spm_gym.assembly.run_directory import write_settings
from spm_gym.runner.states import State
from spm_gym.web.access import Access
from spm_gym.web.monitor import monitor
from tests.support.browsing import served
from tests.support.scripted_runs import Verdicts, lab
from tests.support.waiting import PATIENCE_S, wait_until


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with lab(tmp_path, Verdicts(0.99)) as it:
        for _ in range(3):
            it.until(State.COLLECT)
            it.runner.step()
        write_settings(tmp_path / "config.yaml", it.config)
    return tmp_path


def answer(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{address}{path}", timeout=PATIENCE_S) as found:
            return found.status, found.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode("utf-8", "replace")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE state SET runner = '{'",
        "UPDATE state SET runner = '[1]'",
        "UPDATE state SET runner = json_set(runner, '$.state', 'something new')",
        "UPDATE scans SET probability = 'abc'",
        "UPDATE acts SET after = '[]'",
        "UPDATE scans SET wall = 1e300",
        "DROP TABLE scans",
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(run: Path, damage: str) -> None:
    with sqlite3.connect(run / "journal.sqlite") as db:
        db.execute("INSERT INTO acts(session, act, details, wall, before, result, wall_result,"
                   " after) VALUES (1, 'approach', '{}', 1, '{}', 'done', 1, '{}')")  # fmt: skip
        db.execute(damage)
    db.close()
    with served(monitor(run, Access(None, "127.0.0.1"))) as address:
        status, text = answer(address, "")
        assert (status, len(text.splitlines())) == (503, 1)
        assert "journal" in text
        assert answer(address, "static/pages.css")[0] == 200


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE scans SET label = '<img src=x>' WHERE id = 2",
        "UPDATE scans SET size = 1.0 WHERE id = 2",
        "UPDATE scans SET x = 9e999 WHERE id = 2",
        "UPDATE scans SET angle = 'abc' WHERE id = 2",
        "UPDATE scans SET file = '/dev/zero' WHERE id = 2",
    ],
)
def test_one_odd_scan_spoils_neither_page_nor_map(run: Path, damage: str) -> None:
    with sqlite3.connect(run / "journal.sqlite") as db:
        db.execute(damage)
    db.close()
    with served(monitor(run, Access(None, "127.0.0.1"))) as address:
        wait_until(
            lambda: "images to go" not in answer(address, "")[1], "the map is never finished"
        )
        page = answer(address, "")[1]
        assert "Approach area 0" in page
        assert "painting has stopped" not in page
        assert "<img src=x>" not in page
