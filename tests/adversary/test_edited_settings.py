"""A run whose config.yaml was edited afterwards: shown as it was, or refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from spm_gym.assembly.run_directory import SETTINGS, TRAINING
from spm_gym.cli import main
from spm_gym.journal.run_lock import LOCK
from spm_gym.journal.writer import SessionRecord
from spm_gym.types import Decision
from tests.support.scripted_runs import Verdicts, lab

NAME = "run"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an episode, values of the actions included, and a session as a run begins one."""
    run = tmp_path_factory.mktemp("edited") / NAME
    settings = ("env.max_steps=3", "operation.condition_after=2", "operation.scans=8")
    with lab(run, Verdicts(0.95, 0.02, 0.02, 0.5, 0.95), *settings) as it:

        def choose(observation: Any, mask: Any, episode: int) -> Decision:
            values = tuple(0.1 * n for n in range(len(mask)))
            return Decision(int(np.flatnonzero(mask)[-1]), "agent", values)

        it.policy.choose = choose  # type: ignore[method-assign, assignment]
        it.journal.begin_session(SessionRecord(it.config.to_yaml(), "", "", {}, False), 1)
        (run / SETTINGS).write_text(it.config.to_yaml())
        it.runner.run()
    return run


def two_actions(tree: Any) -> None:
    tree["env"]["actions"] = tree["env"]["actions"][:2]
    tree["operation"]["clean_action"] = None


def one_more(tree: Any) -> None:
    tree["env"]["actions"].append(tree["env"]["actions"][0] | {"name": "extra"})


def renamed(tree: Any) -> None:
    for number, action in enumerate(tree["env"]["actions"]):
        action["name"] = f"act {number}"
    tree["operation"]["clean_action"] = None


def reversed_(tree: Any) -> None:
    tree["env"]["actions"].reverse()


def fewer_pixels(tree: Any) -> None:
    tree["env"]["pixels"] = 32


def interleaved(tree: Any) -> None:
    tree["operation"]["policy"] = "interleaved"


def faulty(tree: Any) -> None:
    tree["faults"] = {}


def real(tree: Any) -> None:
    tree["run"]["microscope"] = "real"


def emptied(tree: Any) -> None:
    tree.clear()


ACTIONS = (two_actions, one_more, renamed, reversed_)


def edited(made: Path, folder: Path, edit: Any, settings: str = SETTINGS) -> Path:
    run = Path(shutil.copytree(made, folder / NAME))
    tree = yaml.safe_load((run / settings).read_text())
    edit(tree)
    (run / settings).write_text(yaml.safe_dump(tree))
    return run


@pytest.mark.parametrize("edit", [*ACTIONS, fewer_pixels, interleaved, faulty, real, emptied])
def test_what_was_is_shown_whatever_the_settings_say_now(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    run = edited(made, tmp_path, edit)
    for command in (["journal"], ["report"], ["show"], ["show", "--episode"]):
        assert main([command[0], NAME, *command[1:]]) == 0, command
    assert (run / "report.html").is_file()
    assert Path(f"{NAME}_episode.gif").is_file()


@pytest.mark.parametrize("edit", [*ACTIONS, fewer_pixels])
def test_no_dataset_mixes_the_settings_of_then_and_now(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: Any
) -> None:
    run = edited(made, tmp_path, edit)
    assert main(["export", str(run), "--offline", str(tmp_path / "set")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "env.pixels" in error if edit is fewer_pixels else "env.actions" in error
    assert "put" in error
    assert not (tmp_path / "set").exists()


def data_of(run: Path) -> list[Path]:
    """Its files, without the lock and what SQLite keeps beside a database that is looked at."""
    passing = ("-shm", "-wal", LOCK)
    return sorted(path for path in run.rglob("*") if not path.name.endswith(passing))


@pytest.mark.parametrize("edit", [*ACTIONS, fewer_pixels, interleaved, faulty, real])
def test_no_run_goes_on_with_what_means_something_else_now(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: Any
) -> None:
    run = edited(made, tmp_path, edit)
    before = data_of(run)
    assert main(["run", "--resume", "--run-dir", str(run)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "put that back" in error
    assert data_of(run) == before


@pytest.mark.slow
def test_an_agent_is_not_evaluated_with_other_actions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    smoke = Path(__file__).parent.parent.parent / "configs" / "smoke.yaml"
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--run-dir", NAME, "--config", str(smoke)]) == 0
    for edit in (two_actions, one_more):
        run = edited(tmp_path / NAME, tmp_path / edit.__name__, edit, TRAINING)
        assert main(["evaluate", "--run", str(run), "--episodes", "1"]) == 2
        assert "env.actions" in capsys.readouterr().err
