"""Faults occur at the configured rates and scans, and change nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.config.operation import FaultConfig
from spm_gym.errors import (
    ConnectionLost,
    ContactLost,
    InstrumentError,
    LimitExceeded,
    OutcomeUnknown,
    TipCrashed,
)
from spm_gym.imaging import Diagnosis, diagnose
from spm_gym.instrument.contract import Instrument, Restartable
from spm_gym.instrument.faults import FaultyMicroscope
from spm_gym.instrument.sim.dynamics import Shape
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.plain_state import from_bytes, to_bytes
from spm_gym.types import Dip, Direction, Frame, Pulse, Scan

NM = 1e-9
NONE: dict[str, Any] = {
    "lost_contact": 0,
    "crash": 0,
    "connection": 0,
    "outage": 0,
    "missing_lines": 0,
    "rough_region": 0,
}
OFTEN = NONE | {
    "lost_contact": 0.1,
    "crash": 0.1,
    "connection": 0.2,
    "outage": 0.5,
    "missing_lines": 0.2,
    "rough_region": 0.2,
}
CALM = SimulatorConfig(tip_change_rate=0, contact_loss_rate=0, crash_rate=0, rough_fraction=0)
QUIET = {
    "white_noise_pm": 0.0,
    "line_noise_pm": 0.0,
    "creep_fraction": 0.0,
    "drift_pm_per_s": 0.0,
}
HERE = Frame(20 * NM, -30 * NM, 10 * NM, 64)


def bare(area_nm: float = 120.0, **changes: Any) -> SimulatedMicroscope:
    """Small areas are made quickly."""
    return SimulatedMicroscope(CALM.model_copy(update=changes), area_nm)


def beset(
    microscope: SimulatedMicroscope,
    seed: int = 0,
    schedule: dict[int, str] | None = None,
    **rates: float,
) -> FaultyMicroscope:
    due = [{"scan": scan, "fault": fault} for scan, fault in (schedule or {}).items()]
    config = FaultConfig.model_validate(NONE | rates | {"schedule": due})
    return FaultyMicroscope(microscope, config, seed)


def faulty(seed: int = 0, schedule: dict[int, str] | None = None, **rates: Any) -> FaultyMicroscope:
    return beset(bare(), seed, schedule, **rates)


def same(this: Scan, other: Scan) -> bool:
    return this.started == other.started and np.array_equal(this.z, other.z, equal_nan=True)


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


def test_a_broken_connection_is_kept_in_the_state() -> None:
    microscope = faulty(schedule={1: "connection"})
    with pytest.raises(ConnectionLost):
        microscope.scan(HERE)
    other = faulty(schedule={1: "connection"})
    other.set_state(from_bytes(to_bytes(microscope.get_state())))
    with pytest.raises(ConnectionLost):
        other.status()
    other.reconnect()
    microscope.reconnect()
    assert same(other.scan(HERE), microscope.scan(HERE))


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


def test_a_connection_breaks_before_or_in_the_middle_of_a_scan() -> None:
    before = faulty().status().time
    whole = faulty()
    whole.scan(HERE)
    took = []
    for seed in range(40):
        microscope = faulty(seed, {1: "connection"})
        with pytest.raises(ConnectionLost):
            microscope.scan(HERE)
        microscope.reconnect()
        took.append(microscope.status().time - before)
    assert 8 <= took.count(0.0) <= 32
    assert len(set(took)) > 8
    assert max(took) < whole.status().time - before


def test_only_reconnect_wait_and_close_work_while_it_is_broken() -> None:
    microscope = faulty(schedule={1: "connection"})
    with pytest.raises(ConnectionLost):
        microscope.scan(HERE)
    state = repr(microscope.get_state())
    calls: list[Callable[[], Any]] = [
        microscope.status,
        lambda: microscope.scan(HERE),
        lambda: microscope.condition(Pulse(4.0), 0, 0),
        microscope.approach,
        microscope.withdraw,
        microscope.retract,
        lambda: microscope.move_area(Direction.X_PLUS),
    ]
    for call in calls:
        with pytest.raises(ConnectionLost, match="reconnect first"):
            call()
    assert repr(microscope.get_state()) == state
    time = microscope.microscope.status().time
    microscope.wait(10)
    microscope.close()
    microscope.reconnect()
    assert microscope.status().time == time + 10
    for call in calls[:-1]:
        if call == microscope.withdraw:
            microscope.approach()
        call()


ACTS: list[Callable[[Instrument], None]] = [
    lambda microscope: microscope.condition(Dip(1 * NM), 5 * NM, 5 * NM),
    lambda microscope: microscope.approach(),
    lambda microscope: microscope.withdraw(),
    lambda microscope: microscope.retract(),
    lambda microscope: microscope.move_area(Direction.Y_MINUS),
]


@pytest.mark.parametrize("act", ACTS, ids=["condition", "approach", "withdraw", "retract", "move"])
def test_a_connection_breaks_before_or_after_an_act(act: Callable[[Instrument], None]) -> None:
    """A lost act was not done, an unknown one was done exactly as without the fault."""
    untouched, done = bare(), bare()
    act(done)
    outcomes = Counter[type[Exception]]()
    for seed in range(40):
        microscope = faulty(seed, connection=1.0)
        with pytest.raises((ConnectionLost, OutcomeUnknown)) as info:
            act(microscope)
        expected = done if info.type is OutcomeUnknown else untouched
        assert repr(microscope.microscope.get_state()) == repr(expected.get_state())
        with pytest.raises(ConnectionLost, match="reconnect first"):
            microscope.status()
        outcomes[info.type] += 1
    assert 8 <= outcomes[OutcomeUnknown] <= 32


def test_a_connection_is_made_again_after_some_attempts() -> None:
    attempts = []
    for seed in range(300):
        microscope = faulty(seed, {1: "connection"}, outage=0.7)
        with pytest.raises(ConnectionLost):
            microscope.scan(HERE, 0.1)
        for attempt in range(1, 1000):
            try:
                microscope.reconnect()
            except ConnectionLost:
                with pytest.raises(ConnectionLost):
                    microscope.status()
            else:
                attempts.append(attempt)
                break
    # The mean of 300 geometric numbers with p = 0.3: 3.33 +- 0.16.
    assert len(attempts) == 300
    assert 2.5 < np.mean(attempts) < 4.2


def test_a_whole_connection_stays_whole() -> None:
    microscope = faulty(outage=0.99)
    for _ in range(20):
        microscope.reconnect()
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


def test_scheduled_debris_stays_where_it_is() -> None:
    microscope = faulty(schedule={2: "debris"})
    elsewhere = Frame(-40 * NM, 40 * NM, 10 * NM, 64)
    found = [diagnose(microscope.scan(frame)) for frame in (HERE, HERE, HERE, elsewhere, HERE)]
    rough, fine = Diagnosis.ROUGH, Diagnosis.FINE
    assert found == [fine, rough, rough, fine, rough]


def _rough_places(microscope: Instrument, places: np.ndarray[Any, Any]) -> list[bool]:
    frames = [Frame(x * NM, y * NM, 10 * NM, 32) for x, y in places]
    return [diagnose(microscope.scan(frame)) is Diagnosis.ROUGH for frame in frames]


def test_rough_regions_cover_their_share_and_belong_to_place_and_area() -> None:
    places = np.random.default_rng(0).uniform(-410, 410, (200, 2))
    microscope = beset(bare(850, **QUIET), 1, rough_region=0.3)
    first = _rough_places(microscope, places)
    assert first == _rough_places(microscope, places)
    assert first == _rough_places(beset(bare(850, **QUIET), 2, rough_region=0.3), places)
    microscope.move_area(Direction.X_PLUS)
    assert first != _rough_places(microscope, places)
    microscope.move_area(Direction.X_MINUS)
    assert first == _rough_places(microscope, places)
    assert not any(_rough_places(beset(bare(850, **QUIET)), places))
    # Patches are few and large, so the share varies from area to area.
    assert 0.1 < np.mean(first) < 0.55


def test_outside_rough_regions_nothing_changes() -> None:
    this, other = bare(850), beset(bare(850), rough_region=0.2)
    unchanged = 0
    for x, y in np.random.default_rng(0).uniform(-410, 410, (60, 2)):
        frame = Frame(x * NM, y * NM, 10 * NM, 32)
        unchanged += same(this.scan(frame), other.scan(frame))
    assert 20 < unchanged < 60


def test_rough_regions_come_besides_those_of_the_simulator() -> None:
    microscope = beset(bare(rough_fraction=0.1), rough_region=0.2).microscope
    assert microscope.config.rough_fraction == pytest.approx(0.28)


def test_rough_regions_come_to_areas_seen_before_and_leave_what_was_done_there() -> None:
    places = np.random.default_rng(0).uniform(-60, 60, (40, 2))
    places = places[np.hypot(*places.T) > 25]  # away from the traces of the pulse
    events = bare(**QUIET)
    events.surface.mark(Pulse(8.0), 0, 0, np.random.default_rng(0))
    kept = repr(events.surface.get_state())
    found = _rough_places(beset(events, rough_region=0.5), places)
    assert found == _rough_places(beset(bare(**QUIET), rough_region=0.5), places)
    assert any(found)
    assert repr(events.surface.get_state()) == kept


def test_scheduled_debris_leaves_what_was_done_there() -> None:
    microscope = faulty(schedule={1: "debris"})
    microscope.condition(Pulse(8.0), HERE.x, HERE.y)
    before = microscope.microscope.surface.get_state()
    microscope.scan(HERE)
    after = microscope.microscope.surface.get_state()
    assert np.array_equal(before["taken"], after["taken"])
    old, new = before["marks"], after["marks"]
    assert len(new) > len(old) > 0
    assert np.array_equal(old, new[: len(old)])


def test_faults_do_not_follow_the_dice_of_a_microscope_of_the_same_seed() -> None:
    state = faulty(0).get_state()
    for name in ("fate", "noise", "jumps"):
        assert state["rng"] != bare().get_state()[name]
