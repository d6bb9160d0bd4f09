"""Faults occur at the configured rates and scans, and change nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.errors import (
    ConnectionLost,
    ContactLost,
    InstrumentError,
    LimitExceeded,
    TipCrashed,
)
from spm_gym.imaging import Diagnosis, diagnose
from spm_gym.instrument.contract import Instrument, Restartable
from spm_gym.instrument.faults import FaultyMicroscope
from spm_gym.instrument.sim.dynamics import Shape
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.plain_state import from_bytes, to_bytes
from spm_gym.types import Direction, Frame, Pulse
from tests.support.faulty import NONE, bare, beset, faulty

NM = 1e-9
OFTEN = NONE | {
    "lost_contact": 0.1,
    "crash": 0.1,
    "connection": 0.2,
    "outage": 0.5,
    "missing_lines": 0.2,
    "rough_region": 0.2,
}
HERE = Frame(20 * NM, -30 * NM, 10 * NM, 64)


def recovered(microscope: FaultyMicroscope) -> None:
    """Do what a runner would do after trouble."""
    while True:
        try:
            microscope.reconnect()
            microscope.withdraw()
            microscope.approach()
        except InstrumentError:
            continue
        return


def session(microscope: Instrument, rounds: int, seed: int = 5) -> list[Any]:
    """Scan and act in every round; return the results, or the errors in between."""
    rng = np.random.default_rng(seed)
    events: list[Any] = []
    for number in range(rounds):
        x, y = rng.uniform(-60 * NM, 60 * NM, 2)
        frame = Frame(x, y, 10 * NM, 16, float(rng.uniform(-1, 1)))
        acts: list[Callable[[], Any]] = [
            lambda frame=frame: microscope.scan(frame, 0.25).z.tobytes(),  # type: ignore[misc]
            lambda frame=frame: microscope.scan(frame).z.tobytes(),  # type: ignore[misc]
            lambda frame=frame: microscope.condition(Pulse(4.0), frame.x, frame.y),  # type: ignore[misc]
            lambda: microscope.wait(60.0),
        ]
        if number % 10 == 9:
            acts += [microscope.retract, lambda: microscope.move_area(Direction.X_PLUS)]
        for act in acts:
            try:
                events.append(act())
                events.append(repr(microscope.status()))
            except InstrumentError as error:
                events.append(repr(error))
                if isinstance(microscope, FaultyMicroscope):
                    recovered(microscope)
    return events


def test_it_is_an_instrument_that_can_be_restarted() -> None:
    instrument: Instrument = faulty()
    restartable: Restartable = faulty()
    assert isinstance(instrument, Restartable)
    assert isinstance(restartable, FaultyMicroscope)
    assert restartable.truth == restartable.microscope.truth


def test_without_faults_it_is_the_microscope_bit_for_bit() -> None:
    """With the simulator's own accidents and bad sample, too."""
    config = SimulatorConfig(tip_change_rate=0.2, rough_fraction=0.1)
    this = SimulatedMicroscope(config, 120.0, seed=4)
    other = beset(SimulatedMicroscope(config, 120.0, seed=4), seed=4)
    events = session(this, 30)
    assert events == session(other, 30)
    assert repr(this.get_state()) == repr(other.get_state()["microscope"])
    assert not any("Error" in str(entry) for entry in events)


def test_the_seed_decides_everything() -> None:
    sessions = [session(faulty(seed, **OFTEN), 20) for seed in (1, 1, 2)]
    assert sessions[0] == sessions[1]
    assert sessions[0] != sessions[2]


def test_a_restart_is_a_new_beginning() -> None:
    microscope = faulty(1, {3: "crash"}, **OFTEN)
    session(microscope, 5)
    microscope.restart(7)
    again = session(microscope, 5)
    other = faulty(2, {3: "crash"}, **OFTEN)
    other.restart(7)
    assert again == session(other, 5)


@pytest.mark.parametrize("after", [0, 3, 11])
def test_a_kept_state_goes_on_bit_for_bit(after: int) -> None:
    schedule = {20: "debris", 30: "missing lines"}
    microscope = faulty(1, schedule, **OFTEN)
    session(microscope, after)
    state = from_bytes(to_bytes(microscope.get_state()))
    expected = session(microscope, 12, seed=6)
    other = faulty(99, schedule, **OFTEN)
    other.microscope.restart(99)
    other.set_state(state)
    assert session(other, 12, seed=6) == expected
    assert repr(other.get_state()) == repr(microscope.get_state())


@pytest.mark.parametrize(
    ("fault", "diagnosis"),
    [
        ("lost contact", Diagnosis.LOST_CONTACT),
        ("crash", Diagnosis.CRASH),
        ("missing lines", Diagnosis.PARTIAL),
        ("debris", Diagnosis.ROUGH),
    ],
)
def test_every_fault_looks_like_one(fault: str, diagnosis: Diagnosis) -> None:
    """Almost always: a fault in the last lines, or of few lines, may pass."""
    counts = Counter(diagnose(faulty(seed, {1: fault}).scan(HERE)) for seed in range(40))
    assert counts[diagnosis] >= 30
    assert diagnose(faulty().scan(HERE)) is Diagnosis.FINE


@pytest.mark.parametrize("fault", ["lost contact", "crash"])
@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_an_accident_saturates_the_rest_of_the_scan(fault: str, fraction: float) -> None:
    began = set()
    for seed in range(12):
        microscope = faulty(seed, {1: fault})
        scan = microscope.scan(HERE, fraction)
        lines = round(64 * fraction)
        assert np.isfinite(scan.z[:lines]).all()
        assert np.isnan(scan.z[lines:]).all()
        assert scan.z_range is not None
        end = scan.z_range[0 if fault == "lost contact" else 1]
        at_end = (np.abs(scan.z[:lines] - end) < 1e-11).all(axis=1)
        first = int(np.argmax(at_end))
        assert at_end.any()
        assert at_end[first:].all()
        assert np.array_equal(scan.z[:first], faulty().scan(HERE, fraction).z[:first])
        assert microscope.microscope.fault == fault
        began.add(first)
    assert len(began) > 4


def test_what_an_accident_leaves_is_that_of_the_microscope() -> None:
    lost = faulty(schedule={1: "lost contact"})
    lost.scan(HERE)
    assert lost.status().current == 0
    with pytest.raises(ContactLost):
        lost.condition(Pulse(4.0), 0, 0)
    lost.approach()
    assert diagnose(lost.scan(HERE)) is Diagnosis.FINE
    crashed = faulty(schedule={1: "crash"})
    crashed.scan(HERE)
    with pytest.raises(TipCrashed):
        crashed.approach()
    crashed.retract()
    crashed.approach()
    assert crashed.truth.shape is Shape.MULTIPLE


def test_an_accident_does_not_undo_another() -> None:
    microscope = faulty(schedule={1: "crash", 2: "lost contact"})
    microscope.scan(HERE)
    microscope.scan(HERE)
    assert microscope.microscope.fault == "crash"


@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_missing_lines_are_one_block_anywhere_in_the_scan(fraction: float) -> None:
    lines = round(64 * fraction)
    whole = faulty().scan(HERE, fraction).z
    ends, shares = [], []
    for seed in range(40):
        z = faulty(seed, {1: "missing lines"}).scan(HERE, fraction).z
        gone = np.flatnonzero(np.isnan(z[:lines]).all(axis=1))
        assert (np.diff(gone) == 1).all()
        there = np.setdiff1d(np.arange(64), gone)
        assert np.array_equal(z[there], whole[there], equal_nan=True)
        ends.append(gone[-1] == lines - 1)
        shares.append(len(gone) / lines)
    assert 0 < np.sum(ends) < 20
    assert 0.03 <= min(shares) < 0.2
    assert 0.45 < max(shares) <= 0.63


def test_no_fault_occurs_in_a_scan_of_no_lines_or_an_impossible_one() -> None:
    for fault in ("lost contact", "crash", "connection", "missing lines"):
        microscope = faulty(schedule={1: fault, 2: fault, 3: fault, 4: fault})
        assert np.isnan(microscope.scan(HERE, 0.0).z).all()
        for fraction in (-0.5, 1.5, float("nan")):
            with pytest.raises(ValueError, match="fraction must be"):
                microscope.scan(HERE, fraction)
        assert microscope.status().approached


@pytest.mark.parametrize("fault", ["crash", "lost contact", "missing lines"])
def test_what_the_microscope_refuses_is_refused(fault: str) -> None:
    microscope = faulty(1, {1: fault, 2: fault})
    microscope.withdraw()
    with pytest.raises(ContactLost):
        microscope.scan(HERE)
    microscope.approach()
    with pytest.raises(LimitExceeded):
        microscope.scan(Frame(1e-3, 0, 10 * NM, 64))
    assert microscope.microscope.fault == ""
    assert microscope.status().approached


def test_faults_come_as_often_as_they_should() -> None:
    rates: dict[str, Any] = {
        "lost_contact": 0.1,
        "crash": 0.05,
        "connection": 0.15,
        "missing_lines": 0.2,
    }
    small = Frame(0, 0, 10 * NM, 8)
    microscope = faulty(4, **rates)
    events: Counter[str] = Counter()
    scans = 3000
    for _ in range(scans):
        try:
            scan = microscope.scan(small)
        except ConnectionLost:
            events["connection"] += 1
            microscope.reconnect()
            continue
        if microscope.microscope.fault:
            events[microscope.microscope.fault.replace(" ", "_")] += 1
            microscope.microscope.withdraw()
            microscope.microscope.approach()
        elif np.isnan(scan.z).any():
            events["missing_lines"] += 1
    for fault, rate in rates.items():
        # Seven standard deviations; a small image can lose no line at all.
        spread = 7 * np.sqrt(rate * (1 - rate) / scans)
        low = rate * 0.9 if fault == "missing_lines" else rate
        assert low - spread < events[fault] / scans < rate + spread, fault


def test_acts_fail_as_often_as_they_should() -> None:
    microscope = faulty(4, connection=0.2)
    failed = 0
    for _ in range(2000):
        try:
            microscope.approach()
        except InstrumentError:
            failed += 1
            microscope.reconnect()
    assert 0.14 < failed / 2000 < 0.26


def test_scheduled_faults_strike_at_their_scans_and_once() -> None:
    schedule = {2: "lost contact", 4: "connection", 5: "missing lines", 7: "crash"}
    microscope = faulty(3, schedule)
    events: dict[int, str] = {}
    for number in range(1, 11):
        try:
            scan = microscope.scan(HERE, 0.5 if number == 1 else 1.0)
        except ConnectionLost:
            events[number] = "connection"
            with pytest.raises(ConnectionLost):
                microscope.scan(HERE)
            microscope.reconnect()
            continue
        if microscope.microscope.fault:
            events[number] = microscope.microscope.fault
            microscope.withdraw()
            microscope.approach()
        elif number > 1 and np.isnan(scan.z).any():
            events[number] = "missing lines"
    assert events == schedule


def test_faults_do_not_follow_the_dice_of_a_microscope_of_the_same_seed() -> None:
    state = faulty(0).get_state()
    for name in ("fate", "noise", "jumps"):
        assert state["rng"] != bare().get_state()[name]


@pytest.mark.parametrize(
    ("fault", "diagnosis"),
    [
        ("lost contact", Diagnosis.LOST_CONTACT),
        ("crash", Diagnosis.CRASH),
        ("missing lines", Diagnosis.PARTIAL),
        ("debris", Diagnosis.ROUGH),
    ],
)
def test_faults_strike_previews_too(fault: Any, diagnosis: Diagnosis) -> None:
    scan = faulty(3, schedule={1: fault}).scan(replace(HERE, lines=16))
    assert scan.z.shape == (16, 64)
    assert diagnose(scan) is diagnosis


def test_a_broken_connection_counts_the_lines_of_a_preview() -> None:
    for seed in range(12):
        microscope = faulty(seed, schedule={1: "connection"})
        before = microscope.microscope.status().time
        with pytest.raises(ConnectionLost, match=r"before the scan|of 16 lines"):
            microscope.scan(replace(HERE, lines=16))
        # Four seconds for all of it, and somewhat for the way there.
        assert microscope.microscope.status().time - before < 5
