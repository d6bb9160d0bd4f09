"""Runs on one sample share the map of what they have used up."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from spm_gym.cli import main
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.journal.reader import reading
from spm_gym.journal.run_lock import locked_run
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.command_runs import summary
from tests.support.nanonis_lab import CALM

pytestmark = pytest.mark.usefixtures("fresh_folder")


@pytest.fixture
def settings() -> Iterator[list[str]]:
    """Settings that reach a controller with a small area, whose tip moves on after ten images."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    controller = VirtualController(SimulatedMicroscope(CALM, seed=2), time_scale=0)
    with VirtualNanonis(controller, [0, 0]) as server:
        yield [f"real.nanonis.ports={list(server.ports)}", "env.creep_wait_s=0",
               "env.regions.area_nm=40", "real.nanonis.coarse.retract=z+"]  # fmt: skip
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run(settings: list[str], name: str, *options: str, scans: int = 4) -> int:
    survey = ["--env", "real", "--run-dir", f"runs/{name}", "--no-conditioning"]
    return main(["run", *survey, "--scans", str(scans), *options, "--set", *settings])


def images(name: str) -> set[tuple[int, float, float]]:
    query = "SELECT area, x, y FROM scans WHERE label = 'unclassified'"
    with reading(Path("runs") / name) as db:
        return {tuple(row) for row in db.execute(query)}


def test_a_second_run_images_nothing_that_the_first_has(
    settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, scans in (("one", 6), ("two", 5), ("three", 20)):
        assert run(settings, name, "--sample", "Ag(100) A", scans=scans) == 0
        assert summary(capsys, f"runs/{name}")["consistent"]
    taken = [images(name) for name in ("one", "two", "three")]
    assert [len(each) for each in taken] == [6, 5, 20]
    assert len(set.union(*taken)) == 31, "a place was imaged twice"
    # The areas go on along the spiral, too.
    first, last = ({area for area, _, _ in each} for each in (taken[0], taken[2]))
    assert first == {0}
    assert min(last) >= 0
    assert max(last) > 1


def test_another_sample_and_none_begin_afresh(settings: list[str]) -> None:
    assert run(settings, "one", "--sample", "A") == 0
    assert run(settings, "two", "--sample", "B") == 0
    assert run(settings, "three") == 0
    assert images("one") == images("two") == images("three")


def test_an_area_that_was_chosen_by_hand_has_an_empty_map(settings: list[str]) -> None:
    assert run(settings, "one", "--sample", "A") == 0
    assert run(settings, "two", "--sample", "A", "--fresh-area") == 0
    assert {area for area, _, _ in images("two")} == {1}


def test_a_killed_and_resumed_run_keeps_the_map_that_it_began_with(settings: list[str]) -> None:
    assert run(settings, "one", "--sample", "A") == 0
    assert run(settings, "two", "--sample", "A", scans=2) == 0
    assert main(["run", "--resume", "--run-dir", "runs/two", "--scans", "4"]) == 0
    assert not images("one") & images("two")


def test_a_run_that_was_killed_in_a_coarse_move_has_to_say_first_where_the_tip_is(
    settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(settings, "one", "--sample", "A", scans=20) == 0
    with sqlite3.connect("runs/one/journal.sqlite") as db:
        changed = db.execute(
            "UPDATE acts SET result = NULL"
            " WHERE id = (SELECT MAX(id) FROM acts WHERE act = 'move area')"
        )
        assert changed.rowcount == 1
    db.close()
    assert run(settings, "two", "--sample", "A") == 2
    assert "was killed in a coarse move" in capsys.readouterr().err


def test_what_cannot_be_is_refused(settings: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(settings, "one", "--sample", "A", scans=1) == 0
    with locked_run(Path("runs/one")):
        assert run(settings, "two", "--sample", "A") == 2
    assert "is at work on the sample 'A': stop it first" in capsys.readouterr().err
    Path("runs/one/journal.sqlite").write_bytes(b"nothing")
    assert run(settings, "two", "--sample", "A") == 2
    assert "nobody knows what it has used up" in capsys.readouterr().err
    assert main(["run", "--run-dir", "runs/three", "--sample", "A"]) == 2
    assert "--sample goes with --env real" in capsys.readouterr().err
    assert sorted(path.name for path in Path("runs").iterdir()) == ["one"]
