"""A scan in progress, advanced in parts as a controller does it, is the scan done at once."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.config import SimulatorConfig
from spm_gym.errors import ContactLost, InstrumentError, LimitExceeded
from spm_gym.instrument.sim.dynamics import HiddenState, Shape
from spm_gym.instrument.sim.rounding import sent_frame, single
from spm_gym.instrument.sim.running_scan import RunningScan, draw_events
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Dip, Frame, Pulse, Scan

NM = 1e-9
CALM = SimulatorConfig(tip_change_rate=0, contact_loss_rate=0, crash_rate=0, rough_fraction=0)
QUIET: dict[str, Any] = {
    "white_noise_pm": 0.0,
    "line_noise_pm": 0.0,
    "creep_fraction": 0.0,
    "drift_pm_per_s": 0.0,
}
HERE = Frame(30 * NM, -20 * NM, 10 * NM, 64)


def microscope(seed: int = 0, **changes: Any) -> SimulatedMicroscope:
    return SimulatedMicroscope(CALM.model_copy(update=changes), seed=seed)


def in_parts(running: RunningScan, parts: list[int]) -> Scan:
    for lines in parts:
        running.advance(lines)
    return running.scan()


def same(this: Scan, other: Scan) -> bool:
    return np.array_equal(this.z, other.z, equal_nan=True)


def equal_but_for_rounding(this: Scan, other: Scan) -> bool:
    """Equal in double precision up to 1e-15 m: a few heights may be rounded to the next number."""
    apart = np.abs(this.z - other.z)
    return bool((apart <= np.spacing(np.abs(this.z))).all() and np.mean(apart > 0) < 1e-3)


@pytest.mark.parametrize("upward", [False, True])
@pytest.mark.parametrize("parts", [list(range(65)), [1, 17, 17, 40, 64], [63, 64]])
@pytest.mark.parametrize(
    "state",
    [HiddenState(), HiddenState(Shape.DOUBLE), HiddenState(unstable=True)],
    ids=["good", "double", "unstable"],
)
def test_parts_make_the_whole(state: HiddenState, parts: list[int], upward: bool) -> None:
    scans, after = [], []
    for advances in (parts, [64]):
        this = microscope(seed=2, tip_change_rate=1.0)
        this.set_probe(state)
        scans.append(in_parts(this.begin_scan(HERE, upward), advances))
        after.append(this.get_state())
    assert equal_but_for_rounding(*scans)
    assert repr(after[0]) == repr(after[1])


@pytest.mark.parametrize("upward", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_reading_in_mid_scan_leaves_no_trace(seed: int, upward: bool) -> None:
    """Bit for bit, on rough ground, with any probe, through tip changes and accidents."""
    lively = {"tip_change_rate": 1.0, "contact_loss_rate": 0.5, "crash_rate": 0.5,
              "rough_fraction": 0.5}  # fmt: skip
    for state in map(HiddenState.of, range(16)):
        scans, after = [], []
        for reads in ([5, 17, 18, 50], []):
            this = microscope(seed, **lively)
            this.set_probe(state)
            running = this.begin_scan(HERE, upward)
            for lines in reads:
                running.advance(lines, render_ahead=True)
                assert np.isfinite(running.scan().z).sum() == lines * 64
            running.advance(64)
            scans.append(running.scan())
            after.append(repr(this.get_state()))
        assert same(*scans)
        assert after[0] == after[1]


def test_a_rim_filter_is_all_that_tells_parts_from_the_whole() -> None:
    """A negative control: contaminated probes have the filter, and it does see the border."""
    scans = []
    for advances in ([32, 64], [64]):
        this = microscope()
        this.set_probe(HiddenState(contaminated=True))
        scans.append(in_parts(this.begin_scan(HERE), advances))
    assert not equal_but_for_rounding(*scans)
    assert np.abs(scans[0].z - scans[1].z).max() < 100e-12


@pytest.mark.parametrize("fault", ["lost contact", "crash"])
def test_an_accident_begins_at_the_same_line_in_parts(fault: str) -> None:
    rate = {"lost contact": "contact_loss_rate", "crash": "crash_rate"}[fault]
    scans = []
    for advances in ([10, 20, 30, 40, 50, 64], [64]):
        this = microscope(seed=3, **{rate: 1.0})
        scans.append(in_parts(this.begin_scan(HERE), advances))
        assert this.fault == fault
    assert equal_but_for_rounding(*scans)
    assert 0 < np.isclose(scans[0].z[:, 0], scans[0].z[-1, 0], atol=1e-12).sum() < 64


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.3, 1.0])
def test_a_scan_is_a_running_scan_up_to_its_fraction(fraction: float) -> None:
    scan = microscope().scan(HERE, fraction)
    running = microscope().begin_scan(HERE)
    running.advance(math.ceil(64 * fraction))
    assert same(scan, running.scan())
    assert np.isfinite(scan.z).all(axis=1).sum() == math.ceil(64 * fraction)


def test_row_0_is_the_top_whichever_way_the_scan_runs() -> None:
    down, up = (microscope(**QUIET).begin_scan(HERE, upward) for upward in (False, True))
    for running in (down, up):
        running.advance(16)
    assert np.isfinite(down.scan().z[:16]).all()
    assert np.isnan(down.scan().z[16:]).all()
    assert np.isfinite(up.scan().z[48:]).all()
    assert np.isnan(up.scan().z[:48]).all()
    for running in (down, up):
        running.advance(64)
    np.testing.assert_allclose(down.scan().z, up.scan().z, atol=2e-14)


def test_upward_lines_drift_in_the_order_of_their_acquisition() -> None:
    drifting: dict[str, Any] = {**QUIET, "drift_pm_per_s": 20.0}
    still = microscope(**QUIET).scan(HERE).z
    up = microscope(**drifting).begin_scan(HERE, upward=True)
    up.advance(64)
    moved = np.abs(up.scan().z - still).max(axis=1)
    assert moved[-4:].max() < moved[:4].max()


def test_a_tip_change_comes_with_the_line_the_scan_has_reached() -> None:
    changes = []
    for seed in range(6):
        this = microscope(seed, tip_change_rate=1.0)
        running, states = this.begin_scan(HERE), [this.truth]
        for line in range(1, 65):
            running.advance(line)
            states.append(this.truth)
        changes.append(int(np.sum([a != b for a, b in pairwise(states)])))
    assert set(changes) == {0, 1}


def test_the_clock_runs_by_the_line_time() -> None:
    this = microscope()
    running = this.begin_scan(HERE, line_time=0.5)
    started = this.status().time
    running.advance(16)
    running.advance(16)
    running.advance(3)
    assert (running.lines_done, running.line_time, running.finished) == (16, 0.5, False)
    assert this.status().time == started + 8
    assert running.scan().started == started
    running.advance(64)
    assert running.finished


def test_the_configured_speed_gives_the_line_time() -> None:
    assert microscope().begin_scan(HERE).line_time == pytest.approx(2 * 10 / 80, rel=1e-6)


def test_there_are_no_lines_beyond_the_frame() -> None:
    running = microscope().begin_scan(HERE)
    with pytest.raises(ValueError, match="64 lines, not 65"):
        running.advance(65)
    assert running.lines_done == 0


def test_a_scan_so_far_does_not_change_later() -> None:
    running = microscope().begin_scan(HERE)
    running.advance(10)
    before = running.scan()
    running.advance(20)
    assert np.isnan(before.z[10:]).all()


def test_beginning_checks_place_and_contact() -> None:
    this = microscope()
    with pytest.raises(LimitExceeded):
        this.begin_scan(Frame(500 * NM, 0, 10 * NM, 64))
    this.withdraw()
    with pytest.raises(ContactLost):
        this.begin_scan(HERE)


@pytest.mark.parametrize(
    "act",
    [
        lambda this: this.withdraw(),
        lambda this: this.move_to(0, 0),
        lambda this: this.condition(Pulse(2.5), HERE.x, HERE.y),
        lambda this: this.begin_scan(HERE),
        lambda this: this.restart(0),
        lambda this: this.set_state(this.get_state()),
    ],
    ids=["withdraw", "move", "condition", "begin", "restart", "set_state"],
)
def test_another_act_ends_a_scan_and_nothing_of_its_future_happens(act: Any) -> None:
    this = microscope(tip_change_rate=1.0, crash_rate=1.0)
    running = this.begin_scan(HERE)
    act(this)
    with pytest.raises(InstrumentError, match="has ended"):
        running.advance(64)
    assert this.fault == ""
    assert np.isnan(running.scan().z).all()


def test_reading_waiting_and_approaching_do_not_end_a_scan() -> None:
    this = microscope()
    running = this.begin_scan(HERE)
    running.advance(10)
    this.status()
    this.wait(5)
    this.move_to(this.status().x, this.status().y)
    this.approach()
    running.advance(64)
    assert np.isfinite(running.scan().z).all()


def test_events_are_as_frequent_as_configured_and_uniform_over_the_lines() -> None:
    config = CALM.model_copy(
        update={"tip_change_rate": 0.3, "contact_loss_rate": 0.1, "crash_rate": 0.2}
    )
    rng = np.random.default_rng(0)
    drawn = [draw_events(config, 16, rng, 0.3) for _ in range(8000)]
    lines: dict[str, list[int]] = {"tip change": [], "lost contact": [], "crash": []}
    for events in drawn:
        assert [line for line, _ in events] == sorted(line for line, _ in events)
        for line, event in events:
            lines[event].append(line)
    for event, rate in (("tip change", 0.3), ("lost contact", 0.1), ("crash", 0.2)):
        spread = np.sqrt(rate * (1 - rate) / len(drawn))
        assert len(lines[event]) / len(drawn) == pytest.approx(rate, abs=4 * spread), event
        counts = np.bincount(lines[event], minlength=16)
        expected = len(lines[event]) / 16
        assert ((counts - expected) ** 2 / expected).sum() < 40, event


def test_part_of_an_image_bears_its_part_of_the_risk() -> None:
    this = microscope(contact_loss_rate=0.8)
    lost = 0
    frame = Frame(0, 0, 2 * NM, 8)
    for _ in range(300):
        this.scan(frame, 0.25)
        lost += this.fault == "lost contact"
        this.approach()
    assert abs(lost / 300 - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 300)


AWKWARD = Frame(123.456789 * NM, -77.7777777 * NM, 10.1 * NM, 48, angle=0.3)


def test_a_frame_sent_in_single_precision_gives_the_same_image() -> None:
    """A negative control: the frame itself is another one after the journey."""
    sent = sent_frame(AWKWARD)
    assert sent != AWKWARD
    this, other = microscope(), microscope()
    direct, travelled = this.scan(AWKWARD), other.scan(sent)
    assert same(direct, travelled)
    assert direct.frame == AWKWARD
    assert repr(this.get_state()) == repr(other.get_state())
    fast = microscope(speed_nm_per_s=single(80e-9) / NM)
    assert same(fast.scan(AWKWARD), direct)


lengths = st.floats(-1e-6, 1e-6)


@given(lengths, lengths, st.floats(1e-10, 1e-6), st.floats(-10, 10))
def test_a_second_journey_changes_nothing(x: float, y: float, size: float, angle: float) -> None:
    once = sent_frame(Frame(x, y, size, 64, angle))
    degrees = single(-math.degrees(angle))
    arrived = Frame(single(x), single(y), single(size), 64, -math.radians(degrees))
    assert once == arrived
    assert sent_frame(once) == once


def test_the_edge_of_the_piezo_range_can_be_reached_in_single_precision() -> None:
    microscope().begin_scan(Frame(425 * NM, -425 * NM, 10 * NM, 64))


@pytest.mark.parametrize("action", [Dip(0.8e-9), Dip(2.5e-9, 0.03, 0.1), Pulse(-3.3, 0.7)])
def test_conditioning_sent_in_single_precision_does_the_same(action: Dip | Pulse) -> None:
    sent: Dip | Pulse
    if isinstance(action, Dip):
        sent = Dip(single(action.depth), single(action.bias), single(action.width))
    else:
        sent = Pulse(single(action.bias), single(action.width))
    assert sent != action
    states = []
    for what in (action, sent):
        this = microscope(seed=6)
        this.condition(what, 1.23456789e-9, -3e-9)
        states.append((repr(this.get_state()), this.scan(HERE).z.tobytes()))
    assert states[0] == states[1]


@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_settling_leaves_everything_as_a_scan_does(fraction: float) -> None:
    lively = {"tip_change_rate": 0.5, "contact_loss_rate": 0.2, "crash_rate": 0.2}
    for state in map(HiddenState.of, range(16)):
        after = []
        for settle in (True, False):
            this = microscope(seed=4, **lively)
            this.set_probe(state)
            assert this.surface, "it is made at its first use"
            if settle:
                this.settle(HERE, fraction)
            else:
                this.scan(HERE, fraction)
            after.append(repr(this.get_state()))
        assert after[0] == after[1]
