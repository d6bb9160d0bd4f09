"""The simulated microscope behaves as the protocol says, and always the same from the same seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.errors import ContactLost, InstrumentError, LimitExceeded
from spm_gym.instrument.sim.dynamics import STATES, HiddenState, Shape
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.plain_state import from_bytes, to_bytes
from spm_gym.types import Dip, Direction, Frame, Pulse, Scan, Stall

NM = 1e-9
CALM = SimulatorConfig(tip_change_rate=0, contact_loss_rate=0, crash_rate=0, rough_fraction=0)
STEADY = CALM.model_copy(
    update={"white_noise_pm": 0.0, "line_noise_pm": 0.0, "creep_fraction": 0.0, "drift_pm_per_s": 0}
)


def calm(seed: int = 0, **changes: Any) -> SimulatedMicroscope:
    return SimulatedMicroscope(CALM.model_copy(update=changes), seed=seed)


def frame(x: float = 0, y: float = 0, pixels: int = 64, angle: float = 0) -> Frame:
    return Frame(x * NM, y * NM, 10 * NM, pixels, angle)


def session(microscope: SimulatedMicroscope) -> list[np.ndarray[Any, Any]]:
    """Some of everything."""
    images = [microscope.scan(frame(20, -30), 0.25).z, microscope.scan(frame(20, -30)).z]
    microscope.condition(Pulse(-4.0), 20 * NM, -30 * NM)
    images.append(microscope.scan(frame(45, -30)).z)
    microscope.move_area(Direction.X_MINUS)
    microscope.condition(Dip(1.8 * NM), 0, 0)
    return [*images, microscope.scan(frame(0, 30)).z]


def test_an_image_is_what_a_scan_says_it_is() -> None:
    microscope = calm()
    scan = microscope.scan(frame(pixels=48))
    assert scan.z.shape == (48, 48)
    assert scan.z.dtype == np.float32
    assert np.isfinite(scan.z).all()
    assert scan.z_range == microscope.status().z_range


@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_a_partial_image_has_its_first_lines_only(fraction: float) -> None:
    z = calm().scan(frame(), fraction).z
    lines = round(64 * fraction)
    assert np.isfinite(z[:lines]).all()
    assert np.isnan(z[lines:]).all()


def test_same_seed_same_session_and_other_seed_another() -> None:
    config = SimulatorConfig()
    first, again, other = (session(SimulatedMicroscope(config, seed=s)) for s in (1, 1, 2))
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], other[1])


def test_restart_forgets_everything() -> None:
    microscope = calm(seed=5)
    first = session(microscope)
    microscope.restart(5)
    assert microscope.truth.good
    assert microscope.status().time == 0
    again = session(microscope)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, again, strict=True))


def test_state_continues_bit_for_bit_in_another_microscope() -> None:
    config = SimulatorConfig(tip_change_rate=0.5)
    this = SimulatedMicroscope(config, seed=1)
    session(this)
    kept = from_bytes(to_bytes(this.get_state()))
    expected = session(this)
    other = SimulatedMicroscope(config, seed=99)
    other.set_state(kept)
    got = session(other)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(expected, got, strict=True))
    assert other.truth == this.truth
    assert other.status() == this.status()


def test_a_kept_state_is_not_changed_by_going_on() -> None:
    microscope = calm()
    session(microscope)
    kept = microscope.get_state()
    before = to_bytes(kept)
    session(microscope)
    assert to_bytes(kept) == before


def test_the_same_place_shows_the_same_molecules() -> None:
    microscope = SimulatedMicroscope(STEADY)
    first = microscope.scan(frame()).z
    microscope.scan(frame(200, 100))
    np.testing.assert_allclose(microscope.scan(frame()).z, first, atol=1e-14)


def test_marks_stay_when_one_moves_away_and_back() -> None:
    microscope = SimulatedMicroscope(STEADY)
    before = microscope.scan(frame()).z
    microscope.condition(Dip(1.2 * NM), 0, 0)
    microscope.set_probe(HiddenState())
    probe = microscope.get_state()
    marked = microscope.scan(frame()).z
    microscope.move_area(Direction.Y_PLUS)
    elsewhere = microscope.scan(frame()).z
    microscope.move_area(Direction.Y_MINUS)
    assert np.array_equal(microscope.scan(frame()).z, marked)
    assert np.abs(marked - before).max() > 50e-12
    assert np.abs(elsewhere - marked).max() > 50e-12
    assert probe["surfaces"]


def test_areas_differ() -> None:
    images = []
    for direction in Direction:
        microscope = SimulatedMicroscope(STEADY)
        microscope.move_area(direction)
        images.append(microscope.scan(frame()).z)
    assert all(not np.array_equal(images[0], image) for image in images[1:])


def test_the_probe_is_kept_until_its_class_changes() -> None:
    microscope = SimulatedMicroscope(STEADY)
    first = microscope.scan(frame(60, 60)).z
    for _ in range(3):
        before = microscope.truth
        microscope.condition(Stall(), 0, 0)
        if microscope.truth != before:
            pytest.skip("this seed changes the class by a stall")
    np.testing.assert_allclose(microscope.scan(frame(60, 60)).z, first, atol=1e-14)


def test_the_truth_changes_as_the_dynamics_say() -> None:
    microscope = calm()
    microscope.set_probe(HiddenState(Shape.WEAK))
    matrix = microscope.dynamics.action_matrix(Dip(0.8 * NM))
    drawn = []
    for trial in range(300):
        microscope.set_probe(HiddenState(Shape.WEAK))
        microscope.condition(Dip(0.8 * NM), (trial % 20 - 10) * 30 * NM, 0)
        drawn.append(microscope.truth.good)
    probability = matrix[HiddenState(Shape.WEAK).index, 0]
    assert abs(np.mean(drawn) - probability) < 4 * np.sqrt(
        probability * (1 - probability) / len(drawn)
    )


def test_a_tip_change_leaves_the_earlier_lines_alone() -> None:
    quiet, lively = (
        SimulatedMicroscope(STEADY.model_copy(update={"tip_change_rate": rate}), seed=4)
        for rate in (0.0, 1.0)
    )
    changed = False
    for place in range(12):
        quiet.restart(place)
        lively.restart(place)
        still, broken = quiet.scan(frame()).z, lively.scan(frame()).z
        same = np.isclose(still, broken, atol=1e-14).all(axis=1)
        if not lively.truth.good:
            first = int(np.flatnonzero(~same)[0])
            changed |= first > 0
            assert same[first:].mean() < 0.5  # bare ground is the same for any tip
    assert changed


def test_bad_probes_give_other_images_than_the_good_one() -> None:
    microscope = SimulatedMicroscope(STEADY)
    good = microscope.scan(frame()).z
    for index in range(1, STATES):
        microscope.set_probe(HiddenState.of(index))
        image = microscope.scan(frame()).z
        assert np.abs((image - image.mean()) - (good - good.mean())).max() > 20e-12, index


def test_an_unstable_probe_makes_streaks_along_the_lines() -> None:
    microscope = SimulatedMicroscope(STEADY.model_copy(update={"tilt_pm_per_nm": 0.0}))
    across = []
    for unstable in (False, True):
        jumps = []
        for _ in range(8):
            microscope.set_probe(HiddenState(unstable=unstable))
            z = microscope.scan(frame(100, 100)).z
            jumps.append(np.median(np.abs(np.diff(np.median(z, axis=1)))))
        across.append(float(np.mean(jumps)))
    assert across[1] > 2 * across[0]


def test_creep_is_strongest_right_after_a_long_move() -> None:
    config = STEADY.model_copy(update={"creep_fraction": 0.02})
    still = SimulatedMicroscope(STEADY)
    difference = []
    for waited in (0.0, 30.0, 300.0):
        creeping = SimulatedMicroscope(config)
        creeping.scan(frame(200, 0), 0.0)
        creeping.wait(waited)
        here = creeping.scan(frame(200, 0)).z
        difference.append(float(np.abs(here - still.scan(frame(200, 0)).z).mean()))
    assert difference[0] > difference[1] > difference[2]
    assert difference[2] < 1e-14


def test_the_clock_runs_as_fast_as_the_scan() -> None:
    microscope = calm()
    before = microscope.status().time
    scan = microscope.scan(frame(), 1.0)
    assert scan.started == before
    assert microscope.status().time - before == pytest.approx(64 * 2 * 10 / 80)
    microscope.condition(Pulse(2.5, width=0.5), 0, 0)
    assert microscope.status().time - before == pytest.approx(16.5)


def test_tilt_is_that_of_the_area() -> None:
    microscope = SimulatedMicroscope(
        STEADY.model_copy(update={"molecules_per_nm2": 1e-5, "terrace_nm": 1e5})
    )
    here, right, up = (
        float(np.median(microscope.scan(frame(x, y, pixels=16)).z))
        for x, y in ((0, 0), (8, 0), (0, 8))
    )
    slope = microscope.surface.slope
    assert right - here == pytest.approx(slope[0] * 8 * NM, abs=5e-14)
    assert up - here == pytest.approx(slope[1] * 8 * NM, abs=5e-14)


def test_after_approach_the_piezo_is_extended_by_four_fifths() -> None:
    low, high = calm().z_range
    status = calm().status()
    assert status.approached
    assert (high - status.z) / (high - low) == pytest.approx(0.8, abs=0.01)
    assert status.current == status.setpoint


@pytest.mark.parametrize("x", [-426.0, 426.0])
def test_places_beyond_the_piezo_are_refused(x: float) -> None:
    microscope = calm()
    with pytest.raises(LimitExceeded, match="outside the piezo range of \\+-425"):
        microscope.scan(frame(x))
    with pytest.raises(LimitExceeded):
        microscope.condition(Dip(1 * NM), 0, x * NM)
    assert microscope.status().time == 0
    microscope.scan(frame(425.0 * np.sign(x)))


def test_nothing_is_scanned_or_conditioned_while_withdrawn() -> None:
    microscope = calm()
    microscope.withdraw()
    microscope.withdraw()
    assert not microscope.status().approached
    with pytest.raises(ContactLost, match="approach"):
        microscope.scan(frame())
    with pytest.raises(ContactLost):
        microscope.condition(Stall(), 0, 0)
    microscope.approach()
    assert np.isfinite(microscope.scan(frame()).z).all()


def test_a_coarse_move_ends_in_contact_at_the_centre() -> None:
    microscope = calm()
    microscope.scan(frame(300, 300))
    microscope.move_area(Direction.X_PLUS)
    status = microscope.status()
    assert (status.x, status.y) == (0, 0)
    assert status.approached


def limits(scan: Scan) -> tuple[float, float]:
    assert scan.z_range is not None
    return scan.z_range


@pytest.mark.parametrize(
    ("rate", "end"), [("contact_loss_rate", 0), ("crash_rate", 1)], ids=["lost", "crashed"]
)
def test_after_an_accident_the_piezo_stays_at_its_end(rate: str, end: int) -> None:
    microscope = calm(**{rate: 1.0})
    microscope.scan(frame())
    scan = microscope.scan(frame())
    assert np.nanmedian(scan.z) == pytest.approx(limits(scan)[end], rel=1e-4)
    assert microscope.status().current in (0.0, 100e-9)[end : end + 1]


def test_lost_contact_is_found_again_by_an_approach() -> None:
    microscope = calm(contact_loss_rate=1.0)
    lost = microscope.scan(frame())
    microscope.config = CALM
    microscope.approach()
    found = microscope.scan(frame())
    assert np.median(found.z) > limits(lost)[0] + 10 * NM


def test_a_crash_ruins_the_probe_and_needs_a_withdrawal() -> None:
    microscope = calm(crash_rate=1.0)
    microscope.scan(frame())
    assert microscope.truth.shape is Shape.MULTIPLE
    with pytest.raises(InstrumentError, match="withdraw"):
        microscope.approach()
    microscope.config = CALM
    microscope.withdraw()
    microscope.approach()
    scan = microscope.scan(frame())
    assert np.median(scan.z) < limits(scan)[1] - 10 * NM


def test_without_rates_no_accident_ever_happens() -> None:
    microscope = calm()
    for place in range(30):
        microscope.scan(frame(place * 10))
    assert microscope.truth.good
    assert microscope.status().current > 0


@pytest.mark.parametrize("act", [SimulatedMicroscope.close, SimulatedMicroscope.withdraw])
def test_closing_and_withdrawing_are_legal_twice(
    act: Callable[[SimulatedMicroscope], None],
) -> None:
    microscope = calm()
    act(microscope)
    act(microscope)


def test_an_area_that_was_left_keeps_its_traces_however_many_come_after() -> None:
    microscope = SimulatedMicroscope(SimulatorConfig(tip_change_rate=0, contact_loss_rate=0,
                                                     crash_rate=0), seed=3)  # fmt: skip
    untouched = SimulatedMicroscope(microscope.config, seed=3)
    microscope.condition(Dip(5e-9), 0.0, 0.0)
    before = microscope.surface.get_state()
    for _ in range(5):
        microscope.move_area(Direction.X_PLUS)
    middle = microscope.get_state()
    for _ in range(5):
        microscope.move_area(Direction.X_MINUS)
    after = microscope.surface.get_state()
    assert np.array_equal(before["marks"], after["marks"])
    assert np.array_equal(before["taken"], after["taken"])
    assert len(after["marks"]) > len(untouched.surface.get_state()["marks"])
    untouched.set_state(middle)
    for _ in range(5):
        untouched.move_area(Direction.X_MINUS)
    assert np.array_equal(untouched.surface.get_state()["taken"], after["taken"])
