"""Two programs on one run directory, and what a start that fails takes with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spm_gym.assembly.run_directory import new_run
from spm_gym.cli import evaluate, main, train
from spm_gym.config import Config, load_config
from spm_gym.journal.run_lock import RunLocked, is_run_locked, locked_run

ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "configs" / "smoke.yaml")
HOLD = (
    "import sys, time; from pathlib import Path; from spm_gym.journal.run_lock import locked_run\n"
    "with locked_run(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hold() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Lets another process work on a run directory."""
    others = []

    def start(run: str) -> subprocess.Popen[str]:
        other = subprocess.Popen(
            [sys.executable, "-c", HOLD, run], stdout=subprocess.PIPE, text=True
        )
        others.append(other)
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        return other

    yield start
    for other in others:
        other.kill()
        other.communicate()


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "lock"
    }


def test_a_lock_names_its_holder_and_ends_with_it(
    hold: Callable[[str], subprocess.Popen[str]],
) -> None:
    other = hold("run")
    assert is_run_locked(Path("run"))
    for _ in range(3):  # a refusal does not make the others forget who it is
        with pytest.raises(RunLocked, match=rf"process {other.pid}\)"), locked_run(Path("run")):
            pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert not is_run_locked(Path("run"))
    with locked_run(Path("run")):
        assert Path("run/lock").read_text() == f"{os.getpid()}\n"


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    assert train.main(["--config", SMOKE, "--run-dir", "run"]) == 0
    return Path("run")


def test_nothing_works_on_a_training_that_is_at_work(
    trained: Path,
    hold: Callable[[str], subprocess.Popen[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = contents(trained)
    other = hold("run")
    (trained / "settings_before.json").write_text("{}")
    before |= {"settings_before.json": b"{}"}
    for command in (
        lambda: train.main(["--resume", "--run-dir", "run"]),
        lambda: main(["restore", "run"]),
    ):
        capsys.readouterr()
        assert command() == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert str(other.pid) in error
    assert contents(trained) == before


def test_a_resume_beside_a_run_changes_not_even_its_settings(
    hold: Callable[[str], subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--scans", "2", "--run-dir", "run"]) == 0
    before = contents(Path("run"))
    hold("run")
    assert main(["run", "--resume", "--run-dir", "run", "--scans", "9"]) == 2
    assert "another program" in capsys.readouterr().err
    assert contents(Path("run")) == before


@pytest.mark.parametrize("command", [["train.py", "classifier"], ["train.py"], ["run"]])
def test_a_new_run_does_not_take_a_directory_that_another_has_just_made(
    command: list[str],
    hold: Callable[[str], subprocess.Popen[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    hold("run")  # made and locked, and nothing is in it yet
    rest = [*command[1:], "--config", SMOKE, "--run-dir", "run"]
    status = train.main(rest) if command[0] == "train.py" else main([*command, *rest[-4:]])
    assert status == 2
    assert "another program" in capsys.readouterr().err
    assert [file.name for file in Path("run").iterdir()] == ["lock"]


def _race(barrier: object, results: object) -> None:
    try:
        barrier.wait()  # type: ignore[attr-defined]
        with new_run(Path("run"), Config(), "x"):
            results.put("made")  # type: ignore[attr-defined]
            time.sleep(0.3)
    except Exception as error:
        results.put(type(error).__name__)  # type: ignore[attr-defined]


def test_of_many_that_begin_at_once_one_does() -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.Queue()
    racers = [context.Process(target=_race, args=(barrier, results)) for _ in range(4)]
    for racer in racers:
        racer.start()
    found = sorted(results.get(timeout=120) for _ in racers)
    for racer in racers:
        racer.join()
    assert found.count("made") == 1
    assert set(found) <= {"made", "RunLocked", "UsageError"}
    assert load_config(Path("run/config.yaml")) == Config()


def test_a_failed_start_removes_only_what_it_has_made() -> None:
    Path("given").mkdir()
    with pytest.raises(RuntimeError), new_run(Path("given"), Config(), "x"):
        raise RuntimeError
    assert not list(Path("given").iterdir())
    with pytest.raises(RuntimeError), new_run(Path("made"), Config(), "x"):
        raise RuntimeError
    assert not Path("made").exists()
    for name in ("settings_before.json", "notes.txt", "journal.sqlite"):
        with pytest.raises(RuntimeError):
            _fail_after_writing(name)
        assert (Path(name) / name).read_text() == "dear"


def _fail_after_writing(name: str) -> None:
    with new_run(Path(name), Config(), "x") as run:
        (run / name).write_text("dear")
        raise RuntimeError


def test_no_command_overwrites_a_file_unless_told_to(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("dear.json", "dear.png", "dear.safetensors", "dear.html"):
        Path(name).write_text("dear")
    evaluation = ["--run", "run", "--episodes", "1", "--policies", "random"]
    for refused in (
        lambda: evaluate.main([*evaluation, "--json", "dear.json"]),
        lambda: evaluate.main([*evaluation, "--plot", "dear.png"]),
        lambda: train.main(["--config", SMOKE, "--output", "dear.safetensors"]),
        lambda: train.main(["classifier", "--config", SMOKE, "--output", "dear.safetensors"]),
        lambda: main(["report", "run", "--output", "dear.html"]),
    ):
        capsys.readouterr()
        assert refused() == 2
        assert "--force" in capsys.readouterr().err
    assert {file.read_text() for file in Path().glob("dear.*")} == {"dear"}
    assert evaluate.main([*evaluation, "--json", "dear.json", "--force"]) == 0
    assert Path("dear.json").read_text().startswith("{")
