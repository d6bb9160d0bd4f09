"""Logs of the commands of whole runs: both sides keep the same one, and it replays the run."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from spm_gym.assembly.simulator import virtual_controller
from spm_gym.cli import evaluate, main, train
from spm_gym.config import load_config
from spm_gym.instrument.nanonis.command_log import SERVER, commands_logged
from spm_gym.instrument.nanonis.exchange import Exchange
from spm_gym.journal.reader import reading
from spm_gym.journal.writer import Journal
from spm_gym.servers.nanonis.conversation import Answering
from spm_gym.servers.nanonis.recording import read_log
from spm_gym.servers.nanonis.replay import Replay
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.waiting import wait_until

WORLD = ["simulator.tip_change_rate=0.1"]
QUICK = ["env.creep_wait_s=0", "operation.confirm_s=0", "operation.policy=random"]
SURVEY = "operation.conditioning=false"
"""Needs no classifier, which takes seconds to load."""

READY = "virtual Nanonis R14718 on 127.0.0.1 ports "

pytestmark = pytest.mark.usefixtures("fresh_folder")


@contextmanager
def served(controller: Answering, log: str = "server.jsonl") -> Iterator[tuple[int, ...]]:
    with (
        commands_logged(SERVER, Path(log), "virtual-nanonis", "127.0.0.1:0", pytest.fail),
        VirtualNanonis(controller, (0, 0)) as server,
    ):
        yield server.ports


def simulated() -> Answering:
    return virtual_controller(load_config(None, WORLD), 3, time_scale=0)


def run_command(ports: tuple[int, ...], folder: str, scans: int) -> list[str]:
    return ["run", "--env", "real", "--scans", str(scans), "--run-dir", folder,
            "--set", f"real.nanonis.ports={list(ports)}", *QUICK]  # fmt: skip


def exchanges(log: str) -> list[Exchange]:
    return list(read_log([Path(log)]).exchanges)


def told(log: str) -> list[tuple[str, bytes, bytes | None]]:
    """Commands with bodies and answers, in the order in which they were sent."""
    # Each port has its own thread, which may write a moment after the next has been asked.
    return [
        (each.command, each.request, each.answer)
        for each in sorted(exchanges(log), key=lambda each: each.time)
    ]


def images(folder: str) -> list[np.ndarray]:
    with reading(Path(folder)) as db:
        numbers = [int(row[0]) for row in db.execute("SELECT id FROM scans ORDER BY id")]
    with Journal(Path(folder), references=None) as journal:
        return [journal.scan(number).z for number in numbers]


@pytest.mark.slow
def test_both_sides_keep_the_same_log_and_it_replays_check_and_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with served(simulated()) as ports:
        assert main([*run_command(ports, "run", 4), "--log-commands"]) == 0
    assert told("run/commands.jsonl") == told("server.jsonl")
    capsys.readouterr()
    with replayed_by_command("run/commands.jsonl") as (ports, printed):
        assert main(["check", "--set", f"real.nanonis.ports={list(ports)}", *QUICK]) == 0
        assert "ready; nothing was moved or changed" in capsys.readouterr().out
    assert "0 by name, 0 not at all; of " in printed[-1]
    for log in ("run/commands.jsonl", "server.jsonl"):
        replay = Replay(exchanges(log), pytest.fail)
        folder = f"again_{log[:3]}"
        with served(replay, f"{folder}.jsonl") as ports:
            assert main(run_command(ports, folder, 4)) == 0
        again, before = images(folder), images("run")
        assert len(again) == len(before) >= 4
        assert np.array_equal(again, before, equal_nan=True)
        assert not np.array_equal(before[0], before[1])
        # The mark in the comment of the scans names the run's own folder.
        assert "0 again, 1 by name (Scan.PropsSet 1), 0 not at all" in replay.report()


@contextmanager
def replayed_by_command(log: str) -> Iterator[tuple[tuple[int, ...], list[str]]]:
    """Serve a log by the command line; gives the ports, and at the end what was printed."""
    command = [sys.executable, "-m", "spm_gym", "virtual-nanonis", "--ports", "0", "0",
               "--replay", log]  # fmt: skip
    printed: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            ready = process.stdout.readline()
            assert ready.startswith(READY)
            assert "commands recorded by the client" in ready
            numbers = ready.removeprefix(READY).partition(",")[0].split()
            yield tuple(int(number) for number in numbers), printed
        finally:
            process.send_signal(signal.SIGTERM)
            printed += process.communicate()[0].splitlines()


@pytest.mark.slow
def test_a_run_that_was_killed_leaves_a_log_that_replays(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with served(simulated()) as ports:
        command = [sys.executable, "-m", "spm_gym", *run_command(ports, "run", 1000), SURVEY]
        with subprocess.Popen(
            [*command, "--log-commands"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            log = Path("run/commands.jsonl")
            wait_until(lambda: log.is_file() and log.read_bytes().count(b"\n") > 300)
            process.kill()
    recorded, really = told(str(log)), told("server.jsonl")
    assert len(recorded) >= 290
    assert recorded == really[: len(recorded)]
    with served(Replay(exchanges(str(log)), pytest.fail), "again.jsonl") as ports:
        assert main(["check", "--set", f"real.nanonis.ports={list(ports)}", *QUICK, SURVEY]) == 0
    assert "ready" in capsys.readouterr().out


def test_a_full_disk_costs_the_log_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with served(simulated()) as ports:
        assert main([*run_command(ports, "run", 1), SURVEY, "--log-commands", "/dev/full"]) == 0
    out = capsys.readouterr().out
    assert out.count("the log of commands /dev/full ends here: [Errno 28] No space left") == 1
    assert "tip withdrawn, settings restored" in out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["run"], "--log-commands goes with --env real"),
        (["train"], "--log-commands goes with --env real"),
        (["train", "classifier"], "--log-commands belongs to training an agent"),
        (["train", "--env", "real", "--dry-run"], "--log-commands with --dry-run: nothing is sent"),
        (["evaluate", "--policies", "random"], "--log-commands goes with --env real"),
        (["check", "--set", "real.driver=deepspm"],
         "--log-commands: deepspm keeps no log of its commands"),
        (["run", "--set", "run.microscope=real", "real.driver=deepspm"],
         "--log-commands: deepspm keeps no log of its commands"),
    ],
)  # fmt: skip
def test_it_is_refused_where_there_is_nothing_to_log(
    capsys: pytest.CaptureFixture[str], command: list[str], words: str
) -> None:
    entry = {"train": train.main, "evaluate": evaluate.main}.get(command[0], main)
    arguments = command if entry is main else command[1:]
    assert entry([*arguments, "--log-commands"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1
    assert list(Path().iterdir()) == []
