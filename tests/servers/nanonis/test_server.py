"""The virtual Nanonis on its ports, spoken to in bytes."""

from __future__ import annotations

import struct
import threading

import numpy as np
import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.nanonis.commands import RELEASES, commands
from spm_gym.instrument.nanonis.wire import (
    HEADER_SIZE,
    decode_header,
    decode_reply,
    encode_request,
)
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.byte_client import RELEASE, STOP, Client, Serve, framed, request

OK = bytes(8)


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (request("Bias.Get"), framed("Bias.Get", bytes.fromhex("3f800000") + OK)),
        (request("Bias.Set", bytes.fromhex("3f000000")), framed("Bias.Set", OK)),
        (request("Scan.StatusGet"), framed("Scan.StatusGet", bytes(4) + OK)),
        (request("FolMe.XYPosGet", bytes(4)), framed("FolMe.XYPosGet", bytes(16) + OK)),
        (
            request("Scan.BufferGet"),
            framed("Scan.BufferGet", struct.pack(">iiiii", 2, 0, 30, 64, 64) + OK),
        ),
        (
            request("Util.VersionGet"),
            framed(
                "Util.VersionGet",
                struct.pack(">i15si9sII", 15, b"Virtual Nanonis", 9, b"Generic 5", 14718, 14718)
                + OK,
            ),
        ),
        (
            request("Nonsense.Get"),
            framed(
                "Nonsense.Get",
                struct.pack(">Ii", 1, 45) + b"the command 'Nonsense.Get' does not exist",
            ),
        ),
        (
            request("Bias.Set", bytes(3)),
            framed("Bias.Set", struct.pack(">Ii", 1, 42) + b"4 bytes expected, 3 left in the body"),
        ),
        (
            request("Signals.ValGet", struct.pack(">iI", 500, 0)),
            framed(
                "Signals.ValGet",
                struct.pack(">Ii", 1, 54) + b"there is no signal 500; signals go from 0 to 127",
            ),
        ),
    ],
    ids=lambda value: value[:32].rstrip(b"\0").decode(),
)
def test_replies_byte_for_byte(client: Client, asked: bytes, answered: bytes) -> None:
    if answered[40:44] == b"\0\0\0\1":
        text = answered[48:]
        answered = answered[:44] + struct.pack(">i", len(text)) + text
    client.send(asked)
    assert client.reply() == answered


def test_a_frame_byte_for_byte(client: Client) -> None:
    client.ask("Scan.BufferSet", channel_indexes=[30], pixels=16, lines=16)
    client.send(request("Scan.FrameDataGrab", struct.pack(">II", 30, 1)))
    nothing = np.full(256, np.nan, dtype=">f4").tobytes()
    body = struct.pack(">i5sii", 5, b"Z (m)", 16, 16) + nothing + bytes(4) + OK
    assert client.reply() == framed("Scan.FrameDataGrab", body)


@pytest.mark.parametrize("release", RELEASES)
def test_each_release_speaks_its_dialect(serve: Serve, release: int) -> None:
    with Client(serve(release=release).ports[0]) as client:
        client.send(request("Scan.PropsGet"))
        body = client.reply()[HEADER_SIZE:]
        short = struct.pack(">IIIi4si", 0, 0, 2, 4, b"scan", 0)
        more = struct.pack(">iiiiiI", 0, 0, 0, 0, 0, 2) if release == 14718 else b""
        assert body == short + more + OK
        client.send(request("Signals.InSlotsGet"))
        assert (client.reply()[HEADER_SIZE + 3] == 1) == (release != 10862)


def test_no_reply_where_none_is_wanted(client: Client) -> None:
    client.send(request("Bias.Set", struct.pack(">f", 0.25), flag=0))
    client.send(request("Nonsense.Get", flag=0))
    assert client.ask("Bias.Get") == {"bias": 0.25}


def test_pipelined_requests_are_answered_in_order(client: Client) -> None:
    client.send(request("Bias.Get") + request("ZCtrl.SetpntGet") + request("Bias.Get"))
    names = [decode_header(client.reply()[:HEADER_SIZE]).name for _ in range(3)]
    assert names == ["Bias.Get", "ZCtrl.SetpntGet", "Bias.Get"]


def test_a_waiting_port_does_not_hold_up_another(serve: Serve) -> None:
    server = serve(time_scale=0.01)
    with Client(server.ports[0]) as first, Client(server.ports[1]) as second:
        first.start_scan()
        first.send(encode_request(commands(RELEASE)["Scan.WaitEndOfScan"], {"timeout": -1}))
        first.send(request("Bias.Get"))
        assert second.ask("Scan.StatusGet") == {"running": 1}
        assert first.is_silent()
        second.ask("Scan.Action", action=STOP, direction=0)
        waited = decode_reply(commands(RELEASE)["Scan.WaitEndOfScan"], first.reply()[HEADER_SIZE:])
        assert waited == {"timed_out": 0, "path": ""}
        assert decode_header(first.reply()[:HEADER_SIZE]).name == "Bias.Get"


def test_the_next_client_is_served_when_the_first_has_left(serve: Serve) -> None:
    port = serve(ports=1).ports[0]
    with Client(port) as first:
        first.ask("Bias.Get")
        with Client(port) as second:
            second.send(request("Bias.Get"))
            assert second.is_silent()
            first.socket.close()
            assert second.reply()[:8] == b"Bias.Get"


def test_many_quick_reconnections(serve: Serve) -> None:
    port = serve(ports=1).ports[0]
    for _ in range(50):
        with Client(port) as client:
            client.ask("Bias.Get")


def test_anybody_leaves_while_waiting_frees_the_port_and_the_scan_goes_on(serve: Serve) -> None:
    port = serve(ports=1, time_scale=0.01).ports[0]
    with Client(port) as first:
        first.start_scan()
        first.send(encode_request(commands(RELEASE)["Scan.WaitEndOfScan"], {"timeout": -1}))
    with Client(port) as second:
        assert second.ask("Scan.StatusGet") == {"running": 1}


def test_closing_lets_everybody_go(serve: Serve) -> None:
    server = serve(ports=3, time_scale=0.01)
    waiting, half, idle = clients = [Client(port) for port in server.ports]
    waiting.start_scan()
    waiting.send(encode_request(commands(RELEASE)["Scan.WaitEndOfScan"], {"timeout": -1}))
    half.send(request("Bias.Set", size=4))
    idle.ask("Bias.Get")
    server.close()
    for client in clients:
        with client:
            assert client.is_let_go()
    server.close()


def test_a_server_can_follow_another_on_the_same_controller() -> None:
    controller = VirtualController(SimulatedMicroscope(SimulatorConfig()), time_scale=1000.0)
    with VirtualNanonis(controller, [0]) as first, Client(first.ports[0]) as client:
        client.ask("Bias.Set", bias=0.5)
    with VirtualNanonis(controller, first.ports) as second, Client(second.ports[0]) as client:
        assert client.ask("Bias.Get") == {"bias": 0.5}
        client.start_scan()
        assert client.ask("Scan.WaitEndOfScan", timeout=-1)["timed_out"] == 0


def test_a_busy_port_is_named(serve: Serve) -> None:
    server = serve(ports=1)
    controller = VirtualController(SimulatedMicroscope(SimulatorConfig()))
    with pytest.raises(OSError, match="in use") as caught:
        VirtualNanonis(controller, [0, *server.ports])
    assert caught.value.filename == str(server.ports[0])


def test_many_clients_at_once(serve: Serve) -> None:
    server = serve(ports=4)
    wrong = []

    def talk(port: int, bias: float) -> None:
        with Client(port) as client:
            for n in range(100):
                client.ask("LockIn.ModAmpSet", modulator=int(bias), amplitude=n)
                got = client.ask("LockIn.ModAmpGet", modulator=int(bias))["amplitude"]
                if got != n:
                    wrong.append(got)

    threads = [
        threading.Thread(target=talk, args=(port, n)) for n, port in enumerate(server.ports, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
