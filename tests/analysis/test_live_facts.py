"""Facts on the live page: instrument, decisions, series, events, numbers."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.analysis.action_effects import achievements
from spm_gym.analysis.decisions import last_decision
from spm_gym.analysis.events import event_log
from spm_gym.analysis.forecasts import read_forecast, step_seconds
from spm_gym.analysis.instrument_state import instrument
from spm_gym.analysis.lengths import histograms
from spm_gym.analysis.policies import policy_episodes
from spm_gym.analysis.series import CODES, series
from spm_gym.analysis.session import last_session
from spm_gym.analysis.wording import ordinal, plural
from spm_gym.journal.reader import JournalError, Label, reading
from spm_gym.runner.run_state import read_run_state
from spm_gym.scale import duration_text, quantity_text
from spm_gym.types import Forecast
from spm_gym.web.monitor_words import percent, whole_percent
from spm_gym.web.report import render_report
from tests.support.invented_runs import DIP, HOSTILE, PULSE, InventedRun


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


def forecast(*to_go: float) -> Forecast:
    """Of an agent that is nearly sure of a double tip."""
    belief = np.zeros(16)
    belief[[8, 4, 1]] = 0.8, 0.19, 0.01
    good = [0.9 / actions for actions in to_go]
    return Forecast(tuple(belief.tolist()), tuple(good), to_go)


def test_a_belief_is_told_with_what_is_expected_of_every_action(run: InventedRun) -> None:
    run.condition([PULSE, DIP], forecast=forecast(*range(12, 0, -1)), mask=[True] * 11 + [False])
    run.commit()
    with reading(run.journal.run) as db:
        decision = last_decision(db, last_session(db))
        # The invented microscope takes 20 s for a scan.
        assert step_seconds(db) == 20.0
    assert decision is not None
    assert decision.belief == [("double", 0.8), ("weak", pytest.approx(0.19))]
    assert [choice.actions_to_go for choice in decision.choices] == list(range(1, 13))
    assert decision.choices[2].seconds_to_go == 60.0
    assert decision.choices[2].good == pytest.approx(0.3)
    assert decision.explanation.startswith("Chosen to explore")
    assert "dip 2.5 nm is the shortest way" in decision.explanation


def test_a_damaged_forecast_is_an_error_of_the_journal(run: InventedRun) -> None:
    for text in ("{", "[]", '{"belief": 1}', '{"belief": [NaN], "good": [], "actions_to_go": []}'):
        with pytest.raises(JournalError, match="forecast"):
            read_forecast(text)
    assert read_forecast(None) is None


def test_effects_say_how_often_a_good_probe_was_expected(run: InventedRun) -> None:
    run.condition([PULSE, PULSE, DIP], forecast=forecast(*[3.0] * 12))
    run.condition([DIP])
    run.commit()
    with reading(run.journal.run) as db:
        found = {each.name: each.expected for each in achievements(db)}
    assert found == {PULSE: pytest.approx(0.3), DIP: pytest.approx(0.3)}
    html = render_report(run.journal.run).html
    assert "when it believed the probe to be double (80 %) or weak (19 %)" in html


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
    assert quantity_text(25e-12, "A") == "25\N{NO-BREAK SPACE}pA"
    assert quantity_text(-9.14e-8, "m") == "−91.4\N{NO-BREAK SPACE}nm"
    assert quantity_text(0.0, "A") == "0\N{NO-BREAK SPACE}A"
    assert quantity_text(math.nan, "m") == "unknown"
    assert quantity_text(0.9997e-9, "A") == "1\N{NO-BREAK SPACE}nA"
    assert quantity_text(-999.7e-12, "m") == "−1\N{NO-BREAK SPACE}nm"
    assert [duration_text(each) for each in (0, 59.4, 59.6, 3560, 3599, 5400)] == [
        "0 s", "59 s", "1 min", "59 min", "1.0 h", "1.5 h"]  # fmt: skip
    assert [whole_percent(share)[:-2] for share in (0.0, 0.29, 0.996, 1.0)] == [
        "0", "29", "99", "100"]  # fmt: skip
    assert percent(None) == "–"
    assert [ordinal(number) for number in (1, 11, 21, 22, 113)] == [
        "first", "11th", "21st", "22nd", "113th"]  # fmt: skip
    assert [plural(1, "image"), plural(10, "image")] == ["one image", "ten images"]
