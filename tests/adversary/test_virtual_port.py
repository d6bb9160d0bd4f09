"""Clients of the virtual Nanonis that leave in the middle, and such as would write anywhere."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.nanonis.commands import commands
from spm_gym.instrument.nanonis.wire import (
    HEADER_SIZE,
    ErrorReply,
    decode_header,
    decode_reply,
    encode_request,
)
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.conversation import Conversation
from spm_gym.servers.nanonis.server import VirtualNanonis
from spm_gym.servers.nanonis.session import plain_name
from tests.support.virtual import virtual_nanonis

RELEASE = 14718
FRAME = {"centre_x": 0.0, "centre_y": 0.0, "width": 1e-8, "height": 1e-8, "angle": 0.0}
Serve = Callable[..., VirtualNanonis]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts servers with one port, and a clock that runs; their own folder is ``own``."""
    monkeypatch.chdir(tmp_path)
    servers = []

    def begin(**options: Any) -> VirtualNanonis:
        microscope = SimulatedMicroscope(SimulatorConfig(), seed=5)
        options = {"time_scale": 1.0, "session": tmp_path / "own", **options}
        servers.append(VirtualNanonis(VirtualController(microscope, **options), [0]))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


def connected(server: VirtualNanonis) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.ports[0]), timeout=60)


def sent(name: str, **values: Any) -> bytes:
    return encode_request(commands(RELEASE)[name], values)


def ask(client: socket.socket, name: str, **values: Any) -> dict[str, Any]:
    client.sendall(sent(name, **values))
    header = client.recv(HEADER_SIZE, socket.MSG_WAITALL)
    body = client.recv(decode_header(header).size, socket.MSG_WAITALL)
    return decode_reply(commands(RELEASE)[name], body)


def endless_scan(server: VirtualNanonis) -> None:
    """One that lasts an hour."""
    with connected(server) as client:
        ask(client, "Scan.SpeedSet", fwd_speed=0.0, bwd_speed=0.0, fwd_time=30.0, bwd_time=30.0,
            constant=2, speed_ratio=1.0)  # fmt: skip
        ask(client, "Scan.Action", action=0, direction=0)
        assert ask(client, "Scan.StatusGet") == {"running": 1}


LEFT = {
    "nothing": b"",
    "one byte": b"\0",
    "half a header": b"Bias.Get" + bytes(20),
    "requests": sent("Bias.Get") * 3,
    "another wait": sent("Scan.WaitEndOfScan", timeout=-1),
    "much": bytes(900_000),
    "too much": bytes(3_000_000),
}


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
@pytest.mark.parametrize("abrupt", [False, True], ids=["closed", "reset"])
def test_a_port_lives_after_a_client_that_left_while_it_waited(
    serve: Serve, left: bytes, abrupt: bool
) -> None:
    server = serve()
    endless_scan(server)
    client = connected(server)
    client.sendall(sent("Scan.WaitEndOfScan", timeout=-1))
    try:
        client.sendall(left)
    except OSError:
        assert len(left) > 2**20  # the server lets go of who sends so much
    if abrupt:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    with connected(server) as other:  # fails after a minute if nobody is let go of
        assert ask(other, "Bias.Get") == {"bias": 1.0}


def test_what_a_client_sends_before_a_reply_is_answered_in_order(serve: Serve) -> None:
    server = serve()
    endless_scan(server)
    with connected(server) as client:
        client.sendall(sent("Scan.WaitEndOfScan", timeout=700))
        many = [sent("Bias.Set", bias=0.1 * number) + sent("Bias.Get") for number in range(1, 9)]
        whole = b"".join(many)
        for start in range(0, len(whole), 7):  # torn as a network may tear it
            client.sendall(whole[start : start + 7])
        header = client.recv(HEADER_SIZE, socket.MSG_WAITALL)
        assert decode_header(header).name == "Scan.WaitEndOfScan"
        client.recv(decode_header(header).size, socket.MSG_WAITALL)
        for number in range(1, 9):
            client.recv(HEADER_SIZE + 8, socket.MSG_WAITALL)
            reply = client.recv(HEADER_SIZE + 12, socket.MSG_WAITALL)
            assert struct.unpack_from(">f", reply, HEADER_SIZE)[0] == pytest.approx(0.1 * number)


def test_a_fault_of_ours_costs_a_conversation_and_not_the_port(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()

    def fail(*_: object) -> None:
        raise ZeroDivisionError("oops")

    with monkeypatch.context() as patched:
        patched.setattr(Conversation, "hold", fail)
        with connected(server) as client:
            assert client.recv(1) == b""
    with connected(server) as client:
        assert ask(client, "Bias.Get") == {"bias": 1.0}
    assert "oops" in caplog.text


def saved(client: socket.socket, name: str = "") -> str:
    """Scan with autosave; the path that the server tells."""
    ask(client, "Scan.PropsSet", continuous=2, bouncy=2, autosave=1, series_name=name, comment="",
        module_names=[], autopaste=0)  # fmt: skip
    ask(client, "Scan.FrameSet", **FRAME)
    ask(client, "Scan.Action", action=0, direction=0)
    return str(ask(client, "Scan.WaitEndOfScan", timeout=-1)["path"])


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "path",
    ["/", "/tmp", "{own}/..", "{own}/../elsewhere", "{own}x", "{own}/in/../../out", "elsewhere",
     "", ".", "C:\\data", "\\\\host\\share", "{own}/a\0b", "{own}/a\nb", "{own}/\x1b[2J",
     "{own}/.hidden", "{own}/a:b", "{own}/" + "n" * 300, "{own}/link"],
)  # fmt: skip
def test_a_session_path_stays_below_the_servers_own_folder(
    serve: Serve, tmp_path: Path, path: str
) -> None:
    server, own = serve(time_scale=0), tmp_path / "own"
    own.mkdir()
    (own / "link").symlink_to(tmp_path)
    with connected(server) as client:
        with pytest.raises(ErrorReply, match=r"refused") as error:
            ask(client, "Util.SessionPathSet", path=path.format(own=own),
                save_settings_to_previous=0)  # fmt: skip
        assert error.value.text.isprintable()
        assert ask(client, "Util.SessionPathGet") == {"path": str(own)}
        assert Path(saved(client)).parent == own
    assert {file.parent for file in files(tmp_path)} == {own}


def test_a_folder_below_it_is_made_and_used(serve: Serve, tmp_path: Path) -> None:
    server, below = serve(time_scale=0), tmp_path / "own" / "2024-01-31" / "Au 111"
    with connected(server) as client:
        for path in (str(below), f"{below}/", f"{below}/x/.."):
            ask(client, "Util.SessionPathSet", path=path, save_settings_to_previous=0)
            assert ask(client, "Util.SessionPathGet") == {"path": str(below)}
            assert Path(saved(client, "tip")).parent == below
    assert len(files(below)) == 3


@pytest.mark.parametrize(
    "name",
    ["../../out", "/etc/passwd", "a\0b", "a\nb", "\x1b]0;owned\x07", "\x9b2J", ".hidden", "..",
     "n" * 5000, "\xe9" * 5000, 'a*?"<>|b', "CON", " ", "\t", "\\\\host\\x"],
)  # fmt: skip
def test_a_series_name_becomes_a_plain_one(serve: Serve, tmp_path: Path, name: str) -> None:
    with connected(serve(time_scale=0)) as client:
        stated = Path(saved(client, name))
    assert [stated] == files(tmp_path)
    assert stated.parent == tmp_path / "own"
    assert str(stated).isprintable()
    assert not stated.name.startswith(".")
    assert len(os.fsencode(stated.name)) < 255


@given(st.text(st.characters(blacklist_categories=("Cs",)), max_size=400))
def test_plain_names_are_plain(text: str) -> None:
    name = plain_name(text)
    assert name.isprintable()
    assert not set(name) & set('/\\:*?"<>|\0')
    assert plain_name(name) == name


def test_nothing_is_left_where_the_server_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for scans in (0, 1):
        with (
            virtual_nanonis() as ports,
            socket.create_connection(("127.0.0.1", ports[0]), timeout=60) as client,
        ):
            folder = Path(ask(client, "Util.SessionPathGet")["path"])
            assert folder.parent == tmp_path / "tmp"
            assert folder.stat().st_mode & 0o077 == 0, "nobody else may look, or put links there"
            for _ in range(scans):
                assert Path(saved(client)).parent == folder
        assert folder.exists() == bool(scans), "only an empty one goes with the server"
    assert not list((tmp_path / "here").iterdir())


def test_controllers_in_tests_and_rehearsals_make_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    controller = VirtualController(SimulatedMicroscope(SimulatorConfig(), seed=1), time_scale=0)
    controller.execute("Bias.Get", {})
    assert not list(tmp_path.iterdir())
    assert controller.execute("Util.SessionPathGet", {})["path"].startswith(str(tmp_path))


def test_a_server_closes_beside_a_client_that_floods_it(serve: Serve) -> None:
    server = serve()
    endless_scan(server)
    client = connected(server)
    client.sendall(sent("Scan.WaitEndOfScan", timeout=-1) + bytes(1000))
    closing = threading.Thread(target=server.close)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()
    client.close()
