"""The status of a run in plain sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spm_gym.analysis.decisions import last_decision
from spm_gym.analysis.session import last_session
from spm_gym.analysis.status import Activity, RunStatus, status_of
from spm_gym.figures.scan_view import scan_view
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.instrument.driver import SETTINGS_BEFORE
from spm_gym.journal.reader import Label, reading
from spm_gym.journal.writer import Journal
from spm_gym.journal.writer import SessionRecord as Start
from spm_gym.runner.run_state import RunState, read_run_state
from spm_gym.types import Frame
from tests.support.invented_runs import DIP, NM, PULSE, InventedRun


def status_while(run: InventedRun, at_work: bool = True, **state: Any) -> RunStatus:
    run.commit(**state)
    with reading(run.journal.run) as db:
        return status_of(db, read_run_state(db), last_session(db), at_work, "a run")


def test_a_run_that_has_just_started_says_so(tmp_path: Path) -> None:
    with InventedRun(tmp_path) as run, reading(tmp_path) as db:
        started = status_of(db, None, last_session(db), True, "r")
        assert started.activity is Activity.STARTS
        assert started.sentence == "Getting ready for the first image"
        assert scan_view(db, run.journal.run, None, None, Preprocessing()) is None
        assert last_decision(db, last_session(db)) is None


def test_imaging_is_told_with_number_and_place(run: InventedRun) -> None:
    frame = Frame(120 * NM, -35 * NM, 10 * NM, 64, 0.0)
    assert status_while(run, state="image", images=411, frame=frame).sentence == (
        "Taking image 412 at 120, −35 nm"
    )
    assert status_while(run, state="partial", images=411, frame=frame).sentence == (
        "Settling at 120, −35 nm for image 412"
    )
    assert status_while(run, state="classify", images=412).sentence == "Classifying image 412"


def test_conditioning_is_told_with_action_and_reason(run: InventedRun) -> None:
    run.condition([PULSE, DIP, PULSE], outcome=None)
    state = {"episode": 1, "steps": 2, "bad_probe": 10, "images": 20}
    now = status_while(run, state="condition", **state)
    assert now.activity is Activity.CONDITIONS
    pulse = PULSE.replace(" ", "\N{NO-BREAK SPACE}")
    assert now.sentence == f"Conditioning: {pulse}, the third action of this episode"
    assert now.why == "Episode 1, started because ten images in a row showed a bad probe."
    counted = status_while(run, state="classify", **state).sentence
    assert counted == (
        f"Conditioning: classifying image 20 to see what {pulse} did, the third action of this "
        "episode"
    )
    coming = status_while(run, state="condition", **state | {"steps": 3}).sentence
    assert coming == "Conditioning: choosing the fourth action of this episode"


def test_recovery_is_told_with_trouble_and_bound(run: InventedRun) -> None:
    run.recovery("lost contact", None, "seen in the image")
    now = status_while(run, state="approach", trouble="lost contact", troubles=2)
    assert now.activity is Activity.RECOVERS
    assert now.sentence == "Recovering from lost contact: approaching"
    assert now.why.startswith("Seen in the image. The second trouble since the last usable image.")
    assert "More than 5 without a usable image" in now.why


def test_the_end_is_told_with_its_reason_and_how_to_go_on(run: InventedRun) -> None:
    assert "withdrawn before the end" in status_while(run, True, state="stop", ending="x").why
    text = "12 hours are over; tip left at the surface"
    run.journal.add_event(0.0, "end", text)
    now = status_while(run, False, state="stop", ending="12 hours are over")
    assert (now.activity, now.sentence, now.unsafe) == (Activity.ENDED, f"Ended: {text}", False)
    assert now.over
    assert now.why == "Go on with: spm-gym run --resume --run-dir 'a run'"
    run.journal.add_event(0.0, "end", "6 troubles in a row; tip withdrawn")
    failed = status_while(run, False, state="stop", ending="6 troubles in a row", failed=True)
    assert failed.activity is Activity.FAILED
    assert failed.sentence == "Given up: 6 troubles in a row; tip withdrawn"


@pytest.mark.parametrize("at_work", [True, False])
def test_a_tip_that_was_not_withdrawn_comes_before_all_else(
    run: InventedRun, at_work: bool
) -> None:
    run.journal.add_event(0.0, "unsafe end", "asked to stop; TIP NOT WITHDRAWN: motor off")
    now = status_while(run, at_work, state="stop", ending="asked to stop")
    assert (now.activity, now.unsafe) == (Activity.FAILED, True)
    assert now.sentence == (
        "Look at the instrument. Ended: asked to stop; TIP NOT WITHDRAWN: motor off"
    )
    run.journal.begin_session(Start("", "", "", {}, True), 1)
    assert not status_while(run, state="approach").unsafe


def test_a_killed_run_is_told_from_one_at_work(run: InventedRun) -> None:
    run.scan(Label.GOOD, 0.99)
    at_work, killed = status_while(run, state="image"), status_while(run, False, state="image")
    assert not at_work.over
    assert at_work.late_s == pytest.approx(600)
    assert killed.over
    assert killed.sentence == "Not at work: the program was killed, or its computer lost power"
    assert killed.since is not None
    run.journal.add_event(0.0, "end", "interrupted")
    ended = status_while(run, False, state="image")
    assert ended.sentence == "Ended in the middle of its work: interrupted"


def test_a_run_that_was_killed_before_it_did_anything_was_killed(tmp_path: Path) -> None:
    Journal(tmp_path, RunState.references, durable=False).close()
    with reading(tmp_path) as db:
        now = status_of(db, None, last_session(db), False, "a run")
    assert now.activity is Activity.CUT_OFF
    assert now.sentence == "Not at work: the program was killed before it had done anything"
    assert now.why == "Go on with: spm-gym run --resume --run-dir 'a run'"


@pytest.mark.parametrize("kept", [True, False])
def test_a_killed_run_names_what_restores_the_settings_that_it_has_kept(
    tmp_path: Path, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a run").mkdir()
    if kept:
        Path("a run", SETTINGS_BEFORE).touch()
    with InventedRun(tmp_path) as run:
        run.enter_area()
        for now in (status_while(run, False, state="image"), unsafe_end(run)):
            assert "spm-gym run --resume --run-dir 'a run'" in now.why
            assert ("spm-gym restore 'a run'" in now.why) is kept


def unsafe_end(run: InventedRun) -> RunStatus:
    run.journal.add_event(0.0, "unsafe end", "interrupted; TIP NOT WITHDRAWN: no connection")
    return status_while(run, False, state="stop")


def test_a_run_that_is_gone_on_with_is_not_said_to_work_before_it_does(run: InventedRun) -> None:
    run.journal.add_event(0.0, "end", "interrupted")
    assert status_while(run, state="image").sentence == "Getting ready to go on"
    run.journal.begin_session(Start("", "", "", {}, True), 1)
    assert status_while(run, state="image").sentence == "Taking image 1"


def test_a_paused_run_is_never_late(run: InventedRun) -> None:
    now = status_while(run, state="pause")
    assert (now.activity, now.late_s, now.over) == (Activity.PAUSED, None, False)


def test_a_pause_that_could_not_withdraw_says_so(run: InventedRun) -> None:
    run.journal.add_event(0.0, "pause", "asked to pause: withdrawing")
    assert not status_while(run, state="pause").unsafe
    run.journal.add_event(0.0, "pause", "not withdrawn: motor off")
    now = status_while(run, state="pause")
    assert now.unsafe
    assert now.sentence == "Look at the instrument. Paused, but not withdrawn: motor off"


@pytest.mark.parametrize("state", ["choose region", "settle", "clean", "recover", "change area",
                                   "diagnose", "collect"])  # fmt: skip
def test_every_state_has_a_sentence(run: InventedRun, state: str) -> None:
    assert status_while(run, state=state, trouble="crash" if state == "recover" else "").sentence
