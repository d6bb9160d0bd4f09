"""spm-gym label: what it refuses, what it says, and what a kill leaves."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from spm_gym import cli
from spm_gym.datasets.manifest import MANIFEST
from tests.support.labelling import answer, answered, labels_in, page_for, rows, ten_scans


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return ten_scans(tmp_path / "scans")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["nowhere", "no such folder"]),
        (["scans", "--labeller", "=x"], ["=x", "begins with a letter"]),
        (["scans", "--host", "0.0.0.0"], ["--host 0.0.0.0", "--token"]),
        (["scans", "--classifier", "gone.safetensors"], ["gone.safetensors"]),
        (["empty"], ["no image to label"]),
        (["dark"], ["no image to label among 1 files"]),
        (["locked"], ["locked cannot be written, and labels are kept there: Is a directory"]),
        ([b"b\xff"], [r"b\udcff: there is no image to label"]),
    ],
)
def test_wrong_requests_get_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str | bytes],
    words: list[str],
) -> None:
    monkeypatch.chdir(folder.parent)
    for name in ("empty", "dark", "locked/.labels.lock", os.fsdecode(b"b\xff")):
        Path(name).mkdir(parents=True)
    np.save("dark/1.npy", np.full((64, 64), np.nan))
    np.save("locked/1.npy", np.zeros((64, 64)))
    before = set(folder.parent.rglob("*"))
    assert cli.main(["label", *map(os.fsdecode, arguments)]) == 2
    assert set(folder.parent.rglob("*")) == before
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    for word in words:
        assert word in error


def test_a_name_that_no_manifest_can_hold_costs_no_label(folder: Path) -> None:
    strange = (os.fsdecode(b"bad\xff.npy"), "good\n1.npy", "bad_broken.npy", "good_7.npy")
    for old, new in zip(("0.npy", "1.npy", "6.npy", "7.npy"), strange, strict=True):
        (folder / old).rename(folder / new)
    (folder / "bad_broken.npy").write_bytes(b"nothing")
    with page_for(folder, labeller="Anna") as address:
        assert answer(address, "2.npy") == 200
        assert answer(address, strange[1]) == 400
        with urllib.request.urlopen(address + "done") as response:
            text = response.read().decode()
    assert labels_in(folder) == {"good_7.npy": "good", "2.npy": "good"}
    assert "3 files of the folder cannot be labelled" in text
    assert r"bad\udcff.npy&#39;: its name is no UTF-8 text" in text
    assert r"good\n1.npy&#39;: its name has a line break" in text
    assert "bad_broken.npy: not a readable .npy image" in text


def test_whatever_cannot_be_written_is_said_and_costs_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with page_for(folder, labeller="Anna") as address:
        assert answer(address, "0.npy") == 200
        before = (folder / MANIFEST).read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", full)
            status, reason = answered(address, "1.npy")
        assert status == 409
        assert reason.startswith("not saved: ")
        assert "No space left" in reason
        assert (folder / MANIFEST).read_bytes() == before
        assert answer(address, "1.npy") == 200
    assert labels_in(folder) == {"0.npy": "good", "1.npy": "good"}


def test_a_folder_that_was_only_looked_at_is_left_as_it_was(folder: Path) -> None:
    before = set(folder.iterdir())
    with page_for(folder, labeller="Anna"):
        assert set(folder.iterdir()) > before
    assert set(folder.iterdir()) == before


class Started:
    """The command, in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "spm_gym", "label", str(folder), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        lines = iter(self.process.stdout.readline, "")
        self.lines = []
        for line in lines:
            self.lines.append(line)
            if found := re.search(r"http://\S+", line):
                self.address = found[0]
                return
        raise AssertionError(f"it did not start: {self.lines}")

    def end(self, how: signal.Signals) -> int:
        os.kill(self.process.pid, how)
        status = self.process.wait()
        self.process.stdout.close()
        return status


@pytest.mark.slow
def test_a_kill_loses_no_label(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(folder / "flat.npy", np.zeros((32, 64)))
    for n in range(6):
        (folder / f"none_{n}.npy").write_bytes(b"nothing")
    (folder / MANIFEST).write_text("file,label\ngone.npy,good\n0.npy,\n")
    first = Started(folder, "--labeller", "Anna", "--classifier", "none")
    assert any("training will refuse 1 of its rows" in line for line in first.lines)
    assert "refused: 'gone.npy' is missing\n" in first.lines
    assert "left out: 2 more: the page lists all of them under Train\n" in first.lines
    assert any("flat.npy: the image has 32 x 64 px" in line for line in first.lines)
    assert cli.main(["label", str(folder), "--classifier", "none"]) == 2
    assert "labelled by another program" in capsys.readouterr().err
    for n in range(4):
        assert answer(first.address, f"{n}.npy", answer="bad") == 200
    first.end(signal.SIGKILL)
    assert labels_in(folder) == {
        "gone.npy": "good", **dict.fromkeys((f"{n}.npy" for n in range(4)), "bad")
    }  # fmt: skip
    # What a kill may leave.
    (folder / ".manifest.unfinished-999999999-1.csv").write_text("file,lab")
    second = Started(folder, "--labeller", "anna")  # with the classifier of the package
    with urllib.request.urlopen(second.address) as response:
        text = response.read().decode()
    assert "4 of 10 labelled" in text
    assert "Classifier: " in text
    assert answer(second.address, "5.npy", labeller="Anna") == 200
    assert second.end(signal.SIGINT) == 0
    assert len(rows(folder)) == 6
    assert not list(folder.glob(".manifest*"))
