"""``spm-gym run`` as users start it, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from spm_gym.assembly.run_progress import RunProgress
from spm_gym.cli import main
from spm_gym.config import load_config
from spm_gym.imaging.files import read_topography
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.journal.reader import reading
from spm_gym.journal.run_lock import locked_run
from spm_gym.runner.control import Request, ask
from spm_gym.runner.run_state import RunState, read_run_state
from tests.support.command_runs import LIVELY, summary
from tests.support.virtual import virtual_nanonis
from tests.support.waiting import PATIENCE_S, wait_until

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("fresh_folder")


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "spm_gym", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate()
    return process.returncode, output


@pytest.fixture(autouse=True)
def signals_are_put_back() -> Iterator[None]:
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in names}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def images(run: str = "run") -> int:
    """How many images a run has taken so far."""
    if not Path(run, "journal.sqlite").is_file():
        return 0
    try:
        with reading(Path(run)) as db:
            return int(db.execute("SELECT COUNT(*) FROM scans WHERE fraction = 1").fetchone()[0])
    except ValueError:
        return 0  # it has just been created


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], *words: str) -> None:
    assert main(["run", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    for word in words:
        assert word in error


def test_a_run_on_the_simulator_and_what_it_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--env", "sim", "--scans", "60", "--faults", "random", "--run-dir", "run"]
    assert main(["run", *options, "--set", *LIVELY]) == 0
    assert "60 images are taken" in capsys.readouterr().out
    found = summary(capsys)
    assert found["consistent"], found["inconsistencies"]
    assert found["images"] == 60
    assert found["episodes"]["good"] > 0
    for path in Path("run/scans").glob("*.gsf"):
        assert read_topography(path, min_finite=0.0).width == pytest.approx(10e-9)
    with reading(Path("run")) as db:
        session = db.execute("SELECT * FROM sessions").fetchone()
        assert len(session["agent_sha256"]) == len(session["config_sha256"]) == 64
        assert "torch" in json.loads(session["versions"])


def test_a_finished_run_goes_on_for_longer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--scans", "5", "--run-dir", "run"]) == 0
    assert main(["run", "--resume", "--run-dir", "run"]) == 0
    assert images() == 5
    assert main(["run", "--resume", "--run-dir", "run", "--scans", "8"]) == 0
    found = summary(capsys)
    assert (found["images"], found["resumes"], found["consistent"]) == (8, 2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--resume", "--run-dir", "nowhere"], ["not a run directory"]),
        (["--resume", "--seed", "3"], ["leave out --seed"]),
        (["--env", "real", "--faults", "random"], ["virtual Nanonis"]),
        (["--env", "real", "--time-scale", "3"], ["real microscope"]),
        (["--faults", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--faults", "bad.yaml"], ["faults.lost_contcat", "did you mean"]),
        (["--hours", "0"], ["operation.hours"]),
        (["--agent", "nowhere"], ["nowhere"]),
        (["--agent", "empty"], ["operation.agent", "no checkpoint"]),
        (["--agent", "bad.yaml"], ["bad.yaml", "not an agent"]),
        (["--notify", "nowhere"], ["operation.notify"]),
        (["--set", "operation.clean_action=kick"], ["operation.clean_action", "pulse"]),
        (["--set", "env.pixels=32"], ["64"]),
        (["--set", "agent.network.hidden=[64]"], ["agent.safetensors", "--policy random"]),
        (["--fresh-area"], ["--env real"]),
        (
            ["--env", "real", "--set", "real.nanonis.ports=[9,10]", "real.nanonis.outage_s=0"],
            ["127.0.0.1"],
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    Path("bad.yaml").write_text("lost_contcat: 0.5\n")
    Path("empty").mkdir()
    refused(capsys, arguments, *words)
    assert not list(Path().glob("runs/*"))


def test_the_time_left_after_a_resume_is_that_of_this_session() -> None:
    config = load_config(None, ["operation.hours=10", "operation.scans=null"])
    run_state = RunState()
    with RunProgress(config) as progress:
        bar = progress._bar
        for run_state.clock.elapsed in (5 * 3600.0, 5 * 3600.0 + 360.0):
            progress.show(run_state)
        assert bar.initial == pytest.approx(5)
        # As if this tenth of an hour had taken ten seconds, so that 4.9 hours take 490.
        bar_text = bar.format_meter(**(bar.format_dict | {"elapsed": 10.0, "rate": None}))
    assert "08:10 left" in bar_text


def test_a_run_directory_in_use_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--scans", "2", "--run-dir", "run"]) == 0
    with locked_run(Path("run")):
        refused(capsys, ["--resume", "--run-dir", "run", "--scans", "4"], "another program")
    assert images() == 2


def test_a_run_pauses_goes_on_and_stops_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    process = start("run", "--hours", "1000", "--run-dir", "run")
    wait_until(lambda: images() > 5)
    ask(Path("run"), Request.PAUSE)

    def state() -> str:
        with reading(Path("run")) as db:
            run_state = read_run_state(db)
            return "" if run_state is None else str(run_state.state)

    wait_until(lambda: state() == "pause")
    taken = images()
    time.sleep(1.0)
    assert images() == taken
    ask(Path("run"), Request.RESUME)
    wait_until(lambda: images() > taken + 3)
    ask(Path("run"), Request.STOP)
    status, output = finish(process)
    assert status == 0
    assert "asked to stop" in output
    found = summary(capsys)
    assert found["consistent"]
    assert found["acts"]["withdraw"] == {"done": 2}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_withdraws_and_the_run_goes_on_later(
    capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    process = start("run", "--hours", "1000", "--run-dir", "run")
    wait_until(lambda: images() > 3)
    process.send_signal(number)
    status, output = finish(process)
    assert status == 130, output
    found = summary(capsys)
    assert found["consistent"]
    assert found["acts"]["withdraw"] == {"done": 1}
    more = images() + 3
    assert main(["run", "--resume", "--run-dir", "run", "--hours", "1000",
                 "--scans", str(more)]) == 0  # fmt: skip
    assert images() == more


def test_anybody_is_named_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    received: list[dict[str, Any]] = []

    class Inbox(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Inbox) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            Path("notify.txt").write_text(
                f"json://127.0.0.1:{server.server_port}/?rto={PATIENCE_S:g}\n"
            )
            options = ["--scans", "12", "--notify", "notify.txt", "--run-dir", "run"]
            assert main(["run", *options, "--set", "env.regions.area_nm=25"]) == 0
        finally:
            server.shutdown()
            serving.join()
    assert {"area change", "stop"} <= {message["title"].split(": ")[-1] for message in received}
    assert any("12 images are taken; tip withdrawn" in message["message"] for message in received)


def nanonis(ports: list[int]) -> list[str]:
    lab = [
        f"real.nanonis.ports={ports[:2]}",
        "real.nanonis.coarse.retract=z+",
        "env.creep_wait_s=0",
    ]
    return ["--env", "real", "--run-dir", "run", "--set", *lab, "operation.confirm_s=0", *LIVELY]


ACCIDENTS = ["--set", "simulator.tip_change_rate=0.1", "simulator.contact_loss_rate=0.02",
             "simulator.crash_rate=0.02", "simulator.rough_fraction=0.1"]  # fmt: skip


def is_withdrawn(ports: list[int]) -> bool:
    connection = Connection("127.0.0.1", ports[1])
    connection.connect()
    try:
        high = connection.call("ZCtrl.LimitsGet")["high"]
        return bool(connection.call("ZCtrl.ZPosGet")["z"] > 0.99 * high)
    finally:
        connection.close()


def test_the_same_run_on_a_nanonis_with_a_kill_in_between(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with virtual_nanonis("--seed", "4", *ACCIDENTS, quiet=True) as ports:
        process = start("run", *nanonis(ports), "--scans", "120")
        wait_until(lambda: images() > 30)
        process.kill()
        finish(process)
        killed = summary(capsys)
        assert killed["consistent"], killed["inconsistencies"]
        assert main(["run", "--resume", "--run-dir", "run"]) == 0
        assert is_withdrawn(ports)
    found = summary(capsys)
    assert found["consistent"], found["inconsistencies"]
    assert found["images"] == 120
    assert found["episodes"]["good"] >= 2
    assert found["recoveries"]["total"] >= 1
    assert not Path("run/settings_before.json").exists()


def test_a_terminated_run_on_a_nanonis_is_safe(capsys: pytest.CaptureFixture[str]) -> None:
    with virtual_nanonis("--seed", "4") as ports:
        process = start("run", *nanonis(ports), "--hours", "1000")
        wait_until(lambda: images() > 5)
        process.terminate()
        status, output = finish(process)
        assert status == 130, output
        assert "tip withdrawn, settings restored" in output
        assert is_withdrawn(ports)
    assert summary(capsys)["consistent"]


def test_what_an_operator_withdraws_stays_withdrawn(capsys: pytest.CaptureFixture[str]) -> None:
    with virtual_nanonis("--seed", "4", "--ports", "0", "0", "0") as ports:
        process = start("run", *nanonis(ports), "--hours", "1000")
        wait_until(lambda: images() > 5)
        operator = Connection("127.0.0.1", ports[2])
        operator.connect()
        operator.call("ZCtrl.Withdraw", wait=1, timeout=10_000)
        operator.close()
        status, output = finish(process)
        assert status == 2
        assert "operation.approach_withdrawn" in output
        assert is_withdrawn(ports)
    found = summary(capsys)
    assert found["consistent"]
    assert found["failed"]


@pytest.mark.slow
def test_two_days_with_faults_lose_nothing_and_take_no_more_memory() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "operation.py"), "soak", "--hours", "48"]
    subprocess.run([*command, "--first-seed", "86", "--json", "soak.json"], check=True,
                   env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    (found,) = json.loads(Path("soak.json").read_text())
    assert found["consistent"], found["inconsistencies"]
    assert found["hours"] >= 48
    assert found["images"] > 6_000
    assert found["recoveries"]["by_result"] == {"recovered": found["recoveries"]["total"]}
    assert found["recoveries"]["total"] > 30
    assert found["growth"] < 0.05
