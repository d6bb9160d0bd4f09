"""The DeepSPM client and replies that are missing, late, refusing or senseless."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
from collections.abc import Callable

import numpy as np
import pytest

from spm_gym.errors import (
    BadReply,
    CommandFailed,
    ConnectionLost,
    InstrumentError,
    LimitExceeded,
    OutcomeUnknown,
    TimedOut,
    TipCrashed,
)
from spm_gym.instrument.deepspm.client import DeepSPMInstrument
from spm_gym.instrument.deepspm.line import Timeouts
from spm_gym.types import Dip, Direction, Frame, Pulse
from tests.support.scripted_deepspm import HANG_UP, SILENT, Z_RANGE, Answer, ScriptedServer, image
from tests.support.waiting import PATIENCE_S

NM = 1e-9
FRAME = Frame(31.7e-9, -12.3e-9, 10e-9, 16)


ACTS: dict[str, Callable[[DeepSPMInstrument], object]] = {
    "tipshaping": lambda client: client.condition(Dip(NM), 0, 0),
    "approach": lambda client: client.approach(),
    "movearea": lambda client: client.move_area(Direction.Y_PLUS),
    "tipclean": lambda client: client.clean_tip(0, 0),
}


@pytest.mark.parametrize("name", ACTS)
def test_an_act_without_a_reply_is_never_repeated(name: str) -> None:
    with (
        ScriptedServer(HANG_UP, b"Range:1e-6") as server,
        contextlib.closing(server.connect()) as client,
    ):
        with pytest.raises(OutcomeUnknown, match="whether it was done is not known"):
            ACTS[name](client)
        with pytest.raises(ConnectionLost, match="nothing was sent"):
            ACTS[name](client)
        client.reconnect()
        assert client.area_side() == 1e-6
    assert [request.split(b"(")[0].decode() for request in server.received] == [name, "getparam"]


@pytest.mark.parametrize("name", ACTS)
def test_a_late_reply_to_an_act_leaves_its_outcome_unknown(name: str) -> None:
    hurry = Timeouts(act=-0.15, approach=0.05, coarse=0.05, pause=0.05)
    with (
        ScriptedServer(SILENT) as server,
        contextlib.closing(server.connect(hurry)) as client,
    ):
        with pytest.raises(OutcomeUnknown, match="no reply within"):
            ACTS[name](client)
        assert not client.status().details["connected"]
        assert math.isnan(client.status().x)
    assert len(server.received) == 1


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("reply", [b"\xff\xfe\x00\x01", b"\r\n", b"x" * 5000])
def test_a_senseless_reply_to_an_act_leaves_its_outcome_unknown(name: str, reply: bytes) -> None:
    with (
        ScriptedServer(reply) as server,
        contextlib.closing(server.connect()) as client,
        pytest.raises(OutcomeUnknown),
    ):
        ACTS[name](client)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"dip out of bounds: -50n", LimitExceeded),
        (b"unknown command:tipshaping\r\n", CommandFailed),
        (b"error 56 at TCP Read", CommandFailed),
        (b"Fatal crash", TipCrashed),
        (b"error: OutcomeUnknown: of a server in between", OutcomeUnknown),
    ],
)
def test_refusals_of_the_server(reply: bytes, error: type[InstrumentError]) -> None:
    with (
        ScriptedServer(reply, b"0.123") as server,
        contextlib.closing(server.connect()) as client,
    ):
        with pytest.raises(error) as caught:
            client.condition(Dip(NM), 0, 0)
        assert type(caught.value) is error
        client.condition(Dip(NM), 0, 0)
        assert client.status().details["last_reply"] == "0.123"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (struct.pack(">ii", -1, 16), BadReply),
        (struct.pack(">ii", 2**31 - 1, 2**31 - 1), BadReply),
        (struct.pack(">ii", 0, 0), BadReply),
        (image(16, 8), BadReply),
        (b"have no image today", BadReply),
        (b"rough image detected ", CommandFailed),
        (b"position out of bounds X:9u", LimitExceeded),
        (HANG_UP, ConnectionLost),
    ],
)
def test_what_is_no_image(reply: Answer, error: type[InstrumentError]) -> None:
    with (
        ScriptedServer(reply) as server,
        contextlib.closing(server.connect()) as client,
    ):
        with pytest.raises(error):
            client.scan(FRAME)
        kept = error in (CommandFailed, LimitExceeded)
        assert client.status().details["connected"] is kept
    assert server.received == [b"scan(31.7n,-12.3n,10n,16)"]


def test_an_image_cut_short_times_out() -> None:
    hurry = Timeouts(scan_margin=0.1)
    with (
        ScriptedServer(image(16, 16)[:-1]) as server,
        contextlib.closing(server.connect(hurry, speed=1.0)) as client,
    ):
        with pytest.raises(TimedOut):
            client.scan(FRAME)
        with pytest.raises(ConnectionLost):
            client.scan(FRAME)


@pytest.mark.parametrize("reply", [b"Range:", b"Range:wide", b"zRange:1e-7", b"Range:-1", b"1e-6"])
def test_senseless_parameters(reply: bytes) -> None:
    with (
        ScriptedServer(reply) as server,
        contextlib.closing(server.connect()) as client,
        pytest.raises(BadReply),
    ):
        client.area_side()


def test_replies_in_single_bytes() -> None:
    slow = Timeouts(pause=PATIENCE_S)
    changed = b"Approach area changed with 2 crashes 30 steps"
    with (
        ScriptedServer(image(16, 16), changed, b"1\r\n", piecewise=True) as server,
        contextlib.closing(server.connect(slow)) as client,
    ):
        assert client.scan(FRAME).z[0, 1] == np.float32(1e-12)
        client.reconnect()
        client.move_area(Direction.Y_PLUS)
        assert client.status().details["last_reply"].endswith("30 steps")
        client.reconnect()
        assert client.clean_tip(0, 0)
    assert len(server.received) == 3


def test_words_that_nobody_asked_for_end_the_connection_before_anything_is_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        with contextlib.closing(DeepSPMInstrument(host, port, z_range=Z_RANGE)) as client:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"1.5e-9")
                _await_words(client)
                with pytest.raises(BadReply, match="unasked"):
                    client.condition(Dip(NM), 0, 0)
                assert peer.recv(100) == b""


def _await_words(client: DeepSPMInstrument) -> None:
    connected = client._line._socket
    assert connected is not None
    assert connected.recv(1, socket.MSG_PEEK)


def test_a_z_range_that_the_server_does_not_know_is_asked_for_once() -> None:
    with (
        ScriptedServer(b"Unknown parameter: zRange", image(16, 16), image(16, 16)) as server,
        contextlib.closing(server.connect(z_range=None)) as client,
    ):
        assert client.scan(FRAME).z_range is None
        assert client.scan(FRAME).z_range is None
        assert all(map(math.isnan, client.status().z_range))
    assert [request[:4] for request in server.received] == [b"getp", b"scan", b"scan"]


@pytest.mark.parametrize(
    ("send", "error"),
    [
        (lambda client: client.condition(Dip(math.nan), 0, 0), LimitExceeded),
        (lambda client: client.condition(Pulse(2.0, math.inf), 0, 0), LimitExceeded),
        (lambda client: client.condition(Pulse(2.0), math.nan, 0), LimitExceeded),
        (lambda client: client.scan(Frame(math.inf, 0, 10 * NM, 16)), LimitExceeded),
        (lambda client: client.scan(Frame(0, 0, math.nan, 16)), LimitExceeded),
        (lambda client: client.scan(Frame(0, 0, 10 * NM, 16.5)), ValueError),
        (lambda client: client.condition(3, 0, 0), ValueError),
        (lambda client: client.move_area("y+"), ValueError),
        (lambda client: client.clean_tip("1", 0), ValueError),
        (lambda client: client.scan(FRAME, 1.5), ValueError),
        (lambda client: client.scan(Frame(0, 0, 10 * NM, 16, 0.1)), LimitExceeded),
        (lambda client: client.scan(Frame(0, 0, 10 * NM, 16, lines=4)), LimitExceeded),
    ],
)
def test_what_cannot_be_asked_is_not_sent(
    send: Callable[[DeepSPMInstrument], object], error: type[Exception]
) -> None:
    with (
        ScriptedServer(b"Range:1e-6") as server,
        contextlib.closing(server.connect(z_range=None)) as client,
    ):
        with pytest.raises(error):
            send(client)
        assert client.area_side() == 1e-6
    assert server.received == [b"getparam(Range)"]
