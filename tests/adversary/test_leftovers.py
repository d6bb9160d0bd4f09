"""Remains of a kill in the middle of writing are taken for nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spm_gym.assembly.run_directory import SETTINGS, new_run, write_settings
from spm_gym.atomic_file import remove_leftovers, written_whole
from spm_gym.cli import main
from spm_gym.config import Config
from spm_gym.journal.run_lock import LOCK

ROOT = Path(__file__).parent.parent.parent
WRITING = """
import sys, time
from pathlib import Path
from spm_gym.atomic_file import written_whole
with written_whole(Path(sys.argv[1])) as beside:
    beside.write_text("half")
    print(beside.name, flush=True)
    time.sleep(600)
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="nobody can be asked there")


def writer(file: Path) -> tuple[subprocess.Popen[str], Path]:
    """A program in the middle of writing a file, and what it is writing."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(file)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    return process, file.with_name(process.stdout.readline().strip())


def killed_while_writing(file: Path) -> Path:
    process, left = writer(file)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert left.read_text() == "half"
    return left


def started_again(run: Path) -> None:
    with new_run(run, Config(), "run"):
        pass


def gone_on_with(run: Path) -> None:
    write_settings(run / SETTINGS, Config())
    # An impossible setting ends the command right after it has tidied up.
    assert main(["run", "--resume", "--run-dir", str(run), "--hours", "-1"]) == 2


@posix
@pytest.mark.parametrize("start", [started_again, gone_on_with])
@pytest.mark.parametrize("name", [SETTINGS, "control", "settings_before.json"])
def test_the_next_start_removes_what_a_kill_has_left(
    tmp_path: Path, start: Callable[[Path], None], name: str
) -> None:
    left = killed_while_writing(tmp_path / name)
    start(tmp_path)
    assert not left.exists()
    assert {file.name for file in tmp_path.iterdir()} == {SETTINGS, LOCK}


@posix
def test_what_somebody_is_still_writing_stays(tmp_path: Path) -> None:
    process, being_written = writer(tmp_path / "control")
    try:
        remove_leftovers(tmp_path)
        assert being_written.exists()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "name", [".config-1.yaml", ".notes-2024.txt", ".unfinished", ".x.unfinished-y-1.yaml", "x"]
)
def test_files_of_other_people_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert (tmp_path / name).exists()


def test_two_at_once_do_not_take_each_other_s_half(tmp_path: Path) -> None:
    """As two buttons of a page do."""

    def write(number: int) -> None:
        with written_whole(tmp_path / "control", synchronise=False) as beside:
            beside.write_text(f"{number}" * 1000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, [number % 10 for number in range(200)]))
    text = (tmp_path / "control").read_text()
    assert text == text[0] * 1000
    assert len(list(tmp_path.iterdir())) == 1
