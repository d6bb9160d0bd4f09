"""The virtual Nanonis on its ports, spoken to in bytes."""

from __future__ import annotations

import random
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest

from spm_gym.config import ConfigError, SimulatorConfig
from spm_gym.instrument.nanonis.commands import RELEASES, commands
from spm_gym.instrument.nanonis.wire import (
    HEADER_SIZE,
    ErrorReply,
    WireError,
    decode_header,
    decode_reply,
    encode_request,
)
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.faults import Fault, load_faults
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.damage import attack_server
from tests.support.waiting import PATIENCE_S

RELEASE = 14718
OK = bytes(8)
START, STOP = 0, 1
Serve = Callable[..., VirtualNanonis]


class Client:
    """Sends bytes, and reads exactly one reply at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            part = self.socket.recv(size - len(received))
            if not part:
                raise EOFError(f"{len(received)} of {size} bytes")
            received += part
        return received

    def reply(self) -> bytes:
        header = self.read(HEADER_SIZE)
        return header + self.read(decode_header(header).size)

    def ask(self, name: str, /, **values: Any) -> dict[str, Any]:
        command = commands(RELEASE)[name]
        self.send(encode_request(command, values))
        reply = self.reply()
        assert decode_header(reply[:HEADER_SIZE]).name == name
        return decode_reply(command, reply[HEADER_SIZE:])

    def start_scan(self) -> None:
        self.ask("Scan.Action", action=START, direction=0)

    def is_silent(self, seconds: float = 0.05) -> bool:
        return not select.select([self.socket], [], [], seconds)[0]

    def is_let_go(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers; ends them at last."""
    servers = []

    def begin(faults: Sequence[Fault] = (), ports: int = 2, **options: Any) -> VirtualNanonis:
        calm = SimulatorConfig(tip_change_rate=0, contact_loss_rate=0, crash_rate=0)
        controller = VirtualController(
            SimulatedMicroscope(calm, seed=5), **{"time_scale": 0, **options}
        )
        servers.append(VirtualNanonis(controller, [0] * ports, faults=faults))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


@pytest.fixture
def client(serve: Serve) -> Iterator[Client]:
    with Client(serve().ports[0]) as client:
        yield client


def request(name: str, body: bytes = b"", flag: int = 1, size: int | None = None) -> bytes:
    size = len(body) if size is None else size
    return struct.pack(">32siHH", name.encode(), size, flag, 0) + body


def framed(name: str, body: bytes) -> bytes:
    return struct.pack(">32siI", name.encode(), len(body), 0) + body


# Bytes


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


# Connections


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


# Requests that are none


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


# Faults


def fault(kind: str, command: str, **options: Any) -> Fault:
    return Fault(fault=kind, command=command, **options)  # type: ignore[arg-type]


def test_an_injected_error_instead_of_the_act(serve: Serve) -> None:
    server = serve([fault("error", "Bias.Set", nth=2, text="module not open")])
    with Client(server.ports[0]) as client:
        client.ask("Bias.Set", bias=0.5)
        with pytest.raises(ErrorReply, match="module not open"):
            client.ask("Bias.Set", bias=0.25)
        assert client.ask("Bias.Get") == {"bias": 0.5}
        client.ask("Bias.Set", bias=0.25)


@pytest.mark.parametrize(("when", "bias"), [("before", 1.0), ("after", 0.5)])
def test_a_dropped_connection(serve: Serve, when: str, bias: float) -> None:
    server = serve([fault("drop", "Bias.Set", when=when)], ports=1)
    with Client(server.ports[0]) as client, pytest.raises(EOFError, match="0 of 40 bytes"):
        client.ask("Bias.Set", bias=0.5)
    with Client(server.ports[0]) as client:
        assert client.ask("Bias.Get") == {"bias": bias}


def paused(server: VirtualNanonis) -> tuple[VirtualNanonis, Callable[[float], None]]:
    """Make a server wait for an event instead of a delay, and check the delay."""
    asked: Queue[float] = Queue()
    leave = threading.Semaphore(0)

    def wait(seconds: float) -> None:
        asked.put(seconds)
        assert leave.acquire(timeout=PATIENCE_S)

    server._closing.wait = wait  # type: ignore[assignment,method-assign]

    def go_on(seconds: float) -> None:
        assert asked.get(timeout=PATIENCE_S) == seconds
        leave.release()

    return server, go_on


def test_a_late_reply(serve: Serve) -> None:
    server, go_on = paused(serve([fault("late", "Bias.Get", seconds=0.5)]))
    with Client(server.ports[0]) as client:
        client.send(request("Bias.Get"))
        assert client.is_silent()
        go_on(0.5)
        assert client.reply()[:8] == b"Bias.Get"


def test_a_split_reply(serve: Serve) -> None:
    server, go_on = paused(serve([fault("split", "Bias.Get", seconds=0.4)]))
    with Client(server.ports[0]) as client:
        client.send(request("Bias.Get"))
        for size in (20, 20):
            client.read(size)
            assert client.is_silent()
            go_on(0.4)
        assert len(client.read(12)) == 12


def test_replies_that_make_no_sense(serve: Serve) -> None:
    faults = [fault("garbage", "Bias.Get"), fault("short", "Bias.Get", nth=2)]
    with Client(serve(faults).ports[0]) as client:
        client.send(request("Bias.Get"))
        assert client.reply()[:32].rstrip(b"\0") == b"Garbage.Get"
        with pytest.raises(WireError):
            client.ask("Bias.Get")
        assert client.ask("Bias.Get") == {"bias": 1.0}


def test_a_frame_without_data(serve: Serve) -> None:
    rule = fault("nan_frame", "Scan.FrameDataGrab", every=True)
    with Client(serve([rule]).ports[0]) as client:
        client.start_scan()
        client.ask("Scan.WaitEndOfScan", timeout=-1)
        for _ in range(2):
            grabbed = client.ask("Scan.FrameDataGrab", channel_index=30, direction=1)
            assert np.isnan(grabbed["data"]).all()


@pytest.mark.parametrize(("kind", "current"), [("crash", 1e-7), ("lost_contact", 0.0)])
def test_accidents_on_demand(serve: Serve, kind: str, current: float) -> None:
    with Client(serve([fault(kind, "TipShaper.Start", when="after")]).ports[0]) as client:
        assert client.ask("Current.Get")["current"] == pytest.approx(25e-12)
        client.ask("TipShaper.Start", wait=1, timeout=-1)
        assert client.ask("Current.Get")["current"] == pytest.approx(current)


def test_an_approach_that_never_ends(serve: Serve) -> None:
    with Client(serve([fault("stuck_approach", "AutoApproach.OnOffSet")]).ports[0]) as client:
        client.ask("ZCtrl.Withdraw", wait=1, timeout=-1)
        client.ask("AutoApproach.OnOffSet", on=1)
        assert client.ask("AutoApproach.OnOffGet") == {"on": 1}
        client.ask("AutoApproach.OnOffSet", on=0)
        assert client.ask("AutoApproach.OnOffGet") == {"on": 0}


def test_faults_count_on_all_ports_together(serve: Serve) -> None:
    server = serve([fault("error", "Bias.Get", nth=2)])
    with Client(server.ports[0]) as first, Client(server.ports[1]) as second:
        first.ask("Bias.Get")
        with pytest.raises(ErrorReply, match="injected fault"):
            second.ask("Bias.Get")


def test_faults_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("- {fault: late, command: Bias.Get, seconds: 2, nth: 3}\n")
    assert load_faults(path) == (fault("late", "Bias.Get", seconds=2, nth=3),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fault: late", "must hold a list"),
        ("- {fault: late, command: Bias.Gets}", "fault 1: there is no command 'Bias.Gets'"),
        ("- {fault: lost, command: Bias.Get}", "fault 1 fault = 'lost': Input should be 'split'"),
        ("- {fault: late, command: Bias.Get, nth: 0}", "nth = 0"),
        ("- {fault: late, command: Bias.Get, delay: 1}", "delay = 1.*allowed here are fault,"),
        ("- {fault: nan_frame, command: Bias.Get}", "belongs to Scan.FrameDataGrab"),
        ("- [", "is not YAML"),
    ],
)
def test_faults_that_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_faults(path)
    assert "\n" not in str(caught.value)


def test_no_faults_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_faults(tmp_path / "none.yaml")


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
