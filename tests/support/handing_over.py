"""A run on a controller that hands its tip over and kills itself at a chosen moment of that.

    python -m tests.support.handing_over RUN PLACE

RUN has its settings, the last program of which is this module with the word "program". PLACE is
"release:N", before the N-th command of giving the controller back; "program", which then kills the
run and goes on by itself; "retake:N"; or "end", before the result is recorded. "none" lets it live.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from spm_gym.assembly.drivers import connect_microscope
from spm_gym.assembly.recording import session_record
from spm_gym.config import load_config
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.instrument.driver import SETTINGS_BEFORE, DriverContext
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.journal.run_lock import locked_run
from spm_gym.journal.writer import Journal
from spm_gym.runner.clock import steady_clock
from spm_gym.runner.context import RunnerHooks
from spm_gym.runner.run_state import RunState
from spm_gym.runner.runner import Runner
from tests.support.scripted_runs import FirstAllowed, Verdicts

STARTS = "starts"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def operate(run: Path, place: str) -> None:
    phase, _, number = place.partition(":")
    now = {"phase": ""}
    calls = {"release": itertools.count(), "retake": itertools.count()}

    def call(self: Connection, name: str, **values: Any) -> Any:
        if now["phase"] == "release" and (run / STARTS).exists() and _starts(run) > began:
            now["phase"] = "retake"
        if now["phase"] == phase in calls and next(calls[phase]) == int(number):
            die()
        return original(self, name, **values)

    original, Connection.call = Connection.call, call  # type: ignore[method-assign, assignment]
    config = load_config(run / "config.yaml")
    with locked_run(run), Journal(run, RunState.references) as journal:
        began = _starts(run)
        journal.begin_session(session_record(config, None, resumed=began > 0), os.getpid())

        def record(entry: dict[str, Any]) -> None:
            if entry["act"] == "hand over" and entry["result"] != "intended" and place == "end":
                die()
            journal.record_act(entry)
            if entry["act"] == "hand over":
                now["phase"] = "release" if entry["result"] == "intended" else ""

        context = DriverContext(run / SETTINGS_BEFORE, lambda text: None, lambda text: None)
        guard = connect_microscope(config, context, record, journal.acts())
        try:
            env = ProbeConditioningEnv(guard, Verdicts(1.0), config.env)
            hooks = RunnerHooks(steady_clock())
            outcome = Runner(env, config.operation, journal, FirstAllowed(), hooks).run()
        finally:
            guard.close()
        print(outcome.ending, outcome.where, sep="; ")


def _starts(run: Path) -> int:
    return len((run / STARTS).read_text().split()) if (run / STARTS).exists() else 0


def program(place: str) -> None:
    """Take a spectrum by the lab's own means, with the tip that was handed over."""
    run = Path(os.environ["SPM_GYM_RUN_DIR"])
    own = load_config(run / "config.yaml").real.nanonis
    with (run / STARTS).open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    if place == "program":
        os.kill(os.getppid(), signal.SIGKILL)
    connection = Connection(own.host, own.ports[0])
    connection.connect()
    assert connection.call("ZCtrl.OnOffGet")["on"] == 1, "the tip is not in contact"
    connection.call("FolMe.XYPosSet", takes=60, x=float(os.environ["SPM_GYM_X_M"]),
                    y=float(os.environ["SPM_GYM_Y_M"]), wait=1)  # fmt: skip
    connection.call("BiasSpectr.Open")
    swept = connection.call("BiasSpectr.Start", takes=60, get_data=1, save_basename="")
    assert swept["data"].shape[1] > 10
    # It leaves its own bias and frame behind.
    connection.call("Bias.Set", bias=0.4)
    connection.call("Scan.FrameSet", centre_x=1e-8, centre_y=0.0, width=5e-8, height=5e-8, angle=0)
    if place == "program":
        while not (run / "let go").exists():  # until the test has looked
            time.sleep(0.02)
    connection.close()


if __name__ == "__main__":
    if sys.argv[1] == "program":
        program(os.environ["PLACE"])
    else:
        operate(Path(sys.argv[1]), sys.argv[2])
