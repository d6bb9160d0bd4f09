"""Faults on demand: errors, broken connections, late and senseless replies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest

from spm_gym.config import ConfigError
from spm_gym.instrument.nanonis.wire import (
    ErrorReply,
    WireError,
)
from spm_gym.servers.nanonis.faults import Fault, load_faults
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.byte_client import Client, Serve, request
from tests.support.waiting import PATIENCE_S


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
