"""Notifications reach people, and whatever becomes of them, the run goes on."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.config import ConfigError
from spm_gym.runner.notify import NotificationKind, Notifier, summary_due
from tests.support.mailbox import PASSWORD, Mailbox, serving
from tests.support.waiting import PATIENCE_S, wait_until

# Apprise imports it for mails on Pythons that still have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
DAY = 86400.0


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with serving() as server:
        yield server
    for other in threading.enumerate():
        if other.name == "notifications":
            other.join(PATIENCE_S)
            assert not other.is_alive()


def addressed(tmp_path: Path, *addresses: str) -> Path:
    path = tmp_path / "addresses.txt"
    path.write_text("# who is told\n" + "\n".join(addresses) + "\n", encoding="utf-8")
    return path


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_notification_arrives_with_title_and_body(mailbox: Mailbox, tmp_path: Path) -> None:
    printed: list[str] = []
    notifier = Notifier(addressed(tmp_path, mailbox.address()), 600, "run 7", printed.append)
    assert notifier.addresses == 1
    notifier.send(NotificationKind.STOP, "stopped", "the tip has crashed\nfive times")
    notifier.close(PATIENCE_S)
    [letter] = mailbox.received
    assert letter["title"] == "run 7: stopped"
    assert letter["message"] == "the tip has crashed\nfive times"
    assert printed == []


def test_yaml_is_read_too(mailbox: Mailbox, tmp_path: Path) -> None:
    path = tmp_path / "addresses.yaml"
    path.write_text(f"urls:\n  - {mailbox.address()}:\n      tag: night\n")
    notifier = Notifier(path, 600, "run", print)
    notifier.send(NotificationKind.AREA_CHANGE, "x+", "again")
    notifier.close(PATIENCE_S)
    assert mailbox.titles() == ["run: x+"]


@pytest.mark.parametrize(
    "text",
    [
        'µ → 5 nm, 試料 🔬 "quoted" \\n {braces} ${HOME} %s <b>&amp;</b>',
        "line\n\n  indented\n\tTab\r\nDot\n.\nend",
        ":smile: #heading *stars* `ticks` --option ; $(reboot)",
        "a" * 20_000,
    ],
)
def test_text_arrives_as_it_is(mailbox: Mailbox, tmp_path: Path, text: str) -> None:
    notifier = Notifier(addressed(tmp_path, mailbox.address()), 0, "run", print)
    notifier.send(NotificationKind.STOP, "text", text)
    notifier.close(PATIENCE_S)
    assert mailbox.received[0]["message"] == text


def test_a_title_is_one_line_and_half_characters_are_replaced(
    mailbox: Mailbox, tmp_path: Path
) -> None:
    notifier = Notifier(addressed(tmp_path, mailbox.address()), 0, "run", print)
    notifier.send(NotificationKind.STOP, "stop\r\nBcc: all@example.com", "")
    notifier.send(NotificationKind.STOP, "name", "file \udcff")
    notifier.close(PATIENCE_S)
    assert mailbox.titles() == ["run: stop Bcc: all@example.com", "run: name"]
    assert [letter["message"] for letter in mailbox.received][1] == "file ?"
    assert mailbox.received[0]["message"]


def test_without_a_file_nothing_is_sent_and_no_thread_is_started() -> None:
    before = threading.active_count()
    notifier = Notifier(None, 0, "run", pytest.fail)
    for kind in NotificationKind:
        notifier.send(kind, "title", "body")
    assert notifier.addresses == 0
    assert threading.active_count() == before
    notifier.close(PATIENCE_S)
    notifier.close(PATIENCE_S)


def test_apprise_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, spm_gym.runner.notify; sys.exit('apprise' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE_S).returncode == 0


def test_those_of_one_kind_that_come_too_soon_are_counted(mailbox: Mailbox, tmp_path: Path) -> None:
    clock = Clock()
    notifier = Notifier(addressed(tmp_path, mailbox.address()), 600, "run", print, clock)
    for number in range(4):
        clock.now = 100.0 * number
        notifier.send(NotificationKind.AREA_CHANGE, f"area {number}", "used up")
    notifier.send(NotificationKind.DAILY_SUMMARY, "another kind", "goes out")
    clock.now = 600.0
    notifier.send(NotificationKind.AREA_CHANGE, "area 4", "used up")
    clock.now = 1200.0
    notifier.send(NotificationKind.AREA_CHANGE, "area 5", "used up")
    notifier.close(PATIENCE_S)
    assert mailbox.titles() == ["run: area 0", "run: another kind", "run: area 4", "run: area 5"]
    bodies = [letter["message"] for letter in mailbox.received]
    assert "3 more of this kind" in bodies[2]
    assert bodies[0] == bodies[3] == "used up"


def test_a_stop_is_never_held_back(mailbox: Mailbox, tmp_path: Path) -> None:
    notifier = Notifier(addressed(tmp_path, mailbox.address()), 600, "run", print, Clock())
    for number in range(3):
        notifier.send(NotificationKind.STOP, f"stop {number}", "")
        mailbox.await_letter()
    notifier.close(PATIENCE_S)
    assert mailbox.titles() == [f"run: stop {number}" for number in range(3)]


def test_a_stop_overtakes_what_waits(mailbox: Mailbox, tmp_path: Path) -> None:
    mailbox.may_answer.clear()
    notifier = Notifier(addressed(tmp_path, mailbox.address()), 0, "run", print)
    notifier.send(NotificationKind.AREA_CHANGE, "under way", "")
    mailbox.await_letter()
    notifier.send(NotificationKind.AREA_CHANGE, "waits", "")
    notifier.send(NotificationKind.STOP, "stop", "")
    mailbox.may_answer.set()
    notifier.close(PATIENCE_S)
    assert mailbox.titles() == ["run: under way", "run: stop", "run: waits"]


def test_a_server_that_hangs_delays_neither_run_nor_end(mailbox: Mailbox, tmp_path: Path) -> None:
    """Everything here happens before the server has given its first answer."""
    printed: list[str] = []
    mailbox.may_answer.clear()
    notifier = Notifier(addressed(tmp_path, mailbox.address()), 0, "run", printed.append)
    notifier.send(NotificationKind.AREA_CHANGE, "under way", "")
    mailbox.await_letter()
    for number in range(1000):
        notifier.send(NotificationKind.AREA_CHANGE, f"area {number}", "")
    notifier.send(NotificationKind.STOP, "stop", "")
    notifier.close(timeout_s=0.05)
    notifier.close(PATIENCE_S)
    notifier.send(NotificationKind.STOP, "after the end", "")
    assert not mailbox.may_answer.is_set()
    assert mailbox.titles() == ["run: under way"]
    assert len(printed) == 2
    assert "area change" in printed[0]
    assert "dropped" in printed[0]
    assert "52 notifications" in printed[1]


def test_what_was_let_go_is_not_sent_later(mailbox: Mailbox, tmp_path: Path) -> None:
    mailbox.may_answer.clear()
    notifier = Notifier(addressed(tmp_path, mailbox.address()), 0, "run", lambda line: None)
    for _ in range(3):
        notifier.send(NotificationKind.AREA_CHANGE, "area", "")
    mailbox.await_letter()
    [thread] = [thread for thread in threading.enumerate() if thread.name == "notifications"]
    notifier.close(timeout_s=0)
    mailbox.may_answer.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert len(mailbox.received) == 1


def test_a_program_ends_although_a_server_hangs(mailbox: Mailbox, tmp_path: Path) -> None:
    mailbox.may_answer.clear()
    file = str(addressed(tmp_path, mailbox.address()))
    code = (
        "from pathlib import Path; from spm_gym.runner.notify import *\n"
        f"n = Notifier(Path({file!r}), 0, 'run', print)\n"
        "n.send(NotificationKind.STOP, 'stop', ''); n.close(0.05)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=PATIENCE_S / 2,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("1 notifications had not gone out")


def test_refusals_are_told_once_for_every_kind(mailbox: Mailbox, tmp_path: Path) -> None:
    printed: list[str] = []
    mailbox.answer = 500
    notifier = Notifier(addressed(tmp_path, mailbox.address()), 0, "run", printed.append)
    for _ in range(3):
        notifier.send(NotificationKind.AREA_CHANGE, "area", "")
        notifier.send(NotificationKind.DAILY_SUMMARY, "day", "")
    notifier.close(PATIENCE_S)
    assert len(mailbox.received) == 6
    assert len(printed) == 2
    assert all("did not reach 1 of 1 addresses (refused)" in line for line in printed)
    assert "'area change'" in printed[0]
    assert "'daily summary'" in printed[1]


def test_exceptions_are_told_and_the_next_one_goes_out(
    mailbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apprise.plugins.custom_json import NotifyJSON

    class SurpriseError(Exception):
        pass

    def explode(self: Any, **_: Any) -> bool:
        raise SurpriseError(f"cannot reach {mailbox.address()}")

    printed: list[str] = []
    notifier = Notifier(addressed(tmp_path, mailbox.address()), 0, "run", printed.append)
    with monkeypatch.context() as patch:
        patch.setattr(NotifyJSON, "send", explode)
        notifier.send(NotificationKind.DAILY_SUMMARY, "lost", "")
        _drain(notifier)
    notifier.send(NotificationKind.STOP, "stop", "")
    notifier.close(PATIENCE_S)
    assert mailbox.titles() == ["run: stop"]
    [line] = printed
    assert "SurpriseError" in line
    assert PASSWORD not in line


def _drain(notifier: Notifier) -> None:
    """Wait until everything sent so far is done with: a complaint is the last that is done."""
    wait_until(lambda: notifier._reported, "no complaint came")


def test_a_listener_that_fails_ends_nothing(mailbox: Mailbox, tmp_path: Path) -> None:
    def gone(line: str) -> None:
        raise BrokenPipeError(line)

    mailbox.answer = 500
    notifier = Notifier(addressed(tmp_path, mailbox.address()), 0, "run", gone)
    for title in ("one", "two"):
        notifier.send(NotificationKind.STOP, title, "")
        mailbox.await_letter()
    notifier.close(PATIENCE_S)
    assert mailbox.titles() == ["run: one", "run: two"]


def test_an_address_that_fails_comes_last_the_next_time(mailbox: Mailbox, tmp_path: Path) -> None:
    """So that the last words reach somebody before time is up."""
    with serving() as other:
        mailbox.answer = 500
        file = addressed(tmp_path, mailbox.address(), other.address())
        notifier = Notifier(file, 0, "run", lambda line: None)
        notifier.send(NotificationKind.AREA_CHANGE, "area", "")
        other.await_letter()
        mailbox.await_letter()
        mailbox.may_answer.clear()
        notifier.send(NotificationKind.STOP, "stop", "")
        other.await_letter()
        notifier.close(timeout_s=0)
        mailbox.may_answer.set()
    assert other.titles() == ["run: area", "run: stop"]


def test_nobody_listens_at_the_port(mailbox: Mailbox, tmp_path: Path) -> None:
    printed: list[str] = []
    with Mailbox() as closed:
        nowhere = closed.address()
    notifier = Notifier(addressed(tmp_path, nowhere, mailbox.address()), 0, "run", printed.append)
    notifier.send(NotificationKind.STOP, "stop", "")
    notifier.close(60)
    assert mailbox.titles() == ["run: stop"]
    assert ["did not reach 1 of 2 addresses" in line for line in printed] == [True]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nobody yet\n",
        b"urls: []\n",
        b"what is this?\n",
        f"nosuchservice://me:{PASSWORD}@example.com\n".encode(),
        f"urls:\n  - nosuchservice://me:{PASSWORD}@example.com\n".encode(),
        f"urls: [json://me:{PASSWORD}@example.com".encode(),
        f"json://example.com\nnosuchservice://me:{PASSWORD}@example.com\n".encode(),
        f"json://me:{PASSWORD}@\xff".encode("latin-1"),
        b"\0\1\2",
    ],
    ids=["empty", "comment", "no urls", "prose", "service", "yaml service", "broken yaml",
         "one of two", "not utf-8", "binary"],
)  # fmt: skip
def test_a_file_that_notifies_nobody_is_refused_at_once(
    tmp_path: Path,
    content: bytes,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "addresses"
    path.write_bytes(content)
    before = threading.active_count()
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError, match=r"operation\.notify = '.*addresses'") as info:
        Notifier(path, 600, "run", pytest.fail)
    assert "\n" not in str(info.value)
    assert info.value.__cause__ is None
    assert threading.active_count() == before
    assert PASSWORD not in "".join(
        [str(info.value), repr(info.value), caplog.text, *capfd.readouterr()]
    )


@pytest.mark.parametrize("what", ["missing", "directory", "forbidden"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "directory":
        path.mkdir()
    if what == "forbidden":
        path.write_text("json://localhost\n")
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")
    with pytest.raises(ConfigError, match=r"operation\.notify = .*cannot be read: \w+"):
        Notifier(path, 600, "run", pytest.fail)


@pytest.mark.parametrize("answer", [200, 500])
def test_no_password_is_ever_told(
    mailbox: Mailbox,
    tmp_path: Path,
    answer: int,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    printed: list[str] = []
    mailbox.answer = answer
    caplog.set_level(logging.DEBUG)
    file = addressed(tmp_path, mailbox.address(f"hook/{PASSWORD}"))
    notifier = Notifier(file, 0, "run", printed.append)
    notifier.send(NotificationKind.STOP, "stop", "")
    notifier.close(PATIENCE_S)
    assert len(mailbox.received) == 1
    everything = [repr(notifier), str(notifier), *printed, caplog.text, *capfd.readouterr()]
    assert PASSWORD not in "".join(everything)
    assert "127.0.0.1" not in "".join(everything)


def test_a_summary_is_due_once_for_every_day_that_has_ended() -> None:
    assert not summary_due(0, 0)
    assert not summary_due(DAY - 1, 0)
    assert summary_due(DAY, 0)
    assert not summary_due(DAY + 3600, DAY)
    assert summary_due(5.5 * DAY, DAY)
    assert not summary_due(5.9 * DAY, 5.5 * DAY)


@given(st.lists(st.floats(0, 3 * DAY), max_size=40))
def test_summaries_do_not_drift_however_often_one_asks(steps: list[float]) -> None:
    """At most one for each day of the run, and none is missed for longer than between two looks."""
    elapsed = last = 0.0
    days = []
    for step in steps:
        elapsed += step
        if summary_due(elapsed, last):
            last = elapsed
            days.append(int(elapsed // DAY))
        assert elapsed // DAY == last // DAY
    assert days == sorted(set(days))
