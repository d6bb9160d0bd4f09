"""Requests that make no sense harm nothing and nobody else."""

from __future__ import annotations

import random
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from spm_gym.instrument.nanonis.commands import commands
from spm_gym.instrument.nanonis.wire import (
    HEADER_SIZE,
    ErrorReply,
    decode_header,
)
from spm_gym.servers.nanonis.controller import VirtualController
from tests.support.byte_client import RELEASE, Client, Serve, framed, request
from tests.support.damage import attack_server

OK = bytes(8)


@pytest.mark.parametrize(
    "data",
    [
        request("Bias.Get", size=-1),
        request("Bias.Get", size=2**20 + 1),
        request("Bias.Get", size=2**31 - 1),
        request("Bias.Get", flag=2),
        b"\xff" * HEADER_SIZE,
    ],
)
def test_what_cannot_be_framed_ends_the_connection_only(serve: Serve, data: bytes) -> None:
    port = serve(ports=1).ports[0]
    with Client(port) as client:
        client.send(data)
        assert client.is_let_go()
    with Client(port) as client:
        assert client.ask("Bias.Get") == {"bias": 1.0}


def test_half_a_request_holds_up_its_own_port_only(serve: Serve) -> None:
    server = serve()
    with Client(server.ports[0]) as half, Client(server.ports[1]) as whole:
        half.send(request("Bias.Set", size=4))
        assert whole.ask("Bias.Get") == {"bias": 1.0}
        assert half.is_silent()
        half.send(struct.pack(">f", 0.5))
        assert half.reply() == framed("Bias.Set", OK)


def test_a_name_that_is_no_text(client: Client) -> None:
    client.send(b"\xfe" * 32 + bytes([0, 0, 0, 0, 0, 1, 0, 0]))
    assert client.reply()[HEADER_SIZE + 3] == 1
    assert client.ask("Bias.Get") == {"bias": 1.0}


def test_random_requests_neither_kill_nor_desynchronise_it(
    serve: Serve, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    rng = random.Random(0)
    server = serve(session=tmp_path)
    names = sorted(commands(RELEASE))
    with Client(server.ports[0]) as client:
        for _ in range(3000):
            name = rng.choice(names)
            if "Wait" in name:
                continue  # a random timeout may be for ever
            body = rng.choice([rng.randbytes(rng.randrange(48)), bytes(rng.randrange(48))])
            client.send(request(name, body))
            assert decode_header(client.reply()[:HEADER_SIZE]).name == name
        client.ask("Bias.Set", bias=0.5)
        assert client.ask("Bias.Get") == {"bias": 0.5}
    assert not [record for record in caplog.records if "failed" in record.getMessage()]


@pytest.mark.slow
def test_ten_thousand_damaged_messages_change_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve(session=tmp_path)
    assert attack_server(server.ports[0], server.ports[1], 10_000, seed=2) == 0


def sensible(rng: random.Random, name: str) -> dict[str, Any]:
    """Arguments of the right kinds, sometimes absurd."""
    values: dict[str, Any] = {}
    for field in commands(RELEASE)[name].request:
        if field.type == "strs":
            values[field.name] = ["x"] * rng.randrange(3)
        elif field.array == "counted" or field.array:
            values[field.name] = ["t"] if field.type == "str" else [rng.randrange(3)]
        elif field.type == "str":
            values[field.name] = rng.choice(["", "name", "Linear"])
        elif field.type[0] == "f":
            values[field.name] = rng.choice([0.0, 1e-9, -3e-8, 0.5, -7.0, 1e30, -1e30, 1e-38])
        elif field.name == "timeout":
            values[field.name] = rng.choice([0, 10, 3000])
        elif not field.repeats and not field.bytes_of:
            values[field.name] = rng.choice([0, 0, 1, 1, 2, 3, 5, 24, 30, 64])
    for field in commands(RELEASE)[name].request:
        if field.array not in ("", "counted", "matrix"):
            values[field.array] = 1
    return values


@pytest.mark.parametrize("seed", range(3))
def test_absurd_but_well_formed_sessions_have_no_internal_error(
    serve: Serve, caplog: pytest.LogCaptureFixture, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    server = serve(session=tmp_path)
    names = sorted(set(commands(RELEASE)) - {"Scan.BufferSet"})
    names += ["Scan.Action", "Scan.WaitEndOfScan", "ZCtrl.OnOffSet", "TipShaper.Start"] * 10
    with Client(server.ports[0]) as client:
        client.ask("Scan.BufferSet", channel_indexes=[0, 30], pixels=16, lines=16)
        for _ in range(1000):
            name = rng.choice(names)
            with suppress(ErrorReply):
                client.ask(name, **sensible(rng, name))
        client.ask("Bias.Set", bias=0.5)
        assert client.ask("Bias.Get") == {"bias": 0.5}
    assert not [record for record in caplog.records if "failed" in record.getMessage()]


def test_an_error_of_ours_is_answered_and_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(ports=1)

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(VirtualController, "execute", fail)
    with Client(server.ports[0]) as client:
        for _ in range(2):
            with pytest.raises(ErrorReply, match="internal error: oops"):
                client.ask("Bias.Get")
    assert "Bias.Get failed" in caplog.text
