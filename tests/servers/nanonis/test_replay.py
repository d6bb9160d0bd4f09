"""A replay answers as the controller of the log has done, and counts where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from spm_gym.errors import CommandFailed, ConnectionLost
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.instrument.nanonis.exchange import Exchange
from spm_gym.servers.nanonis.bench import ClientGone
from spm_gym.servers.nanonis.replay import Replay
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.byte_client import Client, request
from tests.support.recordings import exchange
from tests.support.waiting import PATIENCE_S


def bias(value: float) -> Exchange:
    return exchange("Bias.Get", {}, {"bias": value})


def signal(index: int, value: float) -> Exchange:
    return exchange("Signals.ValGet", {"signal_index": index, "newest": 0}, {"value": value})


def waited(timeout: int, timed_out: int) -> Exchange:
    values = {"timed_out": timed_out, "path": ""}
    return exchange("Scan.WaitEndOfScan", {"timeout": timeout}, values)


@contextmanager
def replaying(*log: Exchange) -> Iterator[tuple[Connection, Replay, list[str]]]:
    told: list[str] = []
    replay = Replay(log, told.append)
    with VirtualNanonis(replay, ports=(0,)) as server:
        connection = Connection("127.0.0.1", server.ports[0], timeout=PATIENCE_S)
        connection.connect()
        yield connection, replay, told
        connection.close()


def test_the_same_requests_get_the_same_answers_in_order_and_a_get_the_last_one_again() -> None:
    with replaying(bias(1.0), signal(0, 7.0), bias(2.0), signal(30, 8.0)) as (it, replay, told):
        values = [it.call("Bias.Get")["bias"] for _ in range(4)]
        assert it.call("Signals.ValGet", signal_index=30, newest=0) == {"value": 8.0}
        assert it.call("Signals.ValGet", signal_index=0, newest=0) == {"value": 7.0}
        # Rather an old value of this signal than one of another.
        assert it.call("Signals.ValGet", signal_index=0, newest=0) == {"value": 7.0}
    assert values == [1.0, 2.0, 2.0, 2.0]
    assert told == []
    assert replay.report() == (
        "answered 4 exactly, 3 again, 0 by name, 0 not at all; of 4 commands in the log 4 were "
        "given"
    )


def test_other_arguments_get_the_next_answer_to_the_command() -> None:
    log = [waited(2000, 1), waited(1500, 0), waited(2000, 1)]
    with replaying(*log) as (it, replay, told):
        found = [
            it.call("Scan.WaitEndOfScan", timeout=timeout)["timed_out"]
            for timeout in (2000, 1800, 1800, 1800)
        ]
    # However often a program asks whether the scan has ended, it is not told of an error.
    assert found == [1, 0, 1, 1]
    assert told == []
    assert "1 exactly, 1 again, 2 by name (Scan.WaitEndOfScan 2)" in replay.report()


def test_an_act_that_is_not_in_the_log_is_an_error() -> None:
    pulse = {"wait": 1, "width": 0.1, "bias": 3.0, "z_control": 1, "mode": 2}
    with replaying(exchange("Bias.Pulse", pulse, {}), bias(1.0)) as (it, replay, told):
        it.call("Bias.Pulse", **pulse)
        for _ in range(2):
            with pytest.raises(CommandFailed, match=r"Bias.Pulse is not in the log, or not so"):
                it.call("Bias.Pulse", **pulse)
        with pytest.raises(CommandFailed, match=r"ZCtrl.ZPosGet is not in the log"):
            it.call("ZCtrl.ZPosGet")
        assert it.call("Bias.Get") == {"bias": 1.0}
    assert told == ["not in the log: Bias.Pulse"] * 2 + ["not in the log: ZCtrl.ZPosGet"]
    assert "3 not at all (Bias.Pulse 2, ZCtrl.ZPosGet 1)" in replay.report()


def test_where_the_controller_did_not_answer_the_connection_ends() -> None:
    with replaying(exchange("Bias.Get", {}, None), bias(2.0)) as (it, _, told):
        with pytest.raises(ConnectionLost):
            it.call("Bias.Get")
        it.connect()
        with pytest.raises(ClientGone, match="has not answered"):
            Replay([exchange("Bias.Get", {}, None)], told.append).reply("Bias.Get", b"", bool)
        assert [it.call("Bias.Get")["bias"] for _ in range(2)] == [2.0, 2.0]


def properties(comment: str) -> dict[str, Any]:
    values = {"continuous": 2, "bouncy": 2, "autosave": 2, "series_name": "scan"}
    return {**values, "comment": comment, "module_names": [], "autopaste": 2}


def got(comment: str) -> Exchange:
    more = {"parameters_per_module": [], "parameters": []}
    return exchange("Scan.PropsGet", {}, {**properties(comment), **more})


def test_a_program_gets_its_own_words_back() -> None:
    """Else a run would find the mark of the recorded one, and refuse the controller."""
    log = [
        got("gold"),
        exchange("Scan.PropsSet", properties("gold, run of May"), {}),
        got("gold, run of May"),
        got("gold"),
    ]
    with replaying(*log) as (it, _, _):
        assert it.call("Scan.PropsGet")["comment"] == "gold"
        it.call("Scan.PropsSet", **properties("gold, run of June"))
        found = [it.call("Scan.PropsGet") for _ in range(2)]
    assert [each["comment"] for each in found] == ["gold, run of June", "gold"]
    assert found[0]["series_name"] == "scan"


def test_requests_of_any_kind_get_an_answer_or_none_if_none_is_asked_for() -> None:
    replay = Replay([bias(1.0)], lambda text: None)
    with VirtualNanonis(replay, ports=(0,)) as server, Client(server.ports[0]) as client:
        client.send(request("No.Such", b"\1\2\3"))
        assert b"No.Such is not in the log" in client.reply()
        client.send(request("Bias.Get", flag=0))
        client.send(request("Bias.Get", b"more"))
        assert b"Bias.Get is not in the log" in client.reply()
