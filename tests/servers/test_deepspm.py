from __future__ import annotations

import contextlib
import math
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spm_gym.config import EnvConfig, SimulatorConfig
from spm_gym.config.real import LimitsConfig
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import (
    BadReply,
    CommandFailed,
    ConnectionLost,
    ContactLost,
    InstrumentError,
    LimitExceeded,
    OutcomeUnknown,
    TimedOut,
    TipCrashed,
)
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.deepspm import protocol
from spm_gym.instrument.deepspm.client import DeepSPMInstrument
from spm_gym.instrument.deepspm.line import Timeouts
from spm_gym.instrument.deepspm.protocol import (
    Approach,
    GetParam,
    MoveArea,
    Request,
    ScanRequest,
    TipClean,
    TipShaping,
    format_request,
    parse_request,
)
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.deepspm import DeepSPMServer
from spm_gym.types import Dip, Direction, Frame, Pulse, Stall
from tests.support.waiting import PATIENCE_S

NM = 1e-9
QUIET = SimulatorConfig(contact_loss_rate=0, crash_rate=0, tip_change_rate=0)
FRAME = Frame(31.7e-9, -12.3e-9, 10e-9, 16)
HASTE = Timeouts(pause=0.05)
Z_RANGE = (-1e-7, 1e-7)

# What a scripted server does with a request: reply, hang up without a reply, or stay silent.
HANG_UP, SILENT = object(), object()
Answer = bytes | object


class ScriptedServer:
    """Writes down every request and answers from a list; counts the requests."""

    def __init__(self, *answers: Answer, piecewise: bool = False) -> None:
        self.received: list[bytes] = []
        self._answers = list(answers)
        self._piecewise = piecewise
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for connected in (self._listener, *self._clients):
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def connect(self, timeouts: Timeouts = HASTE, **options: Any) -> DeepSPMInstrument:
        host, port = self._listener.getsockname()
        options.setdefault("z_range", Z_RANGE)
        return DeepSPMInstrument(host, port, timeouts=timeouts, **options)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            with client, contextlib.suppress(ConnectionError):
                self._converse(client)

    def _converse(self, client: socket.socket) -> None:
        request = b""
        while data := client.recv(1):
            request += data
            if data != b")":
                continue
            self.received.append(request)
            request = b""
            answer = self._answers.pop(0) if self._answers else SILENT
            if answer is HANG_UP:
                return
            if isinstance(answer, bytes):
                self._send(client, answer)
                if self._piecewise:
                    return

    def _send(self, client: socket.socket, answer: bytes) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        step = 1 if self._piecewise else len(answer) or 1
        for start in range(0, len(answer), step):
            client.sendall(answer[start : start + step])


@contextlib.contextmanager
def driven(
    instrument: Instrument, **options: Any
) -> Iterator[tuple[DeepSPMInstrument, DeepSPMServer]]:
    with (
        DeepSPMServer(instrument, port=0, **options) as server,
        contextlib.closing(DeepSPMInstrument(*server.address, timeouts=HASTE)) as client,
    ):
        yield client, server


def image(rows: int, columns: int) -> bytes:
    heights = np.arange(rows * columns, dtype=">f4") * 1e-12
    return struct.pack(">ii", rows, columns) + heights.astype(">f4").tobytes()


def exactly(connected: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connected.recv(size - len(data))
        assert more, f"the connection ended after {len(data)} of {size} bytes"
        data += more
    return data


# Requests and replies, nothing sent.

positions = st.floats(-1e-6, 1e-6).map(lambda x: 0.0 if abs(x) < 1e-18 else x)
durations = st.floats(1e-6, 100)
words = st.text("abcXYZ019", max_size=8)
requests = st.one_of(
    st.builds(
        ScanRequest, positions, positions, st.floats(1e-12, 1e-6), pixels=st.integers(1, 4096)
    ),
    st.builds(TipShaping, positions, positions, positions, st.floats(-10, 10), durations).filter(
        lambda request: abs(request.bias) >= 1e-18 or request.bias == 0
    ),
    st.builds(TipClean, positions, positions),
    st.builds(GetParam, words),
    st.builds(Approach, words),
    st.builds(MoveArea, st.sampled_from(Direction)),
)


@given(requests)
@example(TipShaping(-0.0, 0.1e-9 + 0.2e-9, -1e-9 / 3, 1 / 3, 0.2))
def test_requests_survive_being_written_and_read_to_the_last_bit(request: Request) -> None:
    assert parse_request(format_request(request)) == request


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (ScanRequest(10.5e-9, -3e-9, 10e-9, 64), b"scan(10.5n,-3n,10n,64)"),
        (
            TipShaping(10.5e-9, -3e-9, -1.2e-9, 0.02, 0.2),
            b"tipshaping(10.5n,-3n,-1.2n,20m,200m)",
        ),
        (TipShaping(0, 0, 0, -8, 1.5), b"tipshaping(0n,0n,0,-8,1.5)"),
        (TipClean(150e-9, 0), b"tipclean(150n,0n)"),
        (GetParam("zRange"), b"getparam(zRange)"),
        (Approach(), b"approach(f)"),
        (MoveArea(Direction.Y_PLUS), b"movearea(y+)"),
    ],
)
def test_requests_on_the_wire(request_: Request, text: bytes) -> None:
    assert format_request(request_) == text


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        (b"scan(10.5n,-3.0n,10n ,64)", ScanRequest(10.5e-9, -3e-9, 10e-9, 64)),
        (b"tipshaping(1.0n,2n,0,2.5,200m)", TipShaping(1e-9, 2e-9, 0, 2.5, 0.2)),
        (b"tipshaping(1.0n,2n,-800p,20m,0.2)", TipShaping(1e-9, 2e-9, -0.8e-9, 0.02, 0.2)),
        (b"tipclean(1e-05n, 0.5u)\r\n", TipClean(1e-14, 0.5e-6)),
        (b" GetParam( Range )", GetParam("Range")),
        (b"movearea(Y+)", MoveArea(Direction.Y_PLUS)),
    ],
)
def test_requests_as_others_write_them(text: bytes, request_: Request) -> None:
    assert parse_request(text) == request_


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_numbers_that_cannot_be_sent(value: float) -> None:
    with pytest.raises(ValueError, match=r"finite|at most 1024"):
        format_request(TipShaping(value, value, value, value, value))


@given(
    st.one_of(
        st.binary(max_size=80),
        st.from_regex(rb"(scan|tipshaping|tipclean|getparam|movearea)\([-+0-9a-z.,e ]{0,60}\)"),
    )
)
@example(b"scan(1e999n,0,1n,64)")
@example(b"scan(0,0,1n,nan)")
@example(b"scan(0,0,10n,1e999)")
@example(b"tipshaping(0,0,inf,1,1)")
@example(b"tipshaping(0,0,-1n,1,0)")
@example(b"movearea(up)")
@example("scan(\u0661n,0,1n,64)".encode())
def test_any_bytes_are_a_request_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        parsed = parse_request(data)
        assert parse_request(format_request(parsed)) is not None


@given(st.binary(max_size=60))
def test_any_bytes_are_a_reply_or_a_value_error(data: bytes) -> None:
    parsers: list[Callable[[bytes], object]] = [
        protocol.parse_scan_shape,
        lambda reply: protocol.parse_scan_heights(reply, (2, 3)),
        lambda reply: protocol.parse_parameter(protocol.parse_text(reply), "Range"),
        lambda reply: protocol.parse_area_change(protocol.parse_text(reply)),
        lambda reply: protocol.parse_clean(protocol.parse_text(reply)),
    ]
    for parse in parsers:
        with contextlib.suppress(ValueError):
            parse(data)


def test_replies_survive_being_written_and_read() -> None:
    heights = np.random.default_rng(0).normal(0, 1e-10, (3, 5)).astype(np.float32)
    data = protocol.format_scan(heights)
    shape = protocol.parse_scan_shape(data[:8])
    assert np.array_equal(protocol.parse_scan_heights(data[8:], shape), heights)
    assert protocol.parse_area_change(protocol.format_area_change(3).decode()) == 3
    reply = protocol.format_parameter("zRange", 1 / 3).decode()
    assert protocol.parse_parameter(reply, "zRange") == 1 / 3


@pytest.mark.parametrize("reply", ["done", "1.234e-10", "1 no error", "changed with 2 crashes"])
def test_replies_of_success(reply: str) -> None:
    assert not protocol.is_failure(reply)


# Client and server around the simulator.


def test_a_scan_through_tcp_is_the_scan() -> None:
    expected = SimulatedMicroscope(QUIET, seed=5).scan(FRAME)
    with driven(SimulatedMicroscope(QUIET, seed=5)) as (client, _):
        scan = client.scan(FRAME)
    assert scan.z.dtype == np.float32
    assert np.array_equal(scan.z, expected.z)
    assert scan.z_range == pytest.approx(expected.z_range)


def test_another_seed_is_another_scan() -> None:
    with driven(SimulatedMicroscope(QUIET, seed=6)) as (client, _):
        assert not np.array_equal(
            client.scan(FRAME).z, SimulatedMicroscope(QUIET, seed=5).scan(FRAME).z
        )


def test_a_partial_scan_is_a_whole_one_without_its_lower_lines() -> None:
    whole = SimulatedMicroscope(QUIET, seed=5).scan(FRAME).z
    with driven(SimulatedMicroscope(QUIET, seed=5)) as (client, _):
        part = client.scan(FRAME, 0.25).z
    assert np.array_equal(part[:4], whole[:4])
    assert np.isnan(part[4:]).all()


@pytest.mark.parametrize("action", [Pulse(-4.0), Dip(1.2 * NM), Dip(5 * NM, 0.02, 0.3)])
def test_actions_arrive_as_they_were_sent(action: Pulse | Dip) -> None:
    class Recorder(SimulatedMicroscope):
        def condition(self, action: Any, x: float, y: float) -> None:
            acts.append((action, x, y))

    acts: list[object] = []
    with driven(Recorder(QUIET)) as (client, _):
        client.condition(Stall(), 0, 0)
        client.condition(action, 1 / 3 * NM, -100.1 * NM)
    assert acts == [(action, 1 / 3 * NM, -100.1 * NM)]


def rollout(instrument: Instrument, steps: int) -> list[Any]:
    """Observations, rewards and ends of random actions; every fourth image is classified good."""
    count = iter(range(1000))

    def classifier(images: np.ndarray) -> np.ndarray:
        return np.full(len(images), next(count) % 4 == 3, np.float32)

    config = EnvConfig(settle_fraction=0.0, damage_actions=1)
    env = ProbeConditioningEnv(instrument, classifier, config)
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=1)
    history: list[Any] = [observation.tobytes()]
    for _ in range(steps):
        # Action 0 is the stall, of which the protocol knows nothing; the simulator's draws numbers.
        action = rng.choice(np.flatnonzero(env.action_masks()[1:])) + 1
        observation, reward, terminated, truncated, info = env.step(action)
        history.append((observation.tobytes(), reward, terminated, truncated, info["action"]))
        if terminated:
            env.reset()
    return history


def test_episodes_of_the_environment_are_those_without_tcp() -> None:
    # Behind a guard the simulator cannot be restarted, as the client cannot.
    expected = rollout(Guard(SimulatedMicroscope(QUIET, seed=2), LimitsConfig()), 7)
    with driven(SimulatedMicroscope(QUIET, seed=2)) as (client, _):
        history = rollout(client, 7)
    assert history == expected
    assert any(step[2] for step in history[1:]), "no episode ended"


def test_status_says_what_it_knows_and_no_more() -> None:
    with driven(SimulatedMicroscope(QUIET)) as (client, _):
        before = client.status()
        client.scan(FRAME)
        after = client.status()
        client.move_area(Direction.X_MINUS)
        moved = client.status()
    assert all(math.isnan(value) for value in (before.x, before.y, before.z, before.current))
    assert not before.approached
    assert (after.x, after.y, after.approached) == (FRAME.x, FRAME.y, True)
    assert math.isnan(after.current)
    assert math.isnan(after.bias)
    assert "current" in after.details["unknown"]
    assert (moved.x, moved.y) == (0, 0)
    assert math.isnan(moved.z)


def test_the_microscope_is_moved_and_cleaned() -> None:
    microscope = SimulatedMicroscope(QUIET)
    with driven(microscope, area=400 * NM) as (client, _):
        here = client.scan(FRAME).z
        client.move_area(Direction.Y_PLUS)
        assert not np.array_equal(client.scan(FRAME).z, here)
        microscope.inject("lost contact")
        client.approach()
        assert microscope.fault == ""
        microscope.inject("crash")
        assert client.clean_tip(0.0, 0.0)
        assert microscope.fault == ""
        assert client.area_side() == 400 * NM


def test_errors_of_the_instrument_keep_their_kind() -> None:
    microscope = SimulatedMicroscope(QUIET)
    with driven(microscope) as (client, _):
        with pytest.raises(LimitExceeded, match="position"):
            client.condition(Pulse(4.0), 1e-6, 0)
        with pytest.raises(LimitExceeded, match="pixels"):
            client.scan(Frame(0, 0, 10 * NM, 2048))
        microscope.inject("crash")
        with pytest.raises(TipCrashed):
            client.condition(Pulse(4.0), 0, 0)
        microscope.withdraw()
        with pytest.raises(ContactLost, match="approach first"):
            client.scan(FRAME)
        client.approach()
        assert client.scan(FRAME).z.shape == (16, 16), "the connection is as good as before"


def test_withdrawing_is_refused_and_closing_is_not() -> None:
    with driven(SimulatedMicroscope(QUIET)) as (client, _):
        with pytest.raises(CommandFailed, match="by hand"):
            client.withdraw()
        client.close()
        client.close()
        with pytest.raises(ConnectionLost, match="nothing was sent"):
            client.scan(FRAME)
        client.reconnect()
        client.reconnect()
        assert np.isfinite(client.scan(FRAME).z).all()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ConnectionLost, match="does the LabVIEW server run"):
        DeepSPMInstrument(port=port)


def test_the_server_takes_one_client_after_the_other() -> None:
    with (
        driven(SimulatedMicroscope(QUIET)) as (first, server),
        contextlib.closing(DeepSPMInstrument(*server.address, timeouts=HASTE)) as second,
    ):
        first.scan(FRAME)
        first.close()
        assert second.scan(FRAME).z.shape == (16, 16)


def test_a_server_can_be_closed_at_any_time() -> None:
    DeepSPMServer(SimulatedMicroscope(QUIET), port=0).close()
    with driven(SimulatedMicroscope(QUIET)) as (client, server):
        client.scan(FRAME)
        server.close()
        server.close()
        server.wait()
        with pytest.raises(ConnectionLost):
            client.scan(FRAME)


# A client that talks like the original: no terminators, and one recv for a reply in words.


class OriginalClient:
    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, PATIENCE_S)

    def __enter__(self) -> OriginalClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def words(self, request: bytes, most: int = 30) -> str:
        self._socket.sendall(request)
        return self._socket.recv(most).decode()

    def image(self, request: bytes) -> np.ndarray:
        self._socket.sendall(request)
        rows, columns = struct.unpack(">ii", exactly(self._socket, 8))
        data = exactly(self._socket, rows * columns * 4)
        return np.frombuffer(data, ">f4").reshape(rows, columns)


def test_the_original_agent_finds_its_microscope() -> None:
    microscope = SimulatedMicroscope(QUIET, seed=3)
    with DeepSPMServer(microscope, port=0) as server, OriginalClient(server.address) as original:
        assert float(original.words(b"getparam(Range)").split(":")[1]) == 850e-9
        lowest = -float(original.words(b"getparam(zRange)").split(":")[1]) / 2
        assert lowest == pytest.approx(microscope.z_range[0])
        z = original.image(b"scan(10.5n,-3.0n,10n ,64)")
        assert z.shape == (64, 64)
        assert 1e-25 < z.max() - z.min() < 5e-9
        assert abs(z.mean() - lowest) > 3e-10
        assert original.words(b"tipshaping(10.5n,-3.0n,-1.2n,20m,200m)") == "done"
        reply = original.words(b"movearea(y+)", 64)
        assert int(reply.split("with ")[1].split(" crash")[0]) == 0

        microscope.inject("lost contact")
        assert abs(original.image(b"scan(0.0n,0.0n,10n ,64)").mean() - lowest) < 3e-10
        original.words(b"approach(f)", 64)
        assert abs(original.image(b"scan(0.0n,0.0n,10n ,64)").mean() - lowest) > 3e-10

        microscope.inject("crash")
        z = original.image(b"scan(0.0n,0.0n,10n ,64)")
        assert z.max() - z.min() < 1e-25
        assert z.mean() > 0
        assert int(original.words(b"tipclean(150.0n,0.0n)")) == 1
        z = original.image(b"scan(0.0n,0.0n,10n ,64)")
        assert z.max() - z.min() > 1e-25


@pytest.mark.parametrize(
    "request_",
    [
        b"hello(world)",
        b"scan(1,2)",
        b"scan(0n,0n,10n,100000)",
        b"scan(9u,0n,10n,64)",
        b"tipshaping(0n,0n,0,nan,200m)",
        b"tipshaping(0n,0n,0,9.5,200m)",
        b"tipshaping(0n,0n,1n,20m,200m)",
        b"tipshaping(0n,0n,-50n,20m,200m)",
        b"tipclean(x,y)",
        b"getparam(Colour)",
        b"movearea(sideways)",
        b"\xff\xfe\x00)",
    ],
)
def test_a_refused_request_is_answered_in_words_and_the_next_one_served(request_: bytes) -> None:
    microscope = SimulatedMicroscope(QUIET)
    with DeepSPMServer(microscope, port=0) as server, OriginalClient(server.address) as original:
        reply = original.words(request_, 1000)
        assert reply.startswith("error: ")
        assert protocol.is_failure(reply)
        with pytest.raises((ValueError, IndexError)):
            float(reply.split(":")[1])
        with pytest.raises((ValueError, IndexError)):
            int(reply.split("with ")[1].split(" crash")[0])
        assert original.image(b"scan(0n,0n,10n,8)").shape == (8, 8)


def test_requests_arrive_in_pieces_and_in_bunches() -> None:
    with (
        DeepSPMServer(SimulatedMicroscope(QUIET), port=0) as server,
        socket.create_connection(server.address, PATIENCE_S) as client,
    ):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"getparam(Range)":
            client.sendall(bytes([byte]))
        assert client.recv(30) == b"Range:8.5e-07"
        client.sendall(b"tipclean(0n,0n)\r\napproach(f)\r\n")
        assert exactly(client, 11) == b"1approached"


def test_a_request_without_end_ends_the_connection() -> None:
    with (
        DeepSPMServer(SimulatedMicroscope(QUIET), port=0) as server,
        socket.create_connection(server.address, PATIENCE_S) as client,
    ):
        client.sendall(b"s" * 1025)
        assert client.recv(30) == b""
        with OriginalClient(server.address) as original:
            assert original.words(b"getparam(Range)") == "Range:8.5e-07"


# Lost, late, split and senseless replies.

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


def test_an_executed_tip_shaping_whose_reply_is_lost_was_executed_once() -> None:
    class Microscope(SimulatedMicroscope):
        def condition(self, action: Any, x: float, y: float) -> None:
            super().condition(action, x, y)
            done.append(action)
            raise ConnectionAbortedError("the reply is lost")

    done: list[object] = []
    with driven(Microscope(QUIET)) as (client, _):
        env = ProbeConditioningEnv(
            client, lambda images: np.zeros(len(images), np.float32), EnvConfig(damage=False)
        )
        env.reset(seed=0)
        _, _, _, _, info = env.step(1)
    assert done == [Pulse(2.5)]
    assert any("outcome unknown" in event for event in info["events"])


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
