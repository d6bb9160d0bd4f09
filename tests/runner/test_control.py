"""Requests through a run directory, and who is obeyed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from spm_gym.assembly.run_directory import write_settings
from spm_gym.cli import main
from spm_gym.config import Config
from spm_gym.errors import Aborted, CommandFailed
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.journal.reader import JournalError, reading
from spm_gym.journal.run_lock import is_run_locked, locked_run
from spm_gym.journal.writer import Journal
from spm_gym.runner.control import (
    CONTROL,
    INTERRUPTING,
    PROTECTION,
    Control,
    Request,
    WrongToken,
    ask,
    asked_of,
)
from spm_gym.runner.run_state import RunState, read_run_state
from spm_gym.runner.states import TRANSITIONS, State, touches_instrument
from spm_gym.types import Frame, Scan
from tests.support.scripted_runs import Lab, Verdicts, lab
from tests.support.virtual import virtual_nanonis
from tests.support.waiting import PATIENCE_S, wait_until

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("token", [None, "secret"])
@pytest.mark.parametrize("request_", [*Request])
def test_a_request_arrives(tmp_path: Path, token: str | None, request_: Request) -> None:
    control = Control(tmp_path, token)
    assert control.asked() is None
    ask(tmp_path, request_, token)
    assert control.asked() is request_
    assert asked_of(tmp_path, token) == request_
    assert (control.asked() in INTERRUPTING) is (request_ is not Request.RESUME)


def test_a_run_without_a_token_takes_what_anybody_writes(tmp_path: Path) -> None:
    control = Control(tmp_path)
    (tmp_path / CONTROL).write_text("pause")
    assert control.asked() is Request.PAUSE
    (tmp_path / CONTROL).write_text("halt!")
    assert control.asked() is Request.STOP
    ask(tmp_path, Request.RESUME, "a token that nobody asked for")
    assert control.asked() is Request.RESUME


def test_a_run_with_a_token_takes_nothing_from_who_does_not_know_it(tmp_path: Path) -> None:
    control = Control(tmp_path, "secret")
    with pytest.raises(WrongToken, match="give it with --token"):
        ask(tmp_path, Request.STOP)
    with pytest.raises(WrongToken, match="not the token"):
        ask(tmp_path, Request.STOP, "Secret")
    for forged in ("stop", "stop " + "0" * 64, "nonsense", "stop é"):
        (tmp_path / CONTROL).write_text(forged, encoding="utf-8")
        assert control.asked() is None
    ask(tmp_path, Request.PAUSE, "secret")
    pause = (tmp_path / CONTROL).read_text()
    assert control.asked() is Request.PAUSE
    (tmp_path / CONTROL).write_text(pause.replace("pause", "stop"))
    assert control.asked() is Request.PAUSE, "the proof of one request is none of another"
    ask(tmp_path, Request.RESUME, "secret")
    assert control.asked() is Request.RESUME
    (tmp_path / CONTROL).write_text(pause)
    assert control.asked() is Request.RESUME, "nor can it be used again"
    ask(tmp_path, Request.STOP, "secret")
    assert control.asked() is Request.STOP


def test_a_forged_request_is_not_shown_as_one(tmp_path: Path) -> None:
    Control(tmp_path, "secret")
    (tmp_path / CONTROL).write_text("stop\n")
    assert asked_of(tmp_path, "secret") == asked_of(tmp_path) == ""
    ask(tmp_path, Request.PAUSE, "secret")
    assert asked_of(tmp_path, "secret") == Request.PAUSE
    assert asked_of(tmp_path, "another") == ""


def test_the_token_is_written_nowhere(tmp_path: Path) -> None:
    Control(tmp_path, "correct horse")
    ask(tmp_path, Request.STOP, "correct horse")
    for file in tmp_path.iterdir():
        assert b"correct" not in file.read_bytes()


def test_a_run_begins_without_requests_and_without_the_token_of_another_session(
    tmp_path: Path,
) -> None:
    Control(tmp_path, "secret")
    ask(tmp_path, Request.STOP, "secret")
    control = Control(tmp_path)
    assert control.asked() is None
    assert not (tmp_path / PROTECTION).exists()
    ask(tmp_path, Request.STOP)
    assert control.asked() is Request.STOP


def test_looking_whether_a_run_is_at_work_changes_nothing(tmp_path: Path) -> None:
    assert not is_run_locked(tmp_path)
    assert not list(tmp_path.iterdir())
    with locked_run(tmp_path):
        assert is_run_locked(tmp_path)
        assert is_run_locked(tmp_path)
    assert not is_run_locked(tmp_path)
    with locked_run(tmp_path):  # the query has left no lock behind
        pass


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``spm-gym run`` on the run directory ``tmp_path/run``; it ends with the test."""
    processes = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "spm_gym", "run", "--run-dir", "run", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(run: Path, query: str) -> None:
    """Until a query of the journal has a result."""

    def has_come() -> bool:
        with suppress(JournalError), reading(run) as db:  # it may not be there yet
            return db.execute(query).fetchone() is not None
        return False

    wait_until(has_come, f"it never came: {query}")


def is_scanning(port: int) -> bool:
    """Whether the controller is in the middle of a scan, as another program sees it."""
    witness = Connection("127.0.0.1", port, PATIENCE_S)
    witness.connect()
    try:
        return bool(witness.call("Scan.StatusGet")["running"])
    finally:
        witness.close()


@pytest.mark.slow
def test_stop_waits_until_the_tip_is_withdrawn(
    tmp_path: Path,
    started: Callable[..., subprocess.Popen[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    process = started("--hours", "1000", "--token", "secret")
    wait_for(run, "SELECT 1 FROM scans")
    assert main(["stop", str(run)]) == 2
    assert main(["stop", str(run), "--token", "wrong"]) == 2
    assert main(["ask", "pause", str(run)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert ["--token" in errors[0], "not the token" in errors[1]] == [True, True]
    assert process.poll() is None
    assert main(["stop", str(run), "--token", "secret"]) == 0
    assert "Ended: asked to stop; tip withdrawn" in capsys.readouterr().out
    with reading(run) as db:
        last = db.execute("SELECT act, result FROM acts ORDER BY id DESC").fetchone()
    assert tuple(last) == ("withdraw", "done")
    assert process.wait() == 0
    assert main(["stop", str(run), "--token", "secret"]) == 2
    assert "nothing to stop" in capsys.readouterr().err
    config = (run / "config.yaml").read_text()
    assert "secret" not in config


@pytest.mark.slow
@pytest.mark.parametrize("request_", [Request.STOP, Request.PAUSE])
def test_a_scan_of_a_real_microscope_is_stopped_in_the_middle(
    tmp_path: Path, started: Callable[..., subprocess.Popen[str]], request_: Request
) -> None:
    """A scan at 0.05 nm/s takes twenty minutes, twenty times as fast as real time."""
    run = tmp_path / "run"
    with virtual_nanonis("--seed", "3", "--time-scale", "20", "--ports", "0", "0", "0") as ports:
        process = started(
            "--env", "real", "--hours", "100", "--set", f"real.nanonis.ports={ports[:2]}",
            "real.imaging.speed_nm_per_s=0.05", "env.settle_fraction=0", "env.creep_wait_s=1",
        )  # fmt: skip
        wait_for(run, "SELECT 1 FROM state WHERE json_extract(runner, '$.state') = 'image'")
        wait_until(lambda: is_scanning(ports[2]))
        ask(run, request_)
        if request_ is Request.PAUSE:
            wait_for(run, "SELECT 1 FROM state WHERE json_extract(runner, '$.state') = 'pause'")
            wait_for(run, "SELECT 1 FROM acts WHERE act = 'withdraw' AND result = 'done'")
            ask(run, Request.RESUME)
            wait_for(run, "SELECT 1 FROM acts WHERE act = 'approach' AND result IS NULL")
            ask(run, Request.PAUSE)  # an approach is stopped in the middle as well
            wait_for(run, "SELECT 1 FROM acts WHERE act = 'approach' AND result = 'failed'")
            wait_for(
                run, "SELECT 1 FROM acts WHERE act = 'withdraw' AND result = 'done' AND id > 2"
            )
            ask(run, Request.RESUME)
            wait_for(run, "SELECT 1 FROM state WHERE json_extract(runner, '$.state') = 'image'")
            ask(run, Request.STOP)
        assert process.wait(timeout=PATIENCE_S) == 0
    with reading(run) as db:
        assert db.execute("SELECT COUNT(*) FROM recoveries").fetchone()[0] == 0
        assert db.execute("SELECT COUNT(*) FROM scans").fetchone()[0] == 0
        run_state = read_run_state(db)
    assert run_state is not None
    assert run_state.ending.reason == "asked to stop"


# --- a scan that is stopped in the middle ---------------------------------------------------------


@contextmanager
def aborting(folder: Path, requested: list[Request | None]) -> Iterator[Lab]:
    """A runner whose microscope stops the scan in which the next request comes."""
    with lab(folder, Verdicts(0.99), requests=lambda: requested[0]) as it:
        scan = it.microscope.scan

        def stopped_if_asked(frame: Frame, fraction: float = 1.0) -> Scan:
            if len(requested) > 1:  # the request comes while the scan is under way
                del requested[0]
                raise Aborted("somebody asks for something")
            return scan(frame, fraction)

        it.microscope.scan = stopped_if_asked  # type: ignore[method-assign]
        yield it


@pytest.mark.parametrize("state", [State.PARTIAL, State.IMAGE])
def test_an_aborted_scan_leaves_nothing_and_is_taken_again(tmp_path: Path, state: State) -> None:
    requested: list[Request | None] = [None]
    with aborting(tmp_path, requested) as it:
        it.until(state)
        scans = len(it.labels())
        target = it.runner.run_state.place.frame
        requested.append(Request.PAUSE)
        assert it.runner.step() is State.PAUSE
        assert len(it.labels()) == scans
        assert it.runner.step() is State.PAUSE
        with reading(tmp_path) as db:  # the withdrawal is no secret while the run is paused
            assert db.execute("SELECT result FROM acts").fetchall()[-1][0] == "done"
        requested[:] = [Request.RESUME]
        it.until(State.DIAGNOSE)
        assert it.runner.run_state.place.frame == target
        assert it.runner.run_state.counters["recoveries"] == 0


def test_an_aborted_approach_ends_withdrawn(tmp_path: Path) -> None:
    requested: list[Request | None] = [Request.PAUSE]
    with lab(tmp_path, Verdicts(0.99), requests=lambda: requested[0]) as it:
        assert it.runner.step() is State.PAUSE
        it.runner.step()
        assert not it.microscope.status().approached
        requested[0] = Request.RESUME
        assert it.runner.step() is State.APPROACH
        approach = it.microscope.approach

        def stopped() -> None:
            it.microscope.approach = approach  # type: ignore[method-assign]
            requested[0] = Request.PAUSE
            raise Aborted("somebody asks for something")

        it.microscope.approach = stopped  # type: ignore[method-assign]
        assert it.runner.step() is State.PAUSE
        it.runner.step()
        with reading(tmp_path) as db:
            acts = [tuple(row) for row in db.execute("SELECT act, result FROM acts ORDER BY id")]
        assert acts == [("withdraw", "done"), ("approach", "failed"), ("withdraw", "done")]
        requested[0] = Request.RESUME
        it.until(State.DIAGNOSE)
        assert it.runner.run_state.counters["recoveries"] == 0


def test_a_run_that_has_ended_is_read_where_nothing_may_be_written(tmp_path: Path) -> None:
    with lab(tmp_path / "run", Verdicts(0.99)) as it:
        it.until(State.DIAGNOSE)
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    with reading(tmp_path / "run") as db:
        assert db.execute("SELECT COUNT(*) FROM scans").fetchone()[0] == 2
    after = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert after == before, "reading leaves nothing behind"


def test_a_request_that_is_taken_back_meanwhile_lets_the_scan_begin_again(tmp_path: Path) -> None:
    requested: list[Request | None] = [None]
    with aborting(tmp_path, requested) as it:
        it.until(State.IMAGE)
        requested.append(None)
        assert it.runner.step() is State.DIAGNOSE
        assert it.runner.run_state.imaging.images == 1


def test_what_may_interrupt_a_scan_is_obeyed_in_every_state_that_scans() -> None:
    """Otherwise the runner would try such a scan for ever."""
    for state in (State.PARTIAL, State.IMAGE):
        assert touches_instrument(state)
        assert {State.PAUSE, State.STOP} <= TRANSITIONS[state]


def test_a_stop_from_outside_withdraws_even_where_the_tip_may_stay(tmp_path: Path) -> None:
    requested: list[Request | None] = [None]
    with lab(tmp_path, Verdicts(0.99), requests=lambda: requested[0], may_stay=True) as it:
        it.until(State.IMAGE)
        requested[0] = Request.STOP
        outcome = it.runner.run()
        assert (outcome.safe, outcome.where) == (True, "tip withdrawn")
        assert not it.microscope.status().approached


def test_a_withdrawal_that_fails_is_no_safe_end(tmp_path: Path) -> None:
    requested: list[Request | None] = [None]
    with lab(tmp_path, Verdicts(0.99), requests=lambda: requested[0]) as it:
        it.until(State.IMAGE)
        requested[0] = Request.STOP

        def refused() -> None:
            raise CommandFailed("motor off")

        it.microscope.withdraw = refused  # type: ignore[method-assign]
        outcome = it.runner.run()
        assert not outcome.safe
    with reading(tmp_path) as db:
        kind, text = tuple(db.execute("SELECT kind, text FROM events ORDER BY id DESC").fetchone())
    assert kind == "unsafe end"
    assert "TIP NOT WITHDRAWN: motor off" in text


def test_stop_does_not_call_a_killed_run_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_settings(tmp_path / "config.yaml", Config())
    with Journal(tmp_path, RunState.references) as journal:
        journal.add_event(0.0, "end", "12 hours are over; tip withdrawn")
        journal.keep()
    answers = iter([True, False])
    monkeypatch.setattr("spm_gym.cli.stop.is_run_locked", lambda run: next(answers))
    assert main(["stop", str(tmp_path)]) == 2
    assert "without a word" in capsys.readouterr().err
    with Journal(tmp_path, RunState.references) as journal:
        journal.add_event(0.0, "approach", "approached")
        journal.keep()
    answers = iter([True, False])
    assert main(["stop", str(tmp_path), "--wait-s", "1"]) == 2
    with pytest.raises(SystemExit):
        main(["stop", str(tmp_path), "--wait-s", "nan"])
