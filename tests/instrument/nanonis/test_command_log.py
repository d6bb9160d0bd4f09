"""The log of commands: whole, readable, bounded, and of no account to what it records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.errors import CommandFailed, ConnectionLost, UsageError
from spm_gym.instrument.nanonis import command_log
from spm_gym.instrument.nanonis.command_log import CLIENT, commands_logged
from spm_gym.instrument.nanonis.commands import commands
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.instrument.nanonis.exchange import Exchange, from_line, to_line
from spm_gym.instrument.nanonis.wire import HEADER_SIZE, encode_error, encode_reply, encode_request
from spm_gym.servers.nanonis.recording import read_log
from tests.support.recordings import header, written
from tests.support.scripted_port import ScriptedPort, hang_up, send
from tests.support.waiting import PATIENCE_S, wait_until

RELEASE = 14718
COMMANDS = commands(RELEASE)
BIAS = encode_reply(COMMANDS["Bias.Get"], {"bias": 0.5})
NOW = datetime(2026, 5, 17, 22, 14, 3, 250_000, UTC)

bodies = st.one_of(st.binary(max_size=300), st.integers(0, 5000).map(bytes))
exchanges = st.builds(
    Exchange,
    time=st.datetimes(timezones=st.just(UTC)),
    connection=st.integers(0, 10**6),
    command=st.sampled_from([*COMMANDS, "Nothing.Get", ""]),
    seconds=st.floats(0, 1e6),
    release=st.sampled_from([10862, 13742, 14718]),
    request=bodies,
    answer=st.none() | bodies,
    trouble=st.text(max_size=50),
    silent=st.booleans(),
)


@given(exchanges)
def test_a_line_holds_all_of_an_exchange(exchange: Exchange) -> None:
    line = to_line(exchange)
    assert "\n" not in line
    assert line.isascii()
    assert from_line(line.encode()) == exchange


def test_people_can_read_it() -> None:
    request = encode_request(COMMANDS["Bias.Set"], {"bias": -0.3})[HEADER_SIZE:]
    line = to_line(Exchange(NOW, 2, "Bias.Set", 0.0004, RELEASE, request, bytes(8)))
    assert line == (
        '{"time": "2026-05-17T22:14:03.250000Z", "connection": 2, "command": "Bias.Set", '
        '"seconds": 0.0004, "release": 14718, "arguments": {"bias": -0.3}, "values": {}, '
        '"request": "be99999a", "answer": "0000000000000000"}'
    )


def test_errors_images_and_numbers_that_are_none_are_readable_and_whole() -> None:
    def line_of(name: str, reply: bytes) -> dict[str, Any]:
        exchange = Exchange(NOW, 1, name, 0.0, RELEASE, b"", reply[HEADER_SIZE:])
        assert from_line(to_line(exchange).encode()) == exchange
        line: dict[str, Any] = json.loads(to_line(exchange), parse_constant=pytest.fail)
        return line

    image = {"channel_name": "Z (m)", "data": np.full((64, 64), np.nan), "scan_direction": 0}
    grabbed = line_of("Scan.FrameDataGrab", encode_reply(COMMANDS["Scan.FrameDataGrab"], image))
    assert grabbed["values"]["data"] == "64 x 64 values"
    assert grabbed["answer"].startswith("zlib:")
    assert len(grabbed["answer"]) < 64 * 64
    nan = line_of("Current.Get", encode_reply(COMMANDS["Current.Get"], {"current": np.nan}))
    assert nan["values"] == {"current": "nan"}
    failed = line_of("No.Such", encode_error("No.Such", "it does not exist"))
    assert (failed["error"], failed["status"]) == ("it does not exist", 1)


@contextmanager
def logged(path: Path, told: list[str] | None = None) -> Iterator[list[str]]:
    told = [] if told is None else told
    with commands_logged(CLIENT, path, "client", "127.0.0.1:1", told.append):
        yield told


def ask(answers: int) -> list[float]:
    """Ask so often for the bias, over one connection."""
    with ScriptedPort([send(BIAS)] * answers) as port:
        connection = Connection("127.0.0.1", port.port, timeout=PATIENCE_S)
        with closing(connection):
            connection.connect()
            return [connection.call("Bias.Get")["bias"] for _ in range(answers)]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_was_sent_what_was_answered_and_what_became_of_the_connection(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    refusal = encode_error("Bias.Get", "module not open")
    with logged(path) as told, ScriptedPort([send(BIAS), send(refusal), hang_up]) as port:
        connection = Connection("127.0.0.1", port.port, timeout=PATIENCE_S)
        connection.connect()
        assert connection.call("Bias.Get") == {"bias": 0.5}
        with pytest.raises(CommandFailed):
            connection.call("Bias.Get")
        with pytest.raises(ConnectionLost):
            connection.call("Bias.Get")
    with logged(path), pytest.raises(ConnectionLost):
        connection.connect()
    assert told == []
    first, opened, answered, refused, cut_off, closed, second, unreachable = lines(path)
    assert (first["by"], first["endpoint"]) == ("client", "127.0.0.1:1")
    assert opened["event"] == "opened"
    assert opened["endpoint"] == f"127.0.0.1:{port.port}"
    assert answered["values"] == {"bias": 0.5}
    assert refused["error"] == "module not open"
    assert "answer" not in cut_off
    assert "broke: closed by the controller" in cut_off["trouble"]
    assert closed["event"] == "closed"
    assert closed["connection"] == opened["connection"] == cut_off["connection"]
    assert second["format"] == first["format"]
    assert unreachable["event"] == "unreachable"
    assert unreachable["because"]
    times = [line["time"] for line in (opened, answered, refused, cut_off, closed)]
    assert all(earlier <= later for earlier, later in pairwise(times))


def test_nothing_is_written_before_nor_after(tmp_path: Path) -> None:
    ask(1)
    with logged(tmp_path / "log.jsonl"):
        pass
    ask(1)
    assert list(tmp_path.iterdir()) == []


def test_a_torn_line_is_left_alone_and_the_log_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with logged(path):
        ask(2)
    torn = path.read_bytes()[:-30]
    path.write_bytes(torn)
    with logged(path):
        ask(1)
    assert path.read_bytes().startswith(torn + b'\n{"format"')


def test_old_parts_are_kept_up_to_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_log, "PART_BYTES", 2000)
    monkeypatch.setattr(command_log, "PARTS", 3)
    path = tmp_path / "log.jsonl"
    with logged(path):
        ask(40)
    parts = sorted(tmp_path.iterdir())
    assert [part.name for part in parts] == ["log.jsonl", "log.jsonl.1", "log.jsonl.2"]
    assert all(part.stat().st_size <= 2000 + 200 for part in parts)
    assert all(lines(part)[0]["format"] == "spm-gym commands 1" for part in parts)


def test_nothing_is_lost_where_one_part_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_log, "PART_BYTES", 2000)
    with logged(tmp_path / "log.jsonl"):
        ask(40)
    parts = list(tmp_path.iterdir())
    assert len(parts) > 3
    assert len(read_log(parts).exchanges) == 40


@pytest.mark.parametrize("path", ["/dev/full", "/proc/commands.jsonl"])
def test_a_log_that_cannot_be_written_ends_and_is_told_of_once(path: str) -> None:
    with logged(Path(path)) as told:
        assert ask(20) == [0.5] * 20
        wait_until(lambda: told)
        assert ask(20) == [0.5] * 20
    assert len(told) == 1
    assert told[0].startswith(f"the log of commands {path} ends here: [Errno ")


PROGRAM = """
import sys
from pathlib import Path
from spm_gym.instrument.nanonis import command_log as log

log._COLLECT_S = 0.0
log._LONGEST_FLUSH_S = 0.5
log._MOST_WAITING = int(sys.argv[2])
with log.commands_logged(log.CLIENT, Path(sys.argv[1]), "client", "127.0.0.1:1", print):
    for number in range(100):
        log.note_connection(log.CLIENT, number, "opened", "127.0.0.1:1")
    print("done")
"""


@pytest.mark.parametrize(
    ("most_waiting", "order", "why"),
    [
        (10, slice(None), "the disk is too slow"),
        (1000, slice(None, None, -1), "the disk has not taken it within 0.5 s"),
    ],
)
def test_a_disk_that_never_answers_holds_up_nothing_not_even_the_end_of_the_program(
    tmp_path: Path, most_waiting: int, order: slice, why: str
) -> None:
    """Opening a pipe that nobody reads waits for ever, as a network drive does that has gone."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    program = [sys.executable, "-c", PROGRAM, str(pipe), str(most_waiting)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    told = f"the log of commands {pipe} ends here: {why}; everything else goes on"
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [told, "done"][order]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("notes.txt", "notes.txt is there, and no log of commands by the client"),
        ("theirs", "theirs is there, and no log of commands by the client"),
        ("folder", "is a folder"),
        ("none/log.jsonl", "there is no folder"),
        ("old", "old.3 is there, and no log of commands"),
    ],
)
def test_files_of_another_kind_are_left_alone(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    written(tmp_path / "theirs", [], header("virtual-nanonis"))
    for other in ("notes.txt", "old.3"):
        (tmp_path / other).write_text("measured on Monday\n")
    with pytest.raises(UsageError, match="--log-commands .*" + words), logged(tmp_path / name):
        pytest.fail("it writes there")
    assert (tmp_path / "notes.txt").read_text() == "measured on Monday\n"


def test_two_programs_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with logged(path), pytest.raises(UsageError, match="another program writes it"), logged(path):
        pytest.fail("it writes there, too")
    with logged(path):
        ask(1)
    assert [each.name for each in tmp_path.iterdir()] == ["log.jsonl"]
