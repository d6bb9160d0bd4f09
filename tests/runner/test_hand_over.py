"""A good tip is handed to a program or to the operator, and no other tip is."""

from __future__ import annotations

import csv
import json
import math
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spm_gym.cli import main
from spm_gym.config.yaml_file import as_yaml
from spm_gym.imaging.files import read_topography
from spm_gym.instrument.nanonis.connection import Connection
from spm_gym.instrument.nanonis.settings import Settings
from spm_gym.runner import hand_over
from spm_gym.runner.control import Request
from spm_gym.runner.runner import Outcome
from spm_gym.runner.states import State
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.command_runs import summary
from tests.support.nanonis_lab import biased
from tests.support.scripted_runs import Verdicts, lab
from tests.support.waiting import wait_until

GOOD, BAD = 0.99, 0.01
EXAMPLES = Path(__file__).parents[2] / "examples" / "hand_over"

pytestmark = pytest.mark.usefixtures("fresh_folder")


def python(text: str) -> str:
    return f"operation.when_good={as_yaml(shlex.join([sys.executable, '-c', text]))}"


def outcome(run: Path, *settings: str, **options: Any) -> Outcome:
    with lab(run, Verdicts(GOOD), "operation.scans=3", *settings, **options) as it:
        return it.runner.run()


def test_a_program_has_the_tip_after_every_good_image_and_knows_where(tmp_path: Path) -> None:
    write = python("import os, json; print(json.dumps(dict(os.environ)), file=open('told', 'a'))")
    with lab(tmp_path, Verdicts(BAD, GOOD, GOOD), "operation.scans=3", write) as it:
        assert it.runner.run().ending == "3 images are taken"
        assert it.visited.count(State.HAND_OVER) == 2
        acts = it.rows("SELECT act, result FROM acts WHERE act = 'hand over'")
    assert acts == [("hand over", "done")] * 2
    told = [json.loads(line) for line in Path("told").read_text().splitlines()]
    assert [Path(each["SPM_GYM_IMAGE"]).name for each in told] == ["000004.gsf", "000006.gsf"]
    for each in told:
        width = read_topography(Path(each["SPM_GYM_IMAGE"])).width
        assert width is not None
        assert Path(each["SPM_GYM_RUN_DIR"]) == tmp_path
        assert 0 < float(each["SPM_GYM_CLEAN_M"]) <= width
        assert math.isfinite(float(each["SPM_GYM_X_M"]) + float(each["SPM_GYM_Y_M"]))
        assert 0 < float(each["SPM_GYM_DEADLINE"]) - time.time() <= 3600


def test_what_it_prints_is_kept_and_the_token_of_the_run_is_not_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPM_GYM_TOKEN", "secret")
    text = python("import os, sys; print('token', os.getenv('SPM_GYM_TOKEN'), file=sys.stderr)")
    assert outcome(tmp_path, text, "operation.hand_overs=1").ending == "1 programs have had the tip"
    assert (tmp_path / "programs" / "000002.log").read_text() == "token None\n"


def test_a_program_that_fails_ends_the_run_with_the_tip_withdrawn(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD), python("raise SystemExit(3)")) as it:
        ended = it.runner.run()
        assert not it.microscope.status().approached
        assert it.rows("SELECT result FROM acts WHERE act = 'hand over'") == [("failed",)]
    assert (ended.failed, ended.where) == (True, "tip withdrawn")
    assert "ended with status 3; its output is in" in ended.ending


def test_one_that_takes_too_long_is_terminated_with_all_that_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (open('asked', 'w'), sys.exit(0)))\n"
        "sleeper = 'import time; time.sleep(1000)'\n"
        "child = subprocess.Popen([sys.executable, '-c', sleeper])\n"
        "open('pid', 'w').write(str(child.pid)); os.rename('pid', 'child'); time.sleep(1000)"
    )

    def monotonic() -> float:
        """Let the time be over once the program is where it is to be found."""
        return time.monotonic() + 10_000 * Path("child").exists()

    clock = SimpleNamespace(time=time.time, monotonic=monotonic)
    monkeypatch.setattr(hand_over, "time", clock)
    ended = outcome(tmp_path, python(text), "operation.program_s=1000")
    assert ended.failed
    assert "for longer than operation.program_s = 1000 and was terminated" in ended.ending
    assert Path("asked").exists()  # in a way that lets it put down what it is about
    child = Path("child").read_text()
    wait_until(lambda: not is_alive(child), "what the program had started outlives it")


@pytest.mark.skipif(shutil.which("setsid") is None, reason="there is no setsid")
def test_a_process_that_a_program_leaves_behind_keeps_the_tip_from_the_next(tmp_path: Path) -> None:
    text = "sh -c 'setsid sh -c \"echo \\$\\$ > daemon; sleep 1000\" & sleep 0.1'"
    try:
        with lab(tmp_path, Verdicts(GOOD), f"operation.when_good={as_yaml(text)}") as it:
            it.until(State.HAND_OVER)
            it.runner.step()
            wait_until(lambda: Path("daemon").exists() and Path("daemon").read_text())
            ended = it.runner.run()
            assert not it.microscope.status().approached
        assert ended.failed
        assert "has left a process behind" in ended.ending
    finally:
        os.kill(int(Path("daemon").read_text()), signal.SIGKILL)


def is_alive(process: str) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    ("request_", "following"), [(Request.STOP, State.STOP), (Request.PAUSE, State.PAUSE)]
)
def test_a_request_ends_the_program_and_then_is_obeyed(
    tmp_path: Path, request_: Request, following: State
) -> None:
    asked = lambda: request_ if Path("started").exists() else None  # noqa: E731
    text = python("import time; open('started', 'w'); time.sleep(1000)")
    with lab(tmp_path, Verdicts(GOOD), text, requests=asked, sleep=lambda s: None) as it:
        it.until(State.HAND_OVER)
        assert it.runner.step() is State.CHOOSE
        assert it.runner.step() is following
        if following is State.PAUSE:
            it.runner.step()
            assert not it.microscope.status().approached


def test_no_bad_tip_and_no_tip_that_is_still_vouched_for_is_handed_over(tmp_path: Path) -> None:
    settings = (python("open('started', 'a').write('x')"), "operation.require_good_start=true")
    with lab(tmp_path / "run", Verdicts(GOOD, GOOD, BAD, BAD, GOOD), *settings) as it:
        it.until(State.HAND_OVER)
        assert it.labels() == ["good", "good", "bad probe", "bad probe", "good"]


class TestWhenGoodIsStop:
    def test_the_first_good_image_ends_the_run_and_the_tip_stays(self, tmp_path: Path) -> None:
        settings = ("operation.when_good=stop", "operation.condition_after=2")
        with lab(tmp_path, Verdicts(BAD, BAD, BAD, GOOD, GOOD), *settings) as it:
            ended = it.runner.run()
            assert it.microscope.status().approached
            assert it.labels() == ["bad probe", *["bad probe"], *["conditioning"] * 2, "good"]
        assert (ended.ending, ended.where) == ("the probe is good", "tip left at the surface")
        assert (ended.good, ended.failed, ended.safe) == (True, False, True)

    def test_a_tip_that_is_not_at_the_surface_any_more_is_not_called_handed_over(
        self, tmp_path: Path
    ) -> None:
        with lab(tmp_path, Verdicts(GOOD), "operation.when_good=stop") as it:
            it.until(State.STOP)
            it.microscope.withdraw()
            ended = it.runner.run()
        assert (ended.good, ended.failed) == (False, True)
        assert "not at the surface any more" in ended.ending
        assert ended.where == "tip withdrawn"

    def test_any_other_end_withdraws(self, tmp_path: Path) -> None:
        settings = ("operation.when_good=stop", "operation.scans=3", "operation.condition_after=9")
        with lab(tmp_path, Verdicts(BAD), *settings) as it:
            ended = it.runner.run()
            assert not it.microscope.status().approached
        assert not ended.good


@pytest.fixture
def ports() -> Iterator[list[int]]:
    """A controller as an operator has left it, the tip at the surface; a port for looking."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    with VirtualNanonis(biased(bias=0.8), [0, 0, 0]) as server:
        yield list(server.ports)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def settings_of(ports: list[int]) -> dict[str, Any]:
    connection = Connection("127.0.0.1", ports[2])
    connection.connect()
    try:
        assert connection.call("Scan.StatusGet")["running"] == 0
        return {
            "feedback": connection.call("ZCtrl.OnOffGet")["on"],
            **asdict(Settings.read(connection)),
        }
    finally:
        connection.close()


def on(ports: list[int]) -> list[str]:
    return ["--env", "real", "--run-dir", "run", "--set", f"real.nanonis.ports={ports[:2]}",
            "env.accept_mismatch=[bias]"]  # fmt: skip


class TestOnAController:
    def test_the_tip_is_left_at_the_surface_with_the_operators_settings(
        self, ports: list[int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = settings_of(ports)
        assert before["feedback"] == 1
        assert main(["condition", "--until-good", *on(ports), "real.imaging.bias_V=1.0"]) == 0
        assert settings_of(ports) == before
        assert "scan stopped, tip left as it is, settings restored" in capsys.readouterr().out
        assert summary(capsys)["ending"] == "the probe is good; tip left at the surface"

    @pytest.mark.parametrize("withdraw", ["true", "false"])
    def test_one_that_does_not_become_good_is_withdrawn_and_says_so(
        self, ports: list[int], withdraw: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = settings_of(ports)
        assert main(["condition", *on(ports), "env.good_above=1.0", "operation.scans=2",
                     f"real.withdraw_on_exit={withdraw}",
                     "real.imaging.bias_V=1.0"]) == 2  # fmt: skip
        assert settings_of(ports) == {**before, "feedback": 0}
        assert "THE PROBE IS NOT GOOD" in capsys.readouterr().out

    def test_a_spectrum_by_the_vendors_package(
        self, ports: list[int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        pytest.importorskip("nanonis_spm", reason="nanonis-spm is not installed")
        before = settings_of(ports)
        program = shlex.join([sys.executable, str(EXAMPLES / "spectrum.py")])
        assert main(["run", "--when-good", program, *on(ports), "operation.hand_overs=1"]) == 0
        assert settings_of(ports) == {**before, "feedback": 0}
        [spectrum] = Path("run/spectra").glob("*.csv")
        names, *rows = csv.reader(spectrum.read_text().splitlines())
        bias = [float(row[names.index("Bias calc (V)")]) for row in rows]
        current = [float(row[names.index("Current (A)")]) for row in rows]
        assert (bias[0], bias[-1]) == pytest.approx((-1, 1))
        assert current[0] < 0 < current[-1]
        assert max(map(abs, current)) > 1e-11  # in contact
        assert summary(capsys)["consistent"]

    def test_a_larger_image_by_this_package(self, ports: list[int]) -> None:
        program = shlex.join([sys.executable, str(EXAMPLES / "larger_image.py")])
        before = settings_of(ports)
        assert main(["run", "--when-good", program, *on(ports), "operation.hand_overs=1"]) == 0
        assert settings_of(ports) == {**before, "feedback": 0}
        [image] = Path("run/images").glob("*.gsf")
        topography = read_topography(image)
        assert topography.width == pytest.approx(100e-9)
        assert topography.z.shape == (256, 256)

    def test_what_a_program_leaves_is_noted_and_put_right(
        self, ports: list[int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = (
            "from spm_gym.instrument.nanonis.connection import Connection\n"
            f"it = Connection('127.0.0.1', {ports[0]}); it.connect()\n"
            "assert abs(it.call('Bias.Get')['bias'] - 0.8) < 1e-6\n"
            "it.call('Bias.Set', bias=0.3); it.call('Scan.Action', action=0, direction=0)"
        )
        program = python(text).removeprefix("operation.when_good=")
        assert main(["run", *on(ports), "real.imaging.bias_V=1.0", "operation.scans=2",
                     f"operation.when_good={program}"]) == 0  # fmt: skip
        out = capsys.readouterr().out
        assert "somebody has changed the bias from 0.8 to 0.3 V" in out
        assert settings_of(ports)["bias"]["bias"] == pytest.approx(0.8)

    @pytest.mark.parametrize(
        ("done", "ending"),
        [
            ("it.call('Bias.Set', bias=0.001)", "real.limits.bias_V"),
            ("it.call('ZCtrl.Withdraw', wait=1, timeout=9000)", "the tip is withdrawn"),
        ],
    )
    def test_a_bias_beyond_the_limits_and_a_tip_that_is_gone_end_the_run(
        self, ports: list[int], capsys: pytest.CaptureFixture[str], done: str, ending: str
    ) -> None:
        text = (
            "from spm_gym.instrument.nanonis.connection import Connection\n"
            f"it = Connection('127.0.0.1', {ports[0]}); it.connect(); {done}"
        )
        program = python(text).removeprefix("operation.when_good=")
        before = settings_of(ports)
        assert main(["run", *on(ports), f"operation.when_good={program}"]) == 2
        assert ending in summary(capsys)["ending"]
        assert settings_of(ports) == {**before, "feedback": 0}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--when-good", "sotp"], "there is no program 'sotp'; it is scan, stop, or"),
        (["--when-good", "'"], "is no command"),
        (["--when-good", ""], "when_good is empty"),
        (["--when-good", "stop", "--no-conditioning"], "a survey"),
        (["--set", "operation.hand_overs=2"], "when_good has to name one"),
        (["--when-good", "stop", "--env", "real", "--set", "real.driver=deepspm",
          "operation.program_s=-1"], "program_s"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--run-dir", "run", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not Path("run").exists()


def test_a_run_directory_of_somebody_else_starts_no_program(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trap = "touch sprung"
    count = ["--when-good", "true", "--set", "operation.hand_overs=5"]
    assert main(["run", "--run-dir", "run", "--scans", "1", *count]) == 0
    settings = Path("run/config.yaml")
    own = "when_good: 'true'"
    assert own in settings.read_text()
    settings.write_text(settings.read_text().replace(own, f"when_good: {trap}"))
    assert main(["run", "--resume", "--run-dir", "run", "--scans", "2"]) == 2
    assert "is not started unless you name it" in capsys.readouterr().err
    assert main(["run", "--resume", "--run-dir", "run", "--scans", "2", "--when-good", "scan"]) == 0
    assert not Path("sprung").exists()
