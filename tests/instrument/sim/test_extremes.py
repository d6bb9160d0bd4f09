"""Where heights are large or things are missing, the simulator must stay right."""

from __future__ import annotations

import numpy as np
import pytest

from spm_gym.config import SimulatorConfig
from spm_gym.envs.hidden_process import HiddenProcess
from spm_gym.errors import TipCrashed
from spm_gym.instrument.sim.convolution import convolve
from spm_gym.instrument.sim.dynamics import STATES
from spm_gym.instrument.sim.molecule import DECAY
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Frame

NM = 1e-9
CALM = SimulatorConfig(tip_change_rate=0, contact_loss_rate=0, crash_rate=0)


def test_far_debris_does_not_shine_across_the_image() -> None:
    """Debris of 2.5 nm carries e^50 times the current: no rounding may reach so far."""
    surface = np.zeros((104, 104))
    surface[40:46, 24:30] = 2.5 * NM
    apex = np.array([[0.3e-9, 0.1e-9, 0.0, 0.08e-9]])
    z = np.log(convolve(np.exp(2 * DECAY * surface).astype(np.float32), apex, 10 * NM / 64, 20)) / (
        2 * DECAY
    )
    assert np.abs(z[:, 40:]).max() < 1e-15
    assert z.max() == pytest.approx(2.5 * NM, rel=0.01)


@pytest.mark.parametrize("size", [1.0, 100.0, 200.0])
def test_every_size_gives_a_whole_image(size: float) -> None:
    z = SimulatedMicroscope(CALM, seed=1).scan(Frame(0, 0, size * NM, 64)).z
    assert np.isfinite(z).all()


def test_a_sample_without_molecules_is_a_sample() -> None:
    microscope = SimulatedMicroscope(CALM.model_copy(update={"molecules_per_nm2": 0.0}))
    assert np.isfinite(microscope.scan(Frame(0, 0, 10 * NM, 64)).z).all()


@pytest.mark.parametrize("fraction", [-0.1, 1.5])
def test_an_impossible_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        SimulatedMicroscope(CALM).scan(Frame(0, 0, 10 * NM, 64), fraction)


def test_approaching_a_crashed_tip_says_so() -> None:
    microscope = SimulatedMicroscope(CALM.model_copy(update={"crash_rate": 1.0}))
    microscope.scan(Frame(0, 0, 10 * NM, 64))
    with pytest.raises(TipCrashed, match="withdraw"):
        microscope.approach()


def test_where_a_mixture_prefers_nothing_allowed_it_takes_any_allowed_action() -> None:
    steps = np.zeros((2, STATES, STATES))
    steps[0, :, -1], steps[1, :, 0], steps[1, :, -1] = 1, 0.25, 0.75
    process = HiddenProcess(
        steps=steps,
        imaging=np.eye(STATES),
        levels=np.ones((STATES, 1)),
        allowed=np.array([[False, True]]),
        damaging=np.array([True, False]),
        damage_actions=5,
    )
    assert process.length(np.array([1.0, 0.0])) == pytest.approx(4)
