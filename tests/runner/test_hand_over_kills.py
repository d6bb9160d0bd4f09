"""A run on a controller that is killed at ten moments of handing its tip over."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from spm_gym.analysis.consistency import find_inconsistencies, scan_files
from spm_gym.assembly.run_directory import write_settings
from spm_gym.config import load_config
from spm_gym.config.yaml_file import as_yaml
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.instrument.nanonis.settings import Settings
from spm_gym.journal.reader import reading
from spm_gym.journal.run_lock import RunLocked, is_run_locked, locked_run
from spm_gym.runner.run_state import read_run_state
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.handing_over import STARTS
from tests.support.nanonis_lab import biased
from tests.support.waiting import PROGRAM_S, wait_until

ROOT = Path(__file__).parents[2]
PLACES = ("release:0", "release:2", "release:6", "release:11", "program",
          "retake:0", "retake:3", "retake:8", "retake:20", "end")  # fmt: skip


@pytest.fixture
def ports() -> Iterator[list[int]]:
    """A controller with an operator's bias and setpoint, the tip at the surface."""
    with VirtualNanonis(biased(bias=0.8), [0, 0, 0]) as server:
        yield list(server.ports)


def connected(ports: list[int]) -> Connection:
    """A connection of somebody else."""
    connection = Connection("127.0.0.1", ports[2])
    connection.connect()
    return connection


def operate(run: Path, place: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.handing_over", str(run), place]
    environment = {
        **os.environ,
        "PLACE": place,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PROGRAM_S,
        check=False,
    )  # fmt: skip


def test_a_run_that_is_killed_while_it_hands_the_tip_over(ports: list[int], tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    program = shlex.join([sys.executable, "-m", "tests.support.handing_over", "program"])
    settings = [f"real.nanonis.ports={ports[:2]}", "run.microscope=real", "operation.hand_overs=2",
                "real.imaging.bias_V=1.0", f"operation.when_good={as_yaml(program)}",
                "operation.learn=false"]  # fmt: skip
    config = load_config(None, settings)
    write_settings(run / "config.yaml", config)
    watching = connected(ports)
    before = asdict(Settings.read(watching))

    for place in PLACES:
        done = operate(run, place)
        assert done.returncode == -signal.SIGKILL, (place, done.stdout, done.stderr)
        # Wherever it was: at the surface, under feedback, at a bias and a current of imaging.
        assert watching.call("ZCtrl.OnOffGet")["on"] == 1, place
        assert (
            abs(watching.call("ZCtrl.ZPosGet")["z"])
            < 0.9 * watching.call("ZCtrl.LimitsGet")["high"]
        )
        assert 0.3 < watching.call("Bias.Get")["bias"] <= 1.0, place
        assert abs(watching.call("Current.Get")["current"]) < 1e-10, place
        if place == "program":
            # It is still at work, and nobody takes the tip from it.
            assert is_run_locked(run)
            owner = (run / STARTS).read_text().split()[-1]
            with pytest.raises(RunLocked, match=f"process {owner}"), locked_run(run):
                pass
            (run / "let go").touch()
            wait_until(lambda: not is_run_locked(run))

    done = operate(run, "none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2 programs have had the tip; tip withdrawn"
    assert asdict(Settings.read(watching)) == before
    assert watching.call("ZCtrl.OnOffGet")["on"] == 0
    watching.close()

    starts = len((run / STARTS).read_text().split())
    with reading(run) as db:
        acts = db.execute("SELECT number, result FROM acts WHERE act = 'hand over'").fetchall()
        assert not list(find_inconsistencies(run, db, read_run_state(db), scan_files(run)))
    results = [act["result"] for act in acts]
    assert results.count("unknown") == len(PLACES)
    assert results.count("done") == 2
    # Four of them were killed before the program was started; no act started it twice.
    assert starts == len(acts) - 4
    assert len({act["number"] for act in acts}) == len(acts)
