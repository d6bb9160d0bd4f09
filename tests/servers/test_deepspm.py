"""The DeepSPM server: a microscope through TCP, and the original client."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
from typing import Any

import numpy as np
import pytest

from spm_gym.config import EnvConfig, SimulatorConfig
from spm_gym.config.real import LimitsConfig
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import (
    CommandFailed,
    ConnectionLost,
    ContactLost,
    LimitExceeded,
    TipCrashed,
)
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.deepspm import protocol
from spm_gym.instrument.deepspm.client import DeepSPMInstrument
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.deepspm import DeepSPMServer
from spm_gym.types import Dip, Direction, Frame, Pulse, Stall
from tests.support.scripted_deepspm import HASTE, driven, exactly
from tests.support.waiting import PATIENCE_S

NM = 1e-9
QUIET = SimulatorConfig(contact_loss_rate=0, crash_rate=0, tip_change_rate=0)
FRAME = Frame(31.7e-9, -12.3e-9, 10e-9, 16)


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
