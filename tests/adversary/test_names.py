"""Run directories with names that shells, terminals, pages or tables trip over."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from argparse import Namespace
from pathlib import Path

import pytest

from spm_gym.assembly import run as operate
from spm_gym.assembly.run_directory import TRAINING
from spm_gym.cli import main, monitor, stop, train
from spm_gym.config import ConfigError, OperationConfig
from spm_gym.instrument.driver import SETTINGS_BEFORE
from spm_gym.journal.writer import SessionRecord
from spm_gym.paths import as_typed, display_name
from spm_gym.runner.notify import Notifier
from spm_gym.runner.runner import Outcome
from spm_gym.web.access import Access
from spm_gym.web.monitor import monitor as live_page
from tests.support.browsing import served
from tests.support.labelling import answer, labels_in, page_for, ten_scans
from tests.support.scripted_runs import Verdicts, lab

NAMES = (b"a b", b"it's", b"$(touch x)", b"`x`;x", b"-rf", b"--help", b"a\nb", b"\x1b[31mred",
         b"caf\xe9", b"\xff\xfe'\\x41", "café".encode(), b"~", b"#x", b"!x", b"a\\b")  # fmt: skip
NOT_TEXT = os.fsdecode(b"caf\xe9 =1;=2")
bash = shutil.which("bash")
bytes_only = pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")


def as_shells_read(command: str) -> list[bytes]:
    """The words of a command line."""
    assert bash is not None
    done = subprocess.run(
        [bash, "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True
    )
    return done.stdout.split(b"\0")[:-1]


@bytes_only
@pytest.mark.skipif(bash is None, reason="there is no shell here")
@pytest.mark.parametrize("name", NAMES)
def test_a_shell_reads_a_path_as_it_is(name: bytes) -> None:
    typed = as_typed(os.fsdecode(name))
    assert typed.isprintable()
    typed.encode()
    (word,) = as_shells_read(typed)
    assert os.path.normpath(word) == os.path.normpath(name)
    assert not word.startswith(b"-"), "it would be an option"


def suggestions(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> list[str]:
    """Whatever commands are suggested for a run directory."""
    survey = OperationConfig(conditioning=False)
    operate._status(Outcome("over", False, "withdrawn"), run, survey)
    train._print_next_steps(run)
    printed = capsys.readouterr().out.splitlines()
    run.mkdir()
    (run / TRAINING).touch()
    with pytest.raises(ValueError, match="tensorboard --logdir") as training:
        monitor.monitor(Namespace(run=run))
    shutil.rmtree(run)
    with lab(run, Verdicts(0.99)):
        (run / SETTINGS_BEFORE).touch()
        with pytest.raises(ValueError, match="without a word") as killed:
            stop._print_ending(run, 0)
    notify = run / "notify"
    notify.write_text("")
    with pytest.raises(ConfigError, match="--config") as addresses:
        Notifier(notify, 0.0, "run", print)
    printed += [str(training.value), str(addresses.value).replace("/notify", "")]
    return [*printed, *str(killed.value).split("; or ")]


@pytest.mark.skipif(bash is None, reason="there is no shell here")
@pytest.mark.parametrize("name", ["it's; touch x", "-x", "$HOME"])
def test_suggested_commands_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = suggestions(Path(name), capsys, tmp_path)
    typed = as_typed(name)
    options = ("report ", "label ", "--run-dir ", "--run ", "--logdir ", "restore ", "--config ")
    found = [option for option in options if any(f"{option}{typed}" in line for line in printed)]
    assert found == list(options)
    assert os.path.normpath(shlex.split(typed)[0]) == name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("names") / NOT_TEXT
    settings = ("env.max_steps=3", "operation.condition_after=2", "operation.scans=8")
    with lab(run, Verdicts(0.95, 0.02, 0.02, 0.5, 0.95), *settings) as it:
        it.journal.begin_session(SessionRecord(it.config.to_yaml(), "", "", {}, False), 1)
        (run / "config.yaml").write_text(it.config.to_yaml())
        it.runner.run()
    return run


@bytes_only
@pytest.mark.parametrize(
    "command",
    [
        ["journal"],
        ["report"],
        ["show", "-o", "overview.png"],
        ["show", "-o", "overview.svg"],
        ["show", "-o", "overview.pdf"],
        ["show"],
        ["show", "--area", "0"],
        ["show", "--episode"],
        ["show", "--scan", "2"],
        ["export", "--classifier", "images", "--labels", "classifier"],
        ["export", "--offline", "episodes"],
    ],
)
def test_a_run_directory_of_any_bytes_is_read(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    command: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([command[0], str(made), *command[1:]]) == 0
    capfdbinary.readouterr().out.decode()


@bytes_only
@pytest.mark.parametrize("command", [["ask", "pause"], ["stop"], ["restore"], ["monitor"]])
def test_what_cannot_be_done_there_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main([*command, str(tmp_path / NOT_TEXT)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert r"caf\udce9" in line


@bytes_only
def test_the_live_page_of_such_a_run_is_shown(made: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made, tmp_path / NOT_TEXT))
    (run / "scans" / "000002.gsf").unlink()
    with served(live_page(run, Access(None, "127.0.0.1"))) as address:
        for path in ("", "now", "series", "scans/4/levelled.png"):
            with urllib.request.urlopen(f"{address}{path}") as answer:
                assert answer.status == 200
        with urllib.request.urlopen(address) as answer:
            text = answer.read().decode()
        with pytest.raises(urllib.error.HTTPError) as gone:
            urllib.request.urlopen(f"{address}scans/2/levelled.png")
        with gone.value as error:
            assert error.code == 404
            assert r"caf\udce9" in error.read().decode()
    assert display_name(run) in text
    assert "--run-dir $&#39;" in text


@bytes_only
def test_a_report_names_files_there_that_cannot_be_read(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(made, tmp_path / NOT_TEXT))
    (run / "scans" / "000002.gsf").write_bytes(b"nonsense")
    assert main(["report", str(run)]) == 0
    assert r"caf\udce9" in capsys.readouterr().out
    (run / "report.html").read_text(encoding="utf-8")


@bytes_only
def test_scans_in_such_a_folder_are_labelled(tmp_path: Path) -> None:
    folder = ten_scans(tmp_path / NOT_TEXT)
    with page_for(folder, labeller="Anna") as address:
        assert answer(address, "0.npy") == 200
        for path in ("", "done", "disagreements"):
            with urllib.request.urlopen(f"{address}{path}") as found:
                assert found.status == 200
    assert labels_in(folder) == {"0.npy": "good"}


@bytes_only
def test_training_says_that_it_takes_no_such_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--run-dir", str(tmp_path / NOT_TEXT)]) == 2
    assert "UTF-8" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
