"""Logs of commands are read whole or refused, wherever a kill has cut them off."""

from __future__ import annotations

import base64
import json
import re
import zlib
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.errors import UsageError
from spm_gym.instrument.nanonis import exchange as exchange_module
from spm_gym.instrument.nanonis.exchange import Exchange, to_line
from spm_gym.servers.nanonis.recording import read_log
from tests.support.recordings import exchange, header, written

FIRST = exchange("Bias.Get", {}, {"bias": 1.0})
LOG = [
    FIRST,
    exchange("Bias.Set", {"bias": 0.5}, {}),
    exchange("Scan.FrameDataGrab", {"channel_index": 30, "direction": 1},
             {"channel_name": "Z (m)", "data": [[1.0] * 40] * 40, "scan_direction": 0}),
    exchange("Bias.Get", {}, None),
]  # fmt: skip
WHOLE = "".join(f"{to_line(line)}\n" for line in [header(), *LOG]).encode()
START = len(to_line(header())) + 1


class Damaged(Exception):
    """The reader has named the damaged line, in one line."""


def read(content: bytes) -> list[Exchange]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        path.write_bytes(content)
        try:
            return list(read_log([path]).exchanges)
        except UsageError as error:
            if re.fullmatch(r".*log\.jsonl, line \d+: .+", str(error)):
                raise Damaged from error
            raise


def test_a_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    recording = read_log([written(tmp_path / "log.jsonl", LOG)])
    assert list(recording.exchanges) == LOG
    assert recording.header == header()


@given(st.integers(START, len(WHOLE)))
def test_a_log_that_was_cut_off_anywhere_has_all_that_was_finished(end: int) -> None:
    finished = WHOLE[START:end].count(b"\n")
    if finished:
        # A line of which only its end is missing was finished, too.
        assert read(WHOLE[:end]) in (LOG[:finished], LOG[: finished + 1])
    # What was torn is left out as well if the program goes on with the file.
    began_again = header(minutes=5)
    further = f"\n{to_line(began_again)}\n{to_line(FIRST)}\n".encode()
    if not WHOLE[:end].endswith(b"\n"):
        assert read(WHOLE[:end] + further)[-1] == FIRST
        assert len(read(WHOLE[:end] + further)) in (finished + 1, finished + 2)


@given(st.integers(START, len(WHOLE) - 1), st.integers(0, 255))
def test_damage_is_found_or_harmless(place: int, byte: int) -> None:
    """One line names the line, or the log is as long as before: no traceback, nothing left out."""
    damaged = WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :]
    with suppress(Damaged):
        assert len(read(damaged)) in (len(LOG), len(LOG) - 1)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{}", "neither a header nor an event nor a command"),
        ("[1]", "neither a header"),
        ('{"command": "Bias.Get"}', "time: Field required"),
        ("not JSON", "Expecting value"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = written(tmp_path / "log.jsonl", LOG)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], line, *lines[3:], ""]))
    with pytest.raises(UsageError, match=f"log.jsonl, line 4: .*{words}"):
        read_log([path])


def test_a_body_that_unpacks_to_more_than_any_message_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "LARGEST_BODY", 2**20)
    packed = zlib.compress(bytes(2**21))
    assert len(packed) < 2**12
    line = json.loads(to_line(FIRST))
    line["answer"] = "zlib:" + base64.b64encode(packed).decode()
    path = written(tmp_path / "log.jsonl", LOG)
    path.write_text(path.read_text() + json.dumps(line) + "\n")
    with pytest.raises(UsageError, match="line 6: answer: Value error, a body that is cut off"):
        read_log([path])


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 5000, b"SQLite format 3\0", b"time,bias\n1,2\n", b'{"format": "x"}\n']
)
def test_other_files_are_no_logs(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="other, line 1: "):
        read_log([path])


def test_parts_may_be_named_in_any_order(tmp_path: Path) -> None:
    newest = written(tmp_path / "log.jsonl", LOG[2:], header(minutes=9))
    oldest = written(tmp_path / "log.jsonl.2", LOG[:1], header())
    middle = written(tmp_path / "log.jsonl.1", LOG[1:2], header(minutes=4))
    assert list(read_log([newest, middle, oldest]).exchanges) == LOG


def test_parts_that_do_not_belong_together(tmp_path: Path) -> None:
    ours = written(tmp_path / "ours", LOG)
    theirs = written(tmp_path / "theirs", LOG, header("virtual-nanonis"))
    with pytest.raises(UsageError, match="one is of the client, another of the server"):
        read_log([ours, theirs])
    with pytest.raises(UsageError, match="the same file twice"):
        read_log([ours, tmp_path / "." / "ours"])
    with pytest.raises(UsageError, match="it holds no command"):
        read_log([written(tmp_path / "empty", [])])
