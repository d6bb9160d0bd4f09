from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from spm_gym.errors import (
    BadReply,
    CommandFailed,
    ConnectionLost,
    InstrumentError,
    OutcomeUnknown,
    TimedOut,
)
from spm_gym.instrument.nanonis.commands import RELEASES, commands
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.instrument.nanonis.wire import encode_error, encode_reply
from tests.support.damage import attack_client
from tests.support.scripted_port import Answer, ScriptedPort, hang_up, send, stay_silent
from tests.support.waiting import PATIENCE_S

COMMANDS = commands(RELEASES[-1])
BIAS = encode_reply(COMMANDS["Bias.Get"], {"bias": 0.5})
DONE = encode_reply(COMMANDS["Bias.Set"], {})
PULSE = {"wait": 1, "width": 0.1, "bias": 4.0, "z_control": 1, "mode": 2}


def reply(name: str, size: int, body: bytes) -> bytes:
    return struct.pack(">32siHH", name.encode(), size, 0, 0) + body


@contextmanager
def connected(
    *script: Answer, timeout: float = PATIENCE_S
) -> Iterator[tuple[Connection, ScriptedPort]]:
    with ScriptedPort(script) as port:
        connection = Connection("127.0.0.1", port.port, timeout)
        connection.connect()
        try:
            yield connection, port
        finally:
            connection.close()


def test_values_come_back_by_name() -> None:
    with connected(send(BIAS), send(DONE)) as (connection, port):
        assert connection.call("Bias.Get") == {"bias": 0.5}
        assert connection.call("Bias.Set", bias=1.0) == {}
        assert port.requests == ["Bias.Get", "Bias.Set"]


@pytest.mark.parametrize("size", [1, 7, 39, 41])
def test_a_reply_in_pieces_is_put_together(size: int) -> None:
    pieces = [BIAS[at : at + size] for at in range(0, len(BIAS), size)]
    with connected(send(*pieces, pause=0.001)) as (connection, _):
        assert connection.call("Bias.Get") == {"bias": 0.5}


def test_an_error_names_command_status_and_text_and_keeps_the_connection() -> None:
    with connected(send(encode_error("Bias.Set", "access denied", 7)), send(BIAS)) as (link, _):
        with pytest.raises(CommandFailed, match=r"Bias\.Set: access denied \(status 7\)"):
            link.call("Bias.Set", bias=1.0)
        assert link.call("Bias.Get") == {"bias": 0.5}


def patience(kind: type[InstrumentError]) -> float:
    """Short only where nothing is to come, so that a slow machine is not taken for silence."""
    return 0.3 if kind is TimedOut else PATIENCE_S


broken = [
    pytest.param(hang_up, ConnectionLost, id="closed"),
    pytest.param(stay_silent, TimedOut, id="silent"),
    pytest.param(send(BIAS[:20]), TimedOut, id="half a header"),
    pytest.param(send(BIAS[:45]), TimedOut, id="half a body"),
    pytest.param(send(DONE), BadReply, id="another command's reply"),
    pytest.param(send(reply("Bias.Get", -1, b"")), BadReply, id="negative size"),
    pytest.param(send(reply("Bias.Get", 2**30, b"")), BadReply, id="huge size"),
    pytest.param(send(reply("Bias.Get", 4, bytes(4))), BadReply, id="no error block"),
    pytest.param(send(reply("Bias.Get", 16, bytes(16))), BadReply, id="too long"),
    pytest.param(send(reply("", 12, bytes(12))), BadReply, id="no name"),
]


@pytest.mark.parametrize(("answer", "kind"), broken)
def test_whatever_is_wrong_closes_the_connection(
    answer: Answer, kind: type[InstrumentError]
) -> None:
    with connected(answer, send(BIAS), timeout=patience(kind)) as (connection, port):
        with pytest.raises(kind, match=r"Bias\.Get"):
            connection.call("Bias.Get")
        with pytest.raises(ConnectionLost, match="no connection"):
            connection.call("Bias.Get")
        assert port.requests == ["Bias.Get"]
        connection.connect()
        connection.timeout = PATIENCE_S
        assert connection.call("Bias.Get") == {"bias": 0.5}


@pytest.mark.parametrize(("answer", "kind"), broken)
def test_an_act_without_its_reply_is_unknown_and_sent_once(
    answer: Answer, kind: type[InstrumentError]
) -> None:
    with connected(answer, send(DONE), timeout=patience(kind)) as (connection, port):
        with pytest.raises(OutcomeUnknown, match=r"Bias\.Pulse"):
            connection.call("Bias.Pulse", act=True, **PULSE)
        assert port.requests == ["Bias.Pulse"]


def test_an_act_that_was_never_sent_is_not_unknown() -> None:
    connection = Connection("127.0.0.1", 1)
    with pytest.raises(ConnectionLost):
        connection.call("Bias.Pulse", act=True, **PULSE)


def test_an_act_that_the_controller_refuses_is_not_unknown() -> None:
    refusal = send(encode_error("Bias.Pulse", "no module"))
    with connected(refusal) as (link, _), pytest.raises(CommandFailed, match="no module"):
        link.call("Bias.Pulse", act=True, **PULSE)


def test_a_late_reply_is_never_taken_for_the_next_one() -> None:
    late = encode_reply(COMMANDS["Bias.Get"], {"bias": 9.0})
    given_up = threading.Event()

    def answer_late(client: socket.socket, request: bytes) -> None:
        assert given_up.wait(PATIENCE_S)
        client.sendall(late)

    with connected(answer_late, send(BIAS), timeout=0.2) as (connection, _):
        with pytest.raises(TimedOut):
            connection.call("Bias.Get")
        given_up.set()
        connection.connect()
        connection.timeout = PATIENCE_S
        assert connection.call("Bias.Get") == {"bias": 0.5}


def test_a_command_may_take_its_time() -> None:
    pulse = encode_reply(COMMANDS["Bias.Pulse"], {})

    def answer_late(client: socket.socket, request: bytes) -> None:
        time.sleep(0.4)
        client.sendall(pulse)

    with connected(answer_late, timeout=0.2) as (connection, _):
        assert connection.call("Bias.Pulse", takes=PATIENCE_S, act=True, **PULSE) == {}


def test_threads_share_a_connection_and_get_their_own_replies() -> None:
    def echo(client: socket.socket, request: bytes) -> None:
        index = struct.unpack(">i", request[40:44])[0]
        values = {"calibration_per_volt": index, "offset": 0.0}
        client.sendall(encode_reply(COMMANDS["Signals.CalibrGet"], values))

    wrong = []

    def ask(thread: int) -> None:
        for index in range(thread, 200, 4):
            got = connection.call("Signals.CalibrGet", signal_index=index)
            if got["calibration_per_volt"] != index:
                wrong.append(index)

    with connected(*[echo] * 200) as (connection, _):
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_an_interrupt_in_the_middle_closes_the_connection() -> None:
    class Interrupted(BaseException):
        pass

    with connected(send(BIAS)) as (connection, _):

        def interrupt(*arguments: object) -> bytes:
            raise Interrupted

        connection._exchange = interrupt  # type: ignore[method-assign]
        with pytest.raises(Interrupted):
            connection.call("Bias.Get")
        with pytest.raises(ConnectionLost):
            connection.call("Bias.Get")


@pytest.mark.parametrize("values", [{"bias": float("nan")}, {"bias": 1e40}, {"volts": 1.0}, {}])
def test_nothing_unspeakable_is_sent(values: dict[str, float]) -> None:
    with connected(send(BIAS)) as (connection, port):
        with pytest.raises(ValueError, match=r"Bias\.Set"):
            connection.call("Bias.Set", **values)
        assert connection.call("Bias.Get") == {"bias": 0.5}
        assert port.requests == ["Bias.Get"]


def test_a_command_that_the_release_lacks_is_not_sent() -> None:
    with connected(send(BIAS)) as (connection, port):
        connection.release = 10862
        with pytest.raises(CommandFailed, match=r"Util\.VersionGet .* 10862"):
            connection.call("Util.VersionGet")
        assert not port.requests


def test_nobody_listening_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ConnectionLost, match=rf"127\.0\.0\.1:{port}.*real\.nanonis\.ports"):
        Connection("127.0.0.1", port).connect()


@pytest.mark.slow
def test_malformed_replies_never_hang_nor_pass() -> None:
    outcomes = attack_client(10_000, seed=1)
    assert outcomes["accepted"] == 0
    assert outcomes["asked"] == 10_000
