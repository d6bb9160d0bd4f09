"""Interlocks and quiet hours pause a run, or end it, and let it go on as the settings say."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.cli import main
from spm_gym.config import ConfigError, load_config
from spm_gym.config.operation import InterlockConfig
from spm_gym.errors import CommandFailed, ConnectionLost
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.journal.reader import reading
from spm_gym.runner.control import Control, Request, ask
from spm_gym.runner.interlocks import Interlocks
from spm_gym.runner.quiet_hours import QuietHours
from spm_gym.runner.requests import Requests
from spm_gym.runner.states import State
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.command_runs import summary
from tests.support.nanonis_lab import CALM
from tests.support.scripted_runs import Verdicts, lab

SIGNAL = "Input 5 (V)"


class Readings:
    """Values of one signal, and a clock."""

    def __init__(self) -> None:
        self.value: float | Exception = 0.0
        self.now = 0.0

    def __call__(self) -> list[float]:
        if isinstance(self.value, Exception):
            raise self.value
        return [self.value]

    def clock(self) -> float:
        return self.now


def requests(run: Path, readings: Readings, **settings: Any) -> Requests:
    interlocks = Interlocks([InterlockConfig(signal=SIGNAL, **settings)], readings.clock)
    interlocks.begin(readings)
    return Requests(Control(run), interlocks, QuietHours((), None))


def after(seconds: float, value: float | Exception, readings: Readings) -> None:
    readings.now += seconds
    readings.value = value


@pytest.mark.parametrize(
    ("beyond", "words"),
    [(4.1, "= 4.1, above 4"), (-1.0, "= -1, below 0"), (math.nan, "is no number"),
     (math.inf, "above 4")],
)  # fmt: skip
def test_a_value_beyond_its_limits_pauses_until_somebody_resumes(
    tmp_path: Path, beyond: float, words: str
) -> None:
    readings = Readings()
    asked = requests(tmp_path, readings, min=0, max=4)
    assert asked.asked() is None
    after(1, beyond, readings)
    assert asked.asked() is Request.PAUSE
    assert asked.must_interrupt()
    assert words in asked.why_paused()
    ask(tmp_path, Request.RESUME)
    assert asked.asked() is Request.PAUSE, "it is still beyond them"
    after(100, 2.0, readings)
    assert asked.asked() is Request.PAUSE, "nobody has asked since"
    ask(tmp_path, Request.RESUME)
    assert asked.asked() is Request.RESUME
    after(1, beyond, readings)
    assert asked.asked() is Request.PAUSE, "that request was for the first time"


def test_it_goes_on_by_itself_when_the_value_has_held(tmp_path: Path) -> None:
    readings = Readings()
    asked = requests(tmp_path, readings, max=4, resume_after_s=60)
    after(1, 5.0, readings)
    assert asked.asked() is Request.PAUSE
    for seconds, value in ((1, 3.0), (50, 3.0), (1, 4.5), (1, 3.0), (59, 3.0)):
        after(seconds, value, readings)
        assert asked.asked() is Request.PAUSE
    after(2, 3.0, readings)
    assert asked.asked() is Request.RESUME


def test_a_pause_of_a_person_outlasts_that_of_an_interlock(tmp_path: Path) -> None:
    readings = Readings()
    asked = requests(tmp_path, readings, max=4, resume_after_s=0)
    ask(tmp_path, Request.PAUSE)
    for value in (5.0, 3.0, 3.0):
        after(1, value, readings)
        assert asked.asked() is Request.PAUSE
    assert asked.why_paused() == "asked to pause"


def test_an_interlock_that_stops_is_a_failure_and_a_person_who_stops_is_none(
    tmp_path: Path,
) -> None:
    readings = Readings()
    asked = requests(tmp_path, readings, max=4, then="stop")
    ask(tmp_path, Request.STOP)
    assert (asked.asked(), asked.failure()) == (Request.STOP, "")
    ask(tmp_path, Request.RESUME)
    after(1, 5.0, readings)
    assert asked.asked() is Request.STOP
    assert asked.failure() == f"interlock: {SIGNAL} = 5, above 4"


def test_what_cannot_be_read_releases_nothing_and_trips_nothing(tmp_path: Path) -> None:
    readings = Readings()
    asked = requests(tmp_path, readings, max=4, resume_after_s=0)
    after(1, ConnectionLost("gone"), readings)
    assert asked.asked() is None
    after(1, 5.0, readings)
    assert asked.asked() is Request.PAUSE
    after(1, ConnectionLost("gone"), readings)
    assert asked.asked() is Request.PAUSE


def test_a_signal_that_the_controller_refuses_to_give_is_beyond_its_limits(tmp_path: Path) -> None:
    readings = Readings()
    asked = requests(tmp_path, readings, max=4, resume_after_s=0)
    after(1, CommandFailed("no such module"), readings)
    assert asked.asked() is Request.PAUSE


@pytest.mark.parametrize("token", [None, "secret"])
def test_only_a_new_request_to_resume_releases_an_interlock(
    tmp_path: Path, token: str | None
) -> None:
    readings = Readings()
    interlocks = Interlocks([InterlockConfig(signal=SIGNAL, max=4)], readings.clock)
    interlocks.begin(readings)
    asked = Requests(Control(tmp_path, token), interlocks, QuietHours((), None))
    ask(tmp_path, Request.RESUME, token)
    assert asked.asked() is Request.RESUME
    after(1, 5.0, readings)
    assert asked.asked() is Request.PAUSE
    after(1, 3.0, readings)
    file = tmp_path / "control"
    old = file.read_text()
    file.unlink()
    assert asked.asked() is Request.PAUSE, "its file is gone: nobody has asked"
    file.write_text("")
    assert asked.asked() is Request.PAUSE
    if token is not None:
        for forged in (old, "resume", "resume 99999999999999999999 no-proof"):
            file.write_text(forged)
            assert asked.asked() is Request.PAUSE, forged
    ask(tmp_path, Request.RESUME, token)
    assert asked.asked() is Request.RESUME


def test_a_rate_is_the_slope_over_its_time(tmp_path: Path) -> None:
    readings = Readings()
    asked = requests(tmp_path, readings, min=-0.1, max=0.1, rate_s=60)
    for _ in range(120):
        after(1, readings.now * 0.05 + 7.0, readings)
        assert asked.asked() is None
    start = readings.now
    for _ in range(60):
        after(1, 13.0 + (readings.now - start) * 0.2, readings)
        asked.asked()
    assert asked.asked() is Request.PAUSE
    assert "/s, above 0.1" in asked.why_paused()


BERLIN = ZoneInfo("Europe/Berlin")


def quiet(when: datetime, *intervals: str) -> bool:
    return bool(QuietHours(intervals, "Europe/Berlin", when.timestamp).present())


@pytest.mark.parametrize(
    ("hour", "minute", "inside"),
    [(21, 59, False), (22, 0, True), (23, 59, True), (0, 0, True), (6, 29, True), (6, 30, False)],
)
def test_quiet_hours_hold_over_midnight(hour: int, minute: int, inside: bool) -> None:
    for month in (1, 7):
        when = datetime(2026, month, 12, hour, minute, tzinfo=BERLIN)
        assert quiet(when, "22:00-06:30") is inside


def test_quiet_hours_follow_the_clock_on_the_wall_where_summer_time_begins_and_ends() -> None:
    # In the night to 2026-10-25 the hour from two to three comes twice.
    ends = datetime(2026, 10, 25, 0, 0, tzinfo=ZoneInfo("UTC")).timestamp()
    inside = [
        bool(QuietHours(("02:00-03:00",), "Europe/Berlin", lambda t=ends + 60 * n: t).present())
        for n in range(180)
    ]
    assert inside == [True] * 120 + [False] * 60
    # In that to 2026-03-29 it is left out; what begins in it begins when the clock is past it.
    begins = datetime(2026, 3, 29, 0, 0, tzinfo=ZoneInfo("UTC")).timestamp()
    inside = [
        bool(QuietHours(("02:30-04:00",), "Europe/Berlin", lambda t=begins + 60 * n: t).present())
        for n in range(180)
    ]
    assert inside == [False] * 60 + [True] * 60 + [False] * 60


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 1439))
def test_an_interval_and_its_complement_share_no_minute(begin: int, end: int, now: int) -> None:
    if begin == end:
        return
    one, other = (f"{n // 60:02}:{n % 60:02}" for n in (begin, end))
    when = datetime(2026, 5, 5, now // 60, now % 60, tzinfo=BERLIN)
    assert quiet(when, f"{one}-{other}") is not quiet(when, f"{other}-{one}")


class Wired(VirtualController):
    """A controller whose inputs are wired to what the test sets; it is crossed in mid-scan."""

    value = 0.0
    crossing = 4.3
    scans = 0

    def execute(self, name: str, values: Mapping[str, Any], *more: Any) -> dict[str, Any]:
        answer = super().execute(name, values, *more)
        if name == "Signals.ValsGet":
            return {**answer, "values": [self.value] * len(answer["values"])}
        # The second scan is the image, after the partial one.
        self.scans += name == "Scan.Action" and values["action"] == 0
        if name == "Scan.WaitEndOfScan" and self.scans == 2 and not self.value:
            self.value, self.executed_before = self.crossing, len(self.executed)
        if name == "ZCtrl.Withdraw" and self.value == self.crossing:
            self.value = 1.0
            self.until_withdrawn = [name for name, _ in list(self.executed)[self.executed_before :]]
        return answer


@pytest.fixture(params=[1])
def controller(request: pytest.FixtureRequest) -> Iterator[tuple[Wired, list[str]]]:
    """One whose time passes so much faster than ours, and settings for scans of six seconds."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    wired = Wired(SimulatedMicroscope(CALM, seed=2), time_scale=request.param)
    with VirtualNanonis(wired, [0, 0]) as server:
        ports = f"real.nanonis.ports={list(server.ports)}"
        yield (
            wired,
            [ports, "env.creep_wait_s=0", f"real.imaging.speed_nm_per_s={200 / request.param:g}"],
        )
    for number, handler in handlers.items():
        signal.signal(number, handler)


def with_interlock(controller: Wired, settings: list[str], more: str) -> int:
    interlock = f"operation.interlocks=[{{signal: {SIGNAL}, max: 4.2, {more}}}]"
    options = ["--env", "real", "--run-dir", "run", "--scans", "1"]
    status = main(["run", *options, "--set", interlock, *settings])
    # Nothing comes between the reading and the stop.
    stop = controller.until_withdrawn.index("Scan.Action")
    assert controller.until_withdrawn[stop - 1] == "Signals.ValsGet"
    return status


@pytest.mark.usefixtures("fresh_folder")
class TestOnAController:
    # An approach takes a minute of the controller's time.
    @pytest.mark.parametrize("controller", [100], indirect=True)
    def test_an_interlock_pauses_in_mid_scan_and_lets_go_on(
        self, controller: tuple[Wired, list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert with_interlock(*controller, "resume_after_s: 0.5") == 0
        with reading(Path("run")) as db:
            texts = [
                row["text"] for row in db.execute("SELECT text FROM events WHERE kind='pause'")
            ]
        assert texts == [f"interlock: {SIGNAL} = 4.3, above 4.2: withdrawing", "goes on"]
        assert summary(capsys)["images"] == 1

    def test_an_interlock_that_stops_ends_the_run_as_a_failure(
        self, controller: tuple[Wired, list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert with_interlock(*controller, "then: stop") == 2
        # A scan is waited for in pieces of a second: one may be under way when the signal crosses.
        assert controller[0].until_withdrawn.count("Scan.WaitEndOfScan") <= 1
        found = summary(capsys)
        assert found["ending"] == f"interlock: {SIGNAL} = 4.3, above 4.2; tip withdrawn"
        assert found["ending_kind"] == "given up"

    def test_a_signal_that_does_not_exist_is_refused_with_those_that_do(
        self, controller: tuple[Wired, list[str]], capsys: pytest.CaptureFixture[str]
    ) -> None:
        interlock = "operation.interlocks=[{signal: Temperature (K), max: 5}]"
        options = ["--env", "real", "--run-dir", "run", "--set", interlock, *controller[1]]
        assert main(["run", *options]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert "has no signal 'Temperature (K)'; it has Current (A)" in error
        assert controller[0].execute("Bias.Get", {})["bias"] != 0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["operation.interlocks=[{signal: T (K)}]"], "needs min, max, or both"),
        (["operation.interlocks=[{signal: T (K), min: 2, max: 1}]"], "min = 2 above max = 1"),
        (["operation.interlocks=[{signal: T (K), max: 1, then: stop, resume_after_s: 1}]"], "ends"),
        (["operation.interlocks=[{signal: T (K), max: .nan}]"], "max"),
        (["operation.quiet_hours=['22:00-24:00']"], "quiet_hours"),
        (["operation.quiet_hours=['06:00-06:00']"], "begins when it ends"),
        (["operation.time_zone=Mars/Base"], "look like Europe/Berlin"),
    ],
)
def test_impossible_settings_are_refused(settings: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(None, settings)
    assert told in str(refused.value)


@pytest.mark.usefixtures("fresh_folder")
@pytest.mark.parametrize("driver", [["--env", "sim"], ["--env", "real", "--set",
    "real.driver=deepspm"]])  # fmt: skip
def test_interlocks_need_a_driver_that_reads_signals(
    driver: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    interlock = f"operation.interlocks=[{{signal: {SIGNAL}, max: 4.2}}]"
    assert main(["run", "--run-dir", "run", *driver, "--set", interlock]) == 2
    assert "setting operation.interlocks: " in capsys.readouterr().err


@pytest.mark.usefixtures("fresh_folder")
def test_a_run_in_quiet_hours_waits_with_the_tip_withdrawn() -> None:
    now = {"time": datetime(2026, 5, 5, 23, 0, tzinfo=BERLIN).timestamp()}
    quiet_hours = QuietHours(("22:00-06:30",), "Europe/Berlin", lambda: now["time"])
    asked = Requests(Control(Path()), Interlocks(()), quiet_hours)
    told = {"requests": asked.asked, "sleep": lambda seconds: now.update(time=now["time"] + 1800)}
    with lab(Path("run"), Verdicts(0.99), "operation.scans=1", **told) as it:
        it.runner._hooks = replace(it.runner._hooks, why_paused=asked.why_paused)
        it.runner.run()
        assert it.visited.count(State.PAUSE) == 16
        # It resumed at half past six, with the time of the pause not counted.
        assert datetime.fromtimestamp(now["time"], BERLIN).strftime("%H:%M") == "06:30"
        assert it.labels() == ["good"]
