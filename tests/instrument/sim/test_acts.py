"""Acts of a controller on the simulated microscope besides scanning."""

from __future__ import annotations

from typing import Literal

import gymnasium
import numpy as np
import pytest

from spm_gym.assembly.simulator import world_seed
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
    this = microscope()
    assert (this.bias, this.setpoint) == (1.0, 25e-12)
    this.bias, this.setpoint = -1.5, 50e-12
    scan, status = this.scan(HERE), this.status()
    assert (scan.bias, scan.setpoint) == (status.bias, status.setpoint) == (-1.5, 50e-12)
    assert status.current == 50e-12
    other = microscope()
    other.set_state(this.get_state())
    assert (other.bias, other.setpoint) == (-1.5, 50e-12)
    this.restart(0)
    assert (this.bias, this.setpoint) == (1.0, 25e-12)
    assert (microscope().bias, microscope().setpoint) == (1.0, 25e-12)


def test_the_other_polarity_shows_the_other_orbital() -> None:
    images = []
    for bias in (1.0, 0.5, -1.0):
        this = microscope()
        this.bias = bias
        images.append(this.scan(HERE).z)
    assert np.array_equal(images[0], images[1])
    assert np.abs(images[0] - images[2]).max() > 20e-12


def test_a_move_takes_time_and_a_second_one_to_the_same_place_is_none() -> None:
    this = microscope()
    this.move_to(80 * NM, 0)
    assert this.status().time == pytest.approx(1)
    before = repr(this.get_state())
    this.move_to(80 * NM, 0)
    assert repr(this.get_state()) == before
    assert (this.status().x, this.status().y) == (80 * NM, 0)


def test_moving_first_is_what_conditioning_does_anyway() -> None:
    this, other = microscope(), microscope()
    this.move_to(5 * NM, 7 * NM)
    for each in (this, other):
        each.condition(Dip(1 * NM), 5 * NM, 7 * NM)
    assert repr(this.get_state()) == repr(other.get_state())


def test_a_withdrawn_tip_can_be_moved_but_not_beyond_the_piezo() -> None:
    this = microscope()
    this.withdraw()
    this.move_to(100 * NM, 0)
    assert this.status().x == 100 * NM
    with pytest.raises(LimitExceeded):
        this.move_to(0, 430 * NM)


STRIDES = {
    Direction.X_PLUS: (1, 0),
    Direction.X_MINUS: (-1, 0),
    Direction.Y_PLUS: (0, 1),
    Direction.Y_MINUS: (0, -1),
}


@pytest.mark.parametrize("direction", Direction)
def test_a_change_of_area_is_withdrawing_shifting_and_approaching(direction: Direction) -> None:
    this, other = microscope(), microscope()
    for each in (this, other):
        each.scan(HERE)
    this.move_area(direction)
    other.withdraw()
    other.shift_area(*STRIDES[direction])
    other.approach()
    assert repr(this.get_state()) == repr(other.get_state())
    assert this.scan(HERE).z.tobytes() == other.scan(HERE).z.tobytes()


def test_a_change_of_area_takes_its_time() -> None:
    this = microscope()
    this.move_area(Direction.X_PLUS)
    assert this.status().time == 30 + 60  # waiting for the creep is left to the caller


def test_a_second_approach_in_an_area_finds_nothing_new() -> None:
    this = microscope()
    this.move_area(Direction.X_PLUS)
    before = this.status().time
    this.withdraw()
    this.approach()
    assert this.status().time == before + 60


def test_a_shift_of_two_areas_ends_where_two_shifts_do() -> None:
    images = []
    for shifts in ([(2, -1)], [(1, 0), (0, -1), (1, 0)]):
        this = microscope()
        this.withdraw()
        for shift in shifts:
            this.shift_area(*shift)
        this.approach()
        images.append(this.scan(HERE).z)
    assert np.array_equal(images[0], images[1])


def test_only_a_withdrawn_tip_is_moved_coarsely() -> None:
    this = microscope()
    before = repr(this.get_state())
    with pytest.raises(InstrumentError, match="withdraw before a coarse move"):
        this.shift_area(1, 0)
    this.shift_area(0, 0)
    assert repr(this.get_state()) == before
    this.withdraw()
    this.move_to(100 * NM, 0)
    before = repr(this.get_state())
    this.shift_area(0, 0)
    assert repr(this.get_state()) == before


@pytest.mark.parametrize(
    ("what", "end", "current"), [("lost contact", 0, 0.0), ("crash", 1, 100e-9)]
)
def test_an_injected_accident_shows_from_the_next_line(
    what: Literal["lost contact", "crash"], end: int, current: float
) -> None:
    this = microscope()
    running = this.begin_scan(HERE)
    running.advance(20)
    this.inject(what)
    running.advance(64)
    z = running.scan().z
    limit = this.z_range[end]
    assert this.fault == what
    assert this.status().current == current
    assert this.status().z == limit
    assert np.abs(z[:20] - limit).min() > 10 * NM
    np.testing.assert_allclose(z[20:], limit, atol=1e-12)
    this.withdraw()
    assert (this.fault, this.status().current) == ("", 0)
    this.approach()
    assert this.status().current == this.setpoint


def test_an_injected_crash_is_a_crash() -> None:
    this = microscope()
    this.inject("crash")
    assert this.truth.shape is Shape.MULTIPLE
    with pytest.raises(TipCrashed):
        this.approach()
    with pytest.raises(TipCrashed):
        this.condition(Dip(1 * NM), 0, 0)


def test_nothing_happens_to_a_withdrawn_tip() -> None:
    this = microscope()
    this.withdraw()
    with pytest.raises(ContactLost):
        this.inject("crash")
    assert this.fault == ""
    assert this.truth.good


@pytest.mark.parametrize("seed", [0, 1, 7, 12345, 2**40 + 3])
def test_the_world_of_a_seed_is_the_one_a_seeded_reset_begins(seed: int) -> None:
    rng, _ = gymnasium.utils.seeding.np_random(seed)
    assert world_seed(seed) == int(rng.integers(2**63))


def test_an_environment_begins_the_world_of_its_seed() -> None:
    this = microscope()
    env = ProbeConditioningEnv(this, lambda images: np.ones(len(images), np.float32))
    env.reset(seed=5, options={"damage": False})
    assert this.get_state()["seed"] == world_seed(5)
