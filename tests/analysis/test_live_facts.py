"""What the live page says: plain sentences and figures."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.analysis.decisions import last_decision
from spm_gym.analysis.events import event_log
from spm_gym.analysis.instrument_state import instrument
from spm_gym.analysis.lengths import histograms
from spm_gym.analysis.policies import policy_episodes
from spm_gym.analysis.progress import Progress, progress
from spm_gym.analysis.series import CODES, series
from spm_gym.analysis.session import Pace, RunSession, last_session
from spm_gym.analysis.status import Activity, RunStatus, status_of
from spm_gym.analysis.wording import ordinal, plural
from spm_gym.config import Config, load_config
from spm_gym.figures.scan_view import scan_view
from spm_gym.instrument.driver import SETTINGS_BEFORE
from spm_gym.journal.reader import Label, reading
from spm_gym.journal.writer import Journal
from spm_gym.journal.writer import SessionRecord as Start
from spm_gym.runner.run_state import RunState, read_run_state
from spm_gym.scale import duration_text
from spm_gym.types import Frame
from spm_gym.web.monitor_words import percent, quantity, whole_percent
from tests.support.invented_runs import DIP, HOSTILE, NM, PULSE, InventedRun


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InventedRun]:
    """A run that has started, with the settings of a real one."""
    with InventedRun(tmp_path, load_config(None, ["operation.scans=100"]).to_yaml()) as run:
        run.enter_area()
        yield run


def status_while(run: InventedRun, at_work: bool = True, **state: Any) -> RunStatus:
    run.commit(**state)
    with reading(run.journal.run) as db:
        return status_of(db, read_run_state(db), last_session(db), at_work, "a run")


def test_a_run_that_has_just_started_says_so(tmp_path: Path) -> None:
    with InventedRun(tmp_path) as run, reading(tmp_path) as db:
        started = status_of(db, None, last_session(db), True, "r")
        assert started.activity is Activity.STARTS
        assert started.sentence == "Getting ready for the first image"
        assert scan_view(db, run.journal.run, None, None, "levels") is None
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


def test_the_end_is_estimated_from_the_pace(run: InventedRun) -> None:
    for number in range(10):
        run.scan(Label.GOOD if number else Label.BAD_PROBE, 0.99)
    run.commit(elapsed=200.0)
    settings = Config.model_validate({"operation": {"hours": 1.0, "scans": 1000}})
    session = RunSession(1, 0.0, settings, Pace(operation=10.0, image_s=2.0))
    with reading(run.journal.run) as db:
        counted = progress(db, read_run_state(db), session, now=1e9)
        assert (counted.images, counted.good, counted.classified, counted.areas) == (10, 9, 10, 1)
        assert counted.recent == pytest.approx(0.9)
        assert counted.bound == "1 h"
        assert counted.share == pytest.approx(200 / 3600)
        assert counted.ends == pytest.approx(1e9 + 340)
        assert progress(db, read_run_state(db), session, None).ends is None
        unreadable = RunSession(1, 0.0, None, None)
        assert progress(db, read_run_state(db), unreadable, 1e9).share is None


def test_of_two_bounds_the_earlier_end_counts_though_less_of_it_is_over(run: InventedRun) -> None:
    run.scan(Label.GOOD, 0.99)
    run.commit(elapsed=3000.0)  # settling and trouble took almost all of it
    settings = Config.model_validate({"operation": {"hours": 1.0, "scans": 3}})

    def counted(pace: Pace | None) -> Progress:
        with reading(run.journal.run) as db:
            return progress(db, read_run_state(db), RunSession(1, 0.0, settings, pace), now=1e9)

    fast, slow = counted(Pace(1.0, image_s=60.0)), counted(Pace(1.0, image_s=500.0))
    assert (fast.bound, fast.share, fast.ends) == ("3 images", pytest.approx(1 / 3), 1e9 + 120)
    assert (slow.bound, slow.share, slow.ends) == ("1 h", pytest.approx(3000 / 3600), 1e9 + 600)
    unknown = counted(None)
    assert (unknown.bound, unknown.ends) == ("1 h", None)


def test_a_pause_does_not_slow_a_run_down(run: InventedRun) -> None:
    for _ in range(10):
        run.scan(Label.GOOD, 0.99)
    run.journal.add_event(0.0, "pause", "asked to pause: withdrawing")
    run.journal.add_event(0.0, "pause", "not withdrawn: no answer")
    run.journal.add_event(0.0, "pause", "goes on")
    run.journal.add_event(0.0, "area", "changed")
    run.commit()

    def pace(paused: bool) -> Pace | None:
        """Pace with an image every 4 s, but for an hour after the sixth."""
        db = run.journal._db
        for number in range(1, 11):
            late = 3600 if number > 6 else 0
            wall = 1000 + 4 * number + late
            db.execute("UPDATE scans SET wall = ? WHERE id = ?", (wall, number))
        walls = [1025, 1026, 4624, 1030] if paused else [0, 0, 9999, 1030]
        for number, wall in enumerate(walls, 1):
            db.execute("UPDATE events SET wall = ? WHERE id = ?", (wall, number))
        run.commit()
        with reading(run.journal.run) as other:
            return last_session(other).pace

    assert pace(paused=True) == Pace(operation=pytest.approx(5.0), image_s=pytest.approx(4.0))
    slow = pace(paused=False)
    assert slow is not None
    assert slow.image_s == pytest.approx((3600 + 36) / 9)
    assert slow.operation == pytest.approx(180 / 3636)


def test_the_pace_is_that_of_the_last_session(run: InventedRun) -> None:
    for number in range(9):
        run.scan(Label.GOOD, 0.99)
        time.sleep(0.001 * (number + 1))
    run.commit()
    with reading(run.journal.run) as db:
        pace = last_session(db).pace
        walls = [wall for (wall,) in db.execute("SELECT wall FROM scans ORDER BY id")]
    assert pace is not None
    assert pace.image_s == pytest.approx((walls[-1] - walls[0]) / 8)
    assert pace.operation == pytest.approx(160 / (walls[-1] - walls[0]))


def test_the_instrument_is_what_was_last_seen_of_it(run: InventedRun) -> None:
    run.scan(Label.GOOD, 0.99)
    noted = {"z": -9e-8, "current": 2.5e-11, "approached": True}
    run.journal.record_act({"number": 1, "act": "pulse", "time": 5.0, "result": "intended"} | noted)
    run.commit(in_contact=True)
    with reading(run.journal.run) as db:
        found = instrument(db, read_run_state(db), at_work=True)
        assert (found.in_contact, found.z, found.current, found.wall) == (
            True,
            -9e-8,
            2.5e-11,
            5.0,
        )
        assert (found.bias, found.setpoint) == (1.0, 25e-12)
        assert instrument(db, read_run_state(db), at_work=False).in_contact is None


def test_a_decision_is_told_with_values_mask_and_outcome(run: InventedRun) -> None:
    values = [float(number) for number in range(12)]
    run.condition([PULSE], values=values, mask=[True] * 11 + [False])
    run.commit()
    with reading(run.journal.run) as db:
        decision = last_decision(db, last_session(db))
    assert decision is not None
    assert [choice.value for choice in decision.choices] == values[::-1]
    best = decision.choices[0]
    assert (best.name, best.allowed) == ("dip 5.0 nm", False)
    assert best.why_not == "needs 4 nm clean, there were 3.0 nm"
    assert decision.explanation == "Drawn to explore; the agent expects more of dip 2.5 nm."
    assert decision.result == "Probability of a good probe 0.100 → 0.950. The probe is good."
    assert [step.name for step in decision.steps] == [PULSE]
    assert decision.outcome == "good"


def test_a_decision_by_random_has_no_values(run: InventedRun) -> None:
    run.condition([PULSE], outcome=None, mask=[True, False, True])
    run.commit()
    with reading(run.journal.run) as db:
        decision = last_decision(db, last_session(db))
    assert decision is not None
    assert decision.policy == "random"
    assert decision.explanation == "Drawn at random from the 2 allowed actions."
    assert all(math.isnan(choice.value) for choice in decision.choices)


@given(st.lists(st.tuples(st.sampled_from([*CODES, Label.UNUSABLE]), st.floats(0, 1)), max_size=30),
       st.integers(0, 30))  # fmt: skip
def test_the_series_can_be_put_together_from_parts(
    tmp_path_factory: pytest.TempPathFactory,
    scans: list[tuple[Label, float]],
    cut: int,
) -> None:
    with InventedRun(tmp_path_factory.mktemp("run")) as run:
        run.enter_area()
        for label, probability in scans:
            run.scan(label, None if label is Label.UNUSABLE else probability)
        run.commit()
        with reading(run.journal.run) as db:
            parts = [series(db, 0)]
            whole = unpacked(parts[0], 0, 0)
            assert whole == [
                (number, 20 * number, round(1000 * probability), CODES.index(label))
                for number, (label, probability) in enumerate(scans, 1)
                if label in CODES
            ]
            some = [row for row in whole if row[0] <= cut]
            after = some[-1][0] if some else 0
            assert some + unpacked(series(db, after), after, 20 * after) == whole


def unpacked(news: dict[str, Any], scan: int, second: int) -> list[tuple[int, int, int, int]]:
    news = json.loads(json.dumps(news))
    scans = scan + np.cumsum(news["scans"])
    seconds = second + np.cumsum(news["seconds"])
    columns = (scans.tolist(), seconds.tolist(), news["probabilities"], news["labels"])
    return [(a, b, c, d) for a, b, c, d in zip(*columns, strict=True)]


def test_an_undecided_image_waits_for_its_label(run: InventedRun) -> None:
    run.scan(Label.GOOD, 0.99)
    undecided = run.scan(None, 0.4)
    run.commit()
    with reading(run.journal.run) as db:
        assert series(db, 0)["last"] == undecided - 1
    run.journal.label_scan(undecided, Label.BAD_PROBE)
    run.commit()
    with reading(run.journal.run) as db:
        assert series(db, undecided - 1)["scans"] == [1]


def test_events_come_newest_first_and_can_be_chosen(run: InventedRun) -> None:
    for number in range(60):
        run.journal.add_event(0.0, "trouble" if number % 3 else HOSTILE, f"event {number}")
    run.commit()
    with reading(run.journal.run) as db:
        log = event_log(db, "", 30)
        assert [row["text"] for row in log.rows[:2]] == ["event 59", "event 58"]
        assert (len(log.rows), log.more, log.kinds["trouble"]) == (30, 30, 40)
        chosen = event_log(db, HOSTILE, 30)
        assert {row["kind"] for row in chosen.rows} == {HOSTILE}
        assert chosen.more == 0


def test_histograms_of_agent_and_random_share_their_axis(run: InventedRun) -> None:
    run.condition([PULSE] * 5, values=[0.0] * 12, mask=[True] * 12)
    run.condition([PULSE], mask=[True] * 12)
    run.commit()
    with reading(run.journal.run) as db:
        bars = histograms(policy_episodes(db))
    assert set(bars) == {"agent", "random"}
    assert [bar.words for bar in bars["agent"]] == [*"12345678"]
    assert [bar.number for bar in bars["agent"]] == [0, 0, 0, 0, 1, 0, 0, 0]
    assert [bar.number for bar in bars["random"]] == [1, 0, 0, 0, 0, 0, 0, 0]


def test_numbers_are_written_as_people_do() -> None:
    assert quantity(25e-12, "A") == "25\N{NO-BREAK SPACE}pA"
    assert quantity(-9.14e-8, "m") == "−91.4\N{NO-BREAK SPACE}nm"
    assert quantity(0.0, "A") == "0\N{NO-BREAK SPACE}A"
    assert quantity(math.nan, "m") == "unknown"
    assert quantity(0.9997e-9, "A") == "1\N{NO-BREAK SPACE}nA"
    assert quantity(-999.7e-12, "m") == "−1\N{NO-BREAK SPACE}nm"
    assert [duration_text(each) for each in (0, 59.4, 59.6, 3560, 3599, 5400)] == [
        "0 s", "59 s", "1 min", "59 min", "1.0 h", "1.5 h"]  # fmt: skip
    assert [whole_percent(share)[:-2] for share in (0.0, 0.29, 0.996, 1.0)] == [
        "0", "29", "99", "100"]  # fmt: skip
    assert percent(None) == "–"
    assert [ordinal(number) for number in (1, 11, 21, 22, 113)] == [
        "first", "11th", "21st", "22nd", "113th"]  # fmt: skip
    assert [plural(1, "image"), plural(10, "image")] == ["one image", "ten images"]
