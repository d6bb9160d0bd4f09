"""The vendor's package gets the same answers from a log as from the controller of the log."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from spm_gym.instrument.nanonis.command_log import SERVER, commands_logged
from spm_gym.servers.nanonis import VirtualController, VirtualNanonis
from spm_gym.servers.nanonis.conversation import Answering
from spm_gym.servers.nanonis.recording import read_log
from spm_gym.servers.nanonis.replay import Replay
from tests.conformance.conversation import BIAS, CURRENT, HOST, Z

nanonis_spm = pytest.importorskip("nanonis_spm", reason="nanonis-spm is not installed")

SESSION: list[tuple[str, tuple[Any, ...]]] = [
    ("Signals_NamesGet", ()),
    ("Bias_Get", ()),
    ("Bias_Set", (0.5,)),
    ("Bias_Get", ()),
    ("Signals_ValsGet", ([CURRENT, BIAS, Z], 1)),
    ("Scan_BufferSet", ([CURRENT, Z], 32, 32)),
    ("Scan_FrameSet", (2e-8, 1e-8, 1e-8, 1e-8, 0.0)),
    ("Scan_Action", (0, 0)),
    ("Scan_WaitEndOfScan", (-1,)),
    ("Scan_FrameDataGrab", (Z, 1)),
    ("Bias_Pulse", (1, 0.1, -4.0, 0, 2)),
    ("Scan_Action", (0, 0)),
    ("Scan_WaitEndOfScan", (-1,)),
    ("Scan_FrameDataGrab", (Z, 1)),
    ("ZCtrl_ZPosGet", ()),
    ("LockIn_DemodHarmonicGet", (99,)),
    ("Current_GainsGet", ()),
]


def answers(controller: Answering) -> list[Any]:
    """Error and body of every answer that the package gets in a session."""
    with (
        VirtualNanonis(controller, (0,), HOST) as server,
        socket.create_connection((HOST, server.ports[0]), 60) as connection,
    ):
        nanonis = nanonis_spm.Nanonis(connection)
        return [getattr(nanonis, name)(*arguments)[:2] for name, arguments in SESSION]


def test_a_replay_gives_the_same_answers(controller: VirtualController, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with commands_logged(SERVER, log, "virtual-nanonis", HOST, pytest.fail):
        lived = answers(controller)
    replay = Replay(read_log([log]).exchanges, pytest.fail)
    assert answers(replay) == lived
    assert lived[9] != lived[13]
    assert [bool(error) for error, _ in lived].index(True) == 15
    count = len(SESSION)
    assert replay.report() == (
        f"answered {count} exactly, 0 again, 0 by name, 0 not at all; of {count} commands in the "
        f"log {count} were given"
    )
