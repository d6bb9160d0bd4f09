"""What a controller can do to the simulated microscope besides scanning."""

from __future__ import annotations

from typing import Literal

import gymnasium
import numpy as np
import pytest

from spm_gym.assembly.build import world_seed
from spm_gym.config import SimulatorConfig
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import ContactLost, InstrumentError, LimitExceeded, TipCrashed
from spm_gym.instrument.sim.dynamics import Shape
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Dip, Direction, Frame

NM = 1e-9
CALM = SimulatorConfig(tip_change_rate=0, contact_loss_rate=0, crash_rate=0, rough_fraction=0)
HERE = Frame(30 * NM, -20 * NM, 10 * NM, 64)


def microscope(seed: int = 0) -> SimulatedMicroscope:
    return SimulatedMicroscope(CALM, seed=seed)


def test_bias_and_setpoint_can_be_set_and_are_kept_and_reset() -> None:
    one = microscope()
    assert (one.bias, one.setpoint) == (1.0, 25e-12)
    one.bias, one.setpoint = -1.5, 50e-12
    scan, status = one.scan(HERE), one.status()
    assert (scan.bias, scan.setpoint) == (status.bias, status.setpoint) == (-1.5, 50e-12)
    assert status.current == 50e-12
    other = microscope()
    other.set_state(one.get_state())
    assert (other.bias, other.setpoint) == (-1.5, 50e-12)
    one.restart(0)
    assert (one.bias, one.setpoint) == (1.0, 25e-12)
    assert (microscope().bias, microscope().setpoint) == (1.0, 25e-12)


def test_the_other_polarity_shows_the_other_orbital() -> None:
    images = []
    for bias in (1.0, 0.5, -1.0):
        one = microscope()
        one.bias = bias
        images.append(one.scan(HERE).z)
    assert np.array_equal(images[0], images[1])
    assert np.abs(images[0] - images[2]).max() > 20e-12


def test_a_move_takes_time_and_a_second_one_to_the_same_place_is_none() -> None:
    one = microscope()
    one.move_to(80 * NM, 0)
    assert one.status().time == pytest.approx(1)
    before = repr(one.get_state())
    one.move_to(80 * NM, 0)
    assert repr(one.get_state()) == before
    assert (one.status().x, one.status().y) == (80 * NM, 0)


def test_moving_first_is_what_conditioning_does_anyway() -> None:
    one, other = microscope(), microscope()
    one.move_to(5 * NM, 7 * NM)
    for each in (one, other):
        each.condition(Dip(1 * NM), 5 * NM, 7 * NM)
    assert repr(one.get_state()) == repr(other.get_state())


def test_a_withdrawn_tip_can_be_moved_but_not_beyond_the_piezo() -> None:
    one = microscope()
    one.withdraw()
    one.move_to(100 * NM, 0)
    assert one.status().x == 100 * NM
    with pytest.raises(LimitExceeded):
        one.move_to(0, 430 * NM)


STRIDES = {
    Direction.X_PLUS: (1, 0),
    Direction.X_MINUS: (-1, 0),
    Direction.Y_PLUS: (0, 1),
    Direction.Y_MINUS: (0, -1),
}


@pytest.mark.parametrize("direction", Direction)
def test_a_change_of_area_is_withdrawing_shifting_and_approaching(direction: Direction) -> None:
    one, other = microscope(), microscope()
    for each in (one, other):
        each.scan(HERE)
    one.move_area(direction)
    other.withdraw()
    other.shift_area(*STRIDES[direction])
    other.approach()
    assert repr(one.get_state()) == repr(other.get_state())
    assert one.scan(HERE).z.tobytes() == other.scan(HERE).z.tobytes()


def test_a_change_of_area_takes_its_time() -> None:
    one = microscope()
    one.move_area(Direction.X_PLUS)
    assert one.status().time == 30 + 60  # the creep is waited for by whoever scans next


def test_a_second_approach_in_an_area_finds_nothing_new() -> None:
    one = microscope()
    one.move_area(Direction.X_PLUS)
    before = one.status().time
    one.withdraw()
    one.approach()
    assert one.status().time == before + 60


def test_a_shift_of_two_areas_ends_where_two_shifts_do() -> None:
    images = []
    for shifts in ([(2, -1)], [(1, 0), (0, -1), (1, 0)]):
        one = microscope()
        one.withdraw()
        for shift in shifts:
            one.shift_area(*shift)
        one.approach()
        images.append(one.scan(HERE).z)
    assert np.array_equal(images[0], images[1])


def test_only_a_withdrawn_tip_is_moved_coarsely() -> None:
    one = microscope()
    before = repr(one.get_state())
    with pytest.raises(InstrumentError, match="withdraw before a coarse move"):
        one.shift_area(1, 0)
    one.shift_area(0, 0)
    assert repr(one.get_state()) == before
    one.withdraw()
    one.move_to(100 * NM, 0)
    before = repr(one.get_state())
    one.shift_area(0, 0)
    assert repr(one.get_state()) == before


@pytest.mark.parametrize(
    ("what", "end", "current"), [("lost contact", 0, 0.0), ("crash", 1, 100e-9)]
)
def test_an_injected_accident_shows_from_the_next_line(
    what: Literal["lost contact", "crash"], end: int, current: float
) -> None:
    one = microscope()
    running = one.begin_scan(HERE)
    running.advance(20)
    one.inject(what)
    running.advance(64)
    z = running.scan().z
    limit = one.z_range[end]
    assert one.fault == what
    assert one.status().current == current
    assert one.status().z == limit
    assert np.abs(z[:20] - limit).min() > 10 * NM
    np.testing.assert_allclose(z[20:], limit, atol=1e-12)
    one.withdraw()
    assert (one.fault, one.status().current) == ("", 0)
    one.approach()
    assert one.status().current == one.setpoint


def test_an_injected_crash_is_a_crash() -> None:
    one = microscope()
    one.inject("crash")
    assert one.truth.shape is Shape.MULTIPLE
    with pytest.raises(TipCrashed):
        one.approach()
    with pytest.raises(TipCrashed):
        one.condition(Dip(1 * NM), 0, 0)


def test_nothing_befalls_a_withdrawn_tip() -> None:
    one = microscope()
    one.withdraw()
    with pytest.raises(ContactLost):
        one.inject("crash")
    assert one.fault == ""
    assert one.truth.good


@pytest.mark.parametrize("seed", [0, 1, 7, 12345, 2**40 + 3])
def test_the_world_of_a_seed_is_the_one_a_seeded_reset_begins(seed: int) -> None:
    rng, _ = gymnasium.utils.seeding.np_random(seed)
    assert world_seed(seed) == int(rng.integers(2**63))


def test_an_environment_begins_the_world_of_its_seed() -> None:
    one = microscope()
    env = ProbeConditioningEnv(one, lambda images: np.ones(len(images), np.float32))
    env.reset(seed=5, options={"damage": False})
    assert one.get_state()["seed"] == world_seed(5)
