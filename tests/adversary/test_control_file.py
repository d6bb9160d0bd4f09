"""Somebody who may write into a run directory, but has no token, tries to move the tip."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from spm_gym.journal.reader import Label
from spm_gym.runner.control import (
    CONTROL,
    INTERRUPTING,
    PROTECTION,
    CannotAsk,
    Control,
    Request,
    ask,
    asked_of,
)
from spm_gym.runner.states import State
from spm_gym.web.access import Access
from spm_gym.web.monitor import monitor
from tests.support.browsing import served
from tests.support.invented_runs import InventedRun
from tests.support.scripted_runs import Lab, Verdicts, lab

TOKEN = "correct horse"


def _removed(file: Path) -> None:
    file.unlink()


def _emptied(file: Path) -> None:
    file.write_bytes(b"")


def _blank(file: Path) -> None:
    file.write_bytes(b" \n\t\n")


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def _round(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)  # who reads it as a file waits for ever


def _endless(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def _nonsense(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\0go on!")


def _bare_resume(file: Path) -> None:
    file.write_text("resume\n")


def _forged_resume(file: Path) -> None:
    file.write_text(f"resume {10**28} {'0' * 64}\n")


def _another_proof(file: Path) -> None:
    file.write_text(file.read_text().replace("pause", "resume"))


NO_REQUEST = (_removed, _emptied, _blank, _folder, _dangling, _round, _pipe, _endless)
FORGED = (_nonsense, _bare_resume, _forged_resume, _another_proof)
posix = pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and devices")


def paused(run: Path, token: str | None) -> tuple[Control, Lab]:
    """A run that somebody who may has paused; its tip is withdrawn."""
    control = Control(run, token)
    it = Lab(run, Verdicts(0.99), requests=control.asked, sleep=lambda seconds: None)
    it.until(State.IMAGE)
    ask(run, Request.PAUSE, token)
    assert it.runner.step() is State.PAUSE
    assert it.runner.step() is State.PAUSE
    assert not it.microscope.status().approached
    return control, it


@posix
@pytest.mark.parametrize(
    ("token", "harm"),
    [(TOKEN, harm) for harm in (*NO_REQUEST, *FORGED)] + [(None, harm) for harm in NO_REQUEST],
)
def test_a_pause_ends_only_when_somebody_who_may_asks_for_it(
    tmp_path: Path, token: str | None, harm: Callable[[Path], None]
) -> None:
    control, it = paused(tmp_path, token)
    try:
        harm(tmp_path / CONTROL)
        for _ in range(3):
            assert it.runner.step() is State.PAUSE
            assert control.asked() in INTERRUPTING
        assert not it.microscope.status().approached
        if (tmp_path / CONTROL).is_dir():
            with pytest.raises(CannotAsk, match="stop the run by Ctrl-C"):
                ask(tmp_path, Request.RESUME, token)
            (tmp_path / CONTROL).rmdir()
        ask(tmp_path, Request.RESUME, token)
        assert it.runner.step() is State.APPROACH
    finally:
        it.journal.close()


def test_without_a_token_nonsense_stops_and_never_resumes(tmp_path: Path) -> None:
    _, it = paused(tmp_path, None)
    try:
        (tmp_path / CONTROL).write_text("go on!")
        assert it.runner.step() is State.STOP
        assert it.runner.run().where == "tip withdrawn"
    finally:
        it.journal.close()


def test_an_old_resume_does_not_end_a_new_pause(tmp_path: Path) -> None:
    control = Control(tmp_path, TOKEN)
    with lab(tmp_path, Verdicts(0.99), requests=control.asked, sleep=lambda seconds: None) as it:
        it.until(State.IMAGE)
        ask(tmp_path, Request.PAUSE, TOKEN)
        it.runner.step()
        ask(tmp_path, Request.RESUME, TOKEN)
        resume = (tmp_path / CONTROL).read_bytes()
        assert it.runner.step() is State.APPROACH
        ask(tmp_path, Request.PAUSE, TOKEN)
        assert it.runner.step() is State.PAUSE
        (tmp_path / CONTROL).write_bytes(resume)
        for _ in range(3):
            assert it.runner.step() is State.PAUSE


def test_a_pause_that_was_seen_stands_although_it_is_removed_before_it_is_obeyed(
    tmp_path: Path,
) -> None:
    """Seen while a crashed tip is being taken away, which comes first."""
    control = Control(tmp_path, TOKEN)
    with lab(tmp_path, Verdicts(0.99), requests=control.asked, sleep=lambda seconds: None) as it:
        it.until(State.IMAGE)
        ask(tmp_path, Request.PAUSE, TOKEN)
        assert control.asked() in INTERRUPTING
        (tmp_path / CONTROL).unlink()
        assert it.runner.step() is State.PAUSE


def test_a_forged_number_does_not_keep_the_owner_from_stopping(tmp_path: Path) -> None:
    control = Control(tmp_path, TOKEN)
    for number in (10**29 - 1, 10**28, "9" * 4000):
        (tmp_path / CONTROL).write_text(f"pause {number} {'0' * 64}")
        ask(tmp_path, Request.STOP, TOKEN)
        assert control.asked() is Request.STOP
        ask(tmp_path, Request.RESUME, TOKEN)
        assert control.asked() is Request.RESUME


@posix
def test_a_pipe_in_place_of_what_a_token_is_checked_against_holds_up_nobody(
    tmp_path: Path,
) -> None:
    Control(tmp_path, TOKEN)
    (tmp_path / PROTECTION).unlink()
    os.mkfifo(tmp_path / PROTECTION)
    assert asked_of(tmp_path, TOKEN) == ""
    with pytest.raises(ValueError, match="stop the run by Ctrl-C"):
        ask(tmp_path, Request.STOP, TOKEN)


def test_a_folder_that_cannot_be_cleared_keeps_a_run_from_starting(tmp_path: Path) -> None:
    """Not after its first act: nothing has been connected yet."""
    (tmp_path / CONTROL).mkdir()
    with pytest.raises(CannotAsk, match="delete it"):
        Control(tmp_path)


def test_the_page_offers_to_resume_although_the_request_is_gone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with InventedRun(run) as it:
        it.enter_area()
        it.scan(Label.GOOD, 0.99)
        it.commit(state="pause")
        Control(run, TOKEN)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with served(monitor(run, Access(TOKEN, "127.0.0.1"))) as address:

            def page() -> str:
                request = urllib.request.Request(address, headers=headers)
                with urllib.request.urlopen(request) as answer:
                    return str(answer.read().decode())

            assert 'value="resume"' in page()
            ask(run, Request.RESUME, TOKEN)
            assert 'value="pause"' in page()
