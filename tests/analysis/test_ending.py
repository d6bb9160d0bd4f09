"""One answer to how a run ended: every exit, in every view of it."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import matplotlib.text
import pytest

from spm_gym.analysis.ending import INSPECT, UNSAFE_MARK, RunEnd, RunEnding, run_ending
from spm_gym.analysis.status import run_status
from spm_gym.assembly.run_directory import write_settings
from spm_gym.cli import main
from spm_gym.colours import ALARM
from spm_gym.config import Config, load_config
from spm_gym.figures.mosaic import PaintLog
from spm_gym.figures.overview import draw_overview
from spm_gym.journal.reader import GIVEN_UP, SAFE_END, UNSAFE_END, reading
from spm_gym.journal.run_lock import is_run_locked
from spm_gym.journal.writer import Journal, SessionRecord
from spm_gym.runner.run_state import RunState
from spm_gym.runner.states import State
from spm_gym.web.report import render_report
from tests.support.invented_runs import InventedRun
from tests.support.watching import watched

REAL = load_config(None, ["run.microscope=real"])
SIM = load_config()
WITHDRAWN = "; tip withdrawn"
NOT_WITHDRAWN = "; TIP NOT WITHDRAWN: motor off"


class Exit(NamedTuple):
    """An exit of a run.

    Attributes:
        expected: Kind, sentence as every view has it, and whether the instrument needs nobody.
        state: What the runner has committed last; None: nothing.
        events: Kind and text of the last ones.
        withdrawal: Result of a withdrawal as the last act; "" for none.
        at_work: Whether the program still holds the run.
        config: Settings of the run.
        resumed: Whether another session has started since.
    """

    expected: tuple[RunEnd, str, bool]
    state: dict[str, Any] | None
    events: tuple[tuple[str, str], ...] = ()
    withdrawal: str = ""
    at_work: bool = False
    config: Config = REAL
    resumed: bool = False


KILLED = "Not at work: the program was killed, or its computer lost power"
HOURS = {"state": "stop", "ending": "60 hours are over"}
ASKED = {"state": "stop", "ending": "asked to stop"}
FAILED = {"state": "stop", "ending": "6 troubles in a row", "failed": True}
IMAGE = {"state": "image"}

EXITS = {
    "hours over": Exit(
        (RunEnd.COMPLETED, f"Ended: 60 hours are over{WITHDRAWN}", True),
        HOURS, ((SAFE_END, f"60 hours are over{WITHDRAWN}"),),
    ),
    "hours over, tip left where it may stay": Exit(
        (RunEnd.COMPLETED, "Ended: 60 hours are over; tip left at the surface", True),
        HOURS, ((SAFE_END, "60 hours are over; tip left at the surface"),),
    ),
    "hours over, not withdrawn": Exit(
        (RunEnd.COMPLETED, f"{INSPECT}. Ended: 60 hours are over{NOT_WITHDRAWN}", False),
        HOURS, ((UNSAFE_END, f"60 hours are over{NOT_WITHDRAWN}"),),
    ),
    "scans done": Exit(
        (RunEnd.COMPLETED, f"Ended: 8 images are taken{WITHDRAWN}", True),
        HOURS | {"ending": "8 images are taken"},
        ((SAFE_END, f"8 images are taken{WITHDRAWN}"),),
    ),
    "asked to stop": Exit(
        (RunEnd.STOPPED, f"Ended: asked to stop{WITHDRAWN}", True),
        ASKED, ((SAFE_END, f"asked to stop{WITHDRAWN}"),),
    ),
    "asked to stop, not withdrawn": Exit(
        (RunEnd.STOPPED, f"{INSPECT}. Ended: asked to stop{NOT_WITHDRAWN}", False),
        ASKED, ((UNSAFE_END, f"asked to stop{NOT_WITHDRAWN}"),), config=SIM,
    ),
    "given up": Exit(
        (RunEnd.GIVEN_UP, f"Given up: 6 troubles in a row{WITHDRAWN}", True),
        FAILED, ((SAFE_END, f"6 troubles in a row{WITHDRAWN}"),),
    ),
    "given up, not withdrawn": Exit(
        (RunEnd.GIVEN_UP, f"{INSPECT}. Given up: 6 troubles in a row{NOT_WITHDRAWN}", False),
        FAILED, ((UNSAFE_END, f"6 troubles in a row{NOT_WITHDRAWN}"),),
    ),
    "interrupted": Exit(
        (RunEnd.INTERRUPTED, f"Ended in the middle of its work: interrupted{WITHDRAWN}", True),
        IMAGE, ((SAFE_END, f"interrupted{WITHDRAWN}"),),
    ),
    "interrupted, not withdrawn": Exit(
        (RunEnd.INTERRUPTED,
         f"{INSPECT}. Ended in the middle of its work: interrupted{NOT_WITHDRAWN}", False),
        IMAGE, ((UNSAFE_END, f"interrupted{NOT_WITHDRAWN}"),),
    ),
    "program error": Exit(
        (RunEnd.PROGRAM_ERROR,
         f"Ended in the middle of its work: TypeError: x{WITHDRAWN}", True),
        IMAGE, ((SAFE_END, f"TypeError: x{WITHDRAWN}"),),
    ),
    "program error, not withdrawn": Exit(
        (RunEnd.PROGRAM_ERROR,
         f"{INSPECT}. Ended in the middle of its work: TypeError: x{NOT_WITHDRAWN}", False),
        IMAGE, ((UNSAFE_END, f"TypeError: x{NOT_WITHDRAWN}"),),
    ),
    "killed": Exit((RunEnd.KILLED, f"{INSPECT}. {KILLED}", False), IMAGE),
    "killed, simulated": Exit((RunEnd.KILLED, KILLED, True), IMAGE, config=SIM),
    "killed in a pause, withdrawn": Exit(
        (RunEnd.KILLED, KILLED, True), {"state": "pause"}, withdrawal="done"
    ),
    "killed in a withdrawal": Exit(
        (RunEnd.KILLED, f"{INSPECT}. {KILLED}", False), HOURS, withdrawal="intended"
    ),
    "killed after it was resumed": Exit(
        (RunEnd.KILLED, f"{INSPECT}. {KILLED}", False), IMAGE,
        ((SAFE_END, f"interrupted{WITHDRAWN}"),), resumed=True,
    ),
    "killed before the first transition": Exit(
        (RunEnd.KILLED, f"{INSPECT}. {KILLED}", False), None
    ),
    "at work": Exit((RunEnd.RUNNING, "At work", True), IMAGE, at_work=True),
    "at work on its end": Exit((RunEnd.RUNNING, "At work", True), HOURS, at_work=True),
    "paused": Exit(
        (RunEnd.PAUSED, "Paused", True), {"state": "pause"},
        (("pause", "asked to pause: withdrawing"),), at_work=True,
    ),
    "paused, not withdrawn": Exit(
        (RunEnd.PAUSED, f"{INSPECT}. Paused, but not withdrawn: motor off", False),
        {"state": "pause"}, (("pause", "not withdrawn: motor off"),), at_work=True,
    ),
    "being resumed": Exit(
        (RunEnd.RESUMING, "Getting ready to go on", True),
        IMAGE, ((SAFE_END, f"interrupted{WITHDRAWN}"),), at_work=True,
    ),
    "resumed": Exit(
        (RunEnd.RUNNING, "At work", True),
        {"state": "approach"}, ((UNSAFE_END, f"interrupted{NOT_WITHDRAWN}"),),
        at_work=True, resumed=True,
    ),
}  # fmt: skip


def make(exit_: Exit, folder: Path) -> InventedRun:
    """A run that has gone this exit_; it counts as at work until it is ended."""
    run = InventedRun(folder, exit_.config.to_yaml())
    write_settings(folder / "config.yaml", exit_.config)
    run.__enter__()
    if exit_.withdrawal:
        act = {"number": 1, "act": "withdraw", "time": 1.0}
        for result in dict.fromkeys(["intended", exit_.withdrawal]):
            run.journal.record_act(act | {"result": result})
    for kind, text in exit_.events:
        run.journal.add_event(0.0, kind, text)
    if exit_.resumed:
        record = SessionRecord(exit_.config.to_yaml(), "", "", {}, resumed=True)
        run.journal.begin_session(record, 1)
    if exit_.state is None:
        run.journal.keep()
    else:
        run.commit(**exit_.state)
    if not exit_.at_work:
        run.end()
    return run


@pytest.fixture(params=EXITS)
def exit_(request: pytest.FixtureRequest) -> Exit:
    return EXITS[request.param]


@pytest.fixture
def folder(exit_: Exit, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "a run"
    run = make(exit_, folder)
    yield folder
    run.end()


def ending_of(folder: Path) -> RunEnding:
    with reading(folder) as db:
        return run_ending(db, is_run_locked(folder))


def test_every_kind_of_end_is_in_the_table() -> None:
    assert {exit_.expected[0] for exit_ in EXITS.values()} | {RunEnd.KILLED_AT_ONCE} == {*RunEnd}


def test_the_journal_tells_how_a_run_ended(exit_: Exit, folder: Path) -> None:
    ending = ending_of(folder)
    assert (ending.kind, ending.sentence, ending.safe) == exit_.expected
    assert (ending.wall is None) is (ending.reason == "" or ending.kind is RunEnd.PAUSED)


def test_all_views_agree(exit_: Exit, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind, sentence, safe = exit_.expected
    with reading(folder) as db:
        status = run_status(db, folder)
        picture = draw_overview(db, folder, 0.9, PaintLog())
    if kind is RunEnd.RUNNING:  # then the views say what it does
        sentence = status.sentence
    assert (status.sentence, status.unsafe) == (sentence, not safe)
    drawn = {
        text.get_text().replace("\n", " "): text.get_color()
        for text in picture.findobj(matplotlib.text.Text)
    }
    assert (drawn[sentence] == ALARM) is not safe
    report = html.unescape(render_report(folder).html)
    marked = " trouble" * status.failed + " unsafe" * (not safe)
    assert f'<p class="status{marked}">{sentence}</p>' in report
    with watched(folder) as address, urlopen(address) as answer:
        page = html.unescape(answer.read().decode())
    assert f'id="sentence">{sentence}</p>' in page
    assert ("data-unsafe" in page) is not safe

    assert main(["journal", str(folder)]) in (0, 1)
    state = capsys.readouterr().out.splitlines()[0].partition(" ")[2].strip()
    if not safe:
        assert state == f"{UNSAFE_MARK} {sentence}"
    else:
        assert state == (sentence if kind.over else f"{(exit_.state or {})['state']}, not finished")
    assert main(["journal", "--json", str(folder)]) in (0, 1)
    printed = json.loads(capsys.readouterr().out)
    assert (printed["ending_kind"], printed["safe"]) == (kind, safe)
    assert (printed["finished"], printed["failed"]) == (kind.finished, status.failed)
    assert printed["ending"] in sentence
    if kind is not RunEnd.RUNNING:
        assert printed["ending_sentence"] == sentence


@pytest.mark.parametrize(
    "exit_",
    [name for name, exit_ in EXITS.items() if not (exit_.at_work or exit_.resumed)],
    indirect=True,
)
def test_stop_agrees(
    exit_: Exit, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, sentence, safe = exit_.expected
    monkeypatch.setattr("spm_gym.cli.stop.is_run_locked", answers(True, False))
    monkeypatch.setattr("spm_gym.cli.stop.last_event_number", lambda db: 0)
    killed = kind is RunEnd.KILLED
    assert main(["stop", str(folder)]) == (0 if safe and not killed else 2)
    printed = capsys.readouterr()
    if safe and not killed:
        assert printed.out.splitlines()[-1] == sentence
    else:
        mark = "" if safe else f"{UNSAFE_MARK} "
        assert printed.err.startswith(f"error: {mark}{sentence}")


def answers(*values: bool) -> Callable[[Path], bool]:
    left = iter(values)
    return lambda run: next(left)


def test_a_run_that_was_killed_before_it_did_anything_needs_nobody(tmp_path: Path) -> None:
    Journal(tmp_path, RunState.references, durable=False).close()
    assert ending_of(tmp_path) == RunEnding(RunEnd.KILLED_AT_ONCE)


def test_a_run_that_gave_up_and_was_resumed_does_not_read_as_one_that_went_through(
    tmp_path: Path,
) -> None:
    with InventedRun(tmp_path / "run", SIM.to_yaml()) as run:
        run.journal.add_event(0.0, GIVEN_UP, "6 troubles in a row")
        run.journal.add_event(0.0, SAFE_END, f"6 troubles in a row{WITHDRAWN}")
        run.commit(**FAILED)
        # Of the last session it is the end itself.
        run.end()
        first = ending_of(tmp_path / "run")
        assert (first.kind, first.earlier) == (RunEnd.GIVEN_UP, "")
    with Journal(tmp_path / "run", RunState.references, durable=False) as journal:
        journal.begin_session(SessionRecord(SIM.to_yaml(), "d", "", {}, True), 2)
        journal.add_event(0.0, SAFE_END, f"60 hours are over{WITHDRAWN}")
        state = RunState(State.STOP)
        state.ending.reason = "60 hours are over"
        journal.commit(state.to_json(), None)
    ending = ending_of(tmp_path / "run")
    assert ending.kind is RunEnd.COMPLETED
    earlier = "Before it was resumed it had given up: 6 troubles in a row"
    assert ending.sentence == f"Ended: 60 hours are over{WITHDRAWN}. {earlier}"
    assert f"{ending.sentence}</p>" in render_report(tmp_path / "run").html


def test_a_run_at_work_says_that_it_gave_up_before(tmp_path: Path) -> None:
    with InventedRun(tmp_path, SIM.to_yaml()) as run:
        for _ in range(2):
            run.journal.add_event(0.0, GIVEN_UP, "6 troubles in a row")
        run.journal.begin_session(SessionRecord(SIM.to_yaml(), "d", "", {}, True), 2)
        run.commit(state="image")
        with reading(tmp_path) as db:
            status = run_status(db, tmp_path)
    assert status.why.endswith("had given up 2 times, the last time: 6 troubles in a row.")


def test_an_end_from_before_the_request_to_stop_is_not_its_end(tmp_path: Path) -> None:
    exit_ = EXITS["interrupted"]
    make(exit_, tmp_path / "run").end()
    with reading(tmp_path / "run") as db:
        assert run_ending(db, False).kind is RunEnd.INTERRUPTED
        assert run_ending(db, False, after_event=1).kind is RunEnd.KILLED
