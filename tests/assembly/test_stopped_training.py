"""A training on a controller is asked to stop, and followed on the live page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest

from spm_gym.analysis.ending import RunEnd
from spm_gym.analysis.status import RunStatus, run_status
from spm_gym.analysis.summary import summarise
from spm_gym.cli import main, train
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.journal.reader import reading
from spm_gym.runner.control import Request, ask
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.controller_runs import is_safe, on
from tests.support.nanonis_lab import CALM
from tests.support.watching import watched

SMOKE = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")
RUN = Path("run")
TOKEN = "correct horse"

pytestmark = pytest.mark.usefixtures("fresh_folder")


class Interrupted(VirtualController):
    """Calls a function at the n-th command of a name; no wait for a scan is successful after that.

    Attributes:
        afterwards: Commands that were carried out after that.
    """

    def __init__(self, name: str, number: int, call: Callable[[], None]) -> None:
        super().__init__(SimulatedMicroscope(CALM, seed=2), time_scale=0)
        self._name, self._left, self._call = name, number, call
        self.afterwards: list[str] = []

    def execute(
        self, name: str, values: Mapping[str, Any], is_gone: Callable[[], bool] = lambda: False
    ) -> dict[str, Any]:
        if self._left > 0 and name == self._name:
            self._left -= 1
            if self._left == 0:
                self._call()
        elif self._left == 0:
            self.afterwards.append(f"{name} {values.get('action', '')}".strip())
        answer = super().execute(name, values, is_gone)
        if self._left == 0 and name == "Scan.WaitEndOfScan":
            return {**answer, "timed_out": True}
        return answer


def status() -> RunStatus:
    with reading(RUN) as db:
        return run_status(db, RUN)


def answer(address: str, request: str = "") -> str:
    """Ask the live page; refusals, too, are an answer."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    body = f"request={request}".encode() if request else None
    try:
        with urlopen(HttpRequest(address, body, headers)) as found:
            return str(found.read().decode())
    except HTTPError as error:
        with error:
            return error.read().decode()


def test_a_stop_in_the_middle_of_a_scan_ends_a_training() -> None:
    """The next command stops the scan; then come the withdrawal and the settings."""
    during: list[RunStatus] = []
    pages: list[str] = []

    def stop() -> None:
        during.append(status())
        with watched(RUN, TOKEN) as address:
            pages.append(answer(address))
            assert "can be stopped but not paused" in answer(f"{address}control", "pause")
            answer(f"{address}control", "stop")

    controller = Interrupted("Scan.WaitEndOfScan", 500, stop)
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        ports = list(server.ports)
        arguments = ["--env", "real", "--config", SMOKE, "--set", on(ports), "--run-dir", "run"]
        assert train.main([*arguments, "--steps", "500", "--reproducible"]) == 130
        afterwards = list(controller.afterwards)
        assert is_safe(ports)
    assert afterwards[0] == "Scan.Action 1"
    assert "Scan.Action 0" not in afterwards
    assert not {"TipShaper.Start", "Bias.Pulse"} & set(afterwards)
    [page] = pages
    assert 'value="stop"' in page
    assert 'value="pause"' not in page
    assert during[0].sentence in page
    assert during[0].sentence.startswith("Training: step ")
    assert " of 500, episode " in during[0].sentence
    summary = summarise(RUN)
    assert summary.consistent, summary.inconsistencies
    assert summary.ending_kind is RunEnd.STOPPED
    assert status().sentence == "Ended: asked to stop; tip withdrawn"
    assert status().why == "Go on with: python train.py --resume --run-dir run"
    finished = summary.actions["total"]
    kept = max(int(each.name.removeprefix("step_")) for each in Path("run/checkpoints").iterdir())
    assert kept in (finished, finished - 1)


def test_a_stop_during_the_first_approach_ends_a_training_that_can_go_on() -> None:
    controller = Interrupted("AutoApproach.OnOffSet", 1, lambda: ask(RUN, Request.STOP))
    controller.execute("ZCtrl.Withdraw", {"wait": 1, "timeout": -1})
    with VirtualNanonis(controller, ports=(0, 0)) as server:
        ports = list(server.ports)
        arguments = ["--env", "real", "--config", SMOKE, "--set", on(ports), "--run-dir", "run"]
        assert train.main([*arguments, "--steps", "3"]) == 130
        assert "Scan.Action 0" not in controller.afterwards
        assert is_safe(ports)
    assert status().sentence == "Ended: asked to stop; tip withdrawn"
    assert summarise(RUN).hours < 1
    another = VirtualController(SimulatedMicroscope(CALM, seed=2), time_scale=0)
    with VirtualNanonis(another, ports=(ports[0], ports[1])):
        assert train.main(["--resume", "--run-dir", "run"]) == 0
    summary = summarise(RUN)
    assert summary.consistent, summary.inconsistencies
    assert (summary.actions["total"], summary.sessions, summary.resumes) == (3, 2, 1)


def test_a_training_on_the_simulator_has_no_record_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train.main(["--config", SMOKE, "--steps", "2", "--run-dir", "run"]) == 0
    assert {each.name for each in RUN.iterdir()}.isdisjoint({"journal.sqlite", "scans", "control"})
    for command in ("monitor", "stop", "ask stop", "export --offline episodes"):
        name, *rest = command.split()
        assert (
            main([name, *(rest[:1] if name == "ask" else []), "run", *rest[name == "ask" :]]) == 2
        )
        assert "has no journal: training keeps one with --env real only" in capsys.readouterr().err
