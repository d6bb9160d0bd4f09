"""Where the tip goes: fresh ground, new areas, and back to the surface."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from spm_gym.assembly.environment import make_env
from spm_gym.config import EnvConfig, SimulatorConfig, load_config
from spm_gym.envs.navigation import Navigator
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import (
    BadReply,
    CommandFailed,
    ConnectionLost,
    ContactLost,
    InstrumentError,
    TimedOut,
    TipWithdrawn,
)
from spm_gym.imaging import Square
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Direction, Frame, Scan
from tests.support.scripted_envs import Failing, Script, rollout, scripted

TRUTH = ("env.ground_truth=true",)
NM = 1e-9


@pytest.mark.parametrize("error", [ConnectionLost("x"), TimedOut("x"), BadReply("x"),
                                   CommandFailed("x")])  # fmt: skip
def test_a_scan_that_fails_is_repeated_at_the_same_place(error: Exception) -> None:
    microscope = Failing("scan", error, times=3)
    env = ProbeConditioningEnv(microscope, Script(0.05), EnvConfig())
    _, info = env.reset(seed=0, options={"damage": False})
    assert microscope.calls == [*["scan", "reconnect"] * 3, "scan", "scan"]
    assert (info["x"], info["y"]) == (0, 0)
    endless = ProbeConditioningEnv(Failing("scan", error, times=99), Script(0.05), EnvConfig())
    with pytest.raises(InstrumentError, match="no usable image in 10 attempts"):
        endless.reset(seed=0, options={"damage": False})


def test_a_fresh_area_forgets_what_was_used_up() -> None:
    env = scripted(0.05)
    env.reset(seed=0, options={"damage": False})
    env.step(1)
    assert env.navigator.regions.marks
    env.enter_fresh_area()
    assert not env.navigator.regions.marks
    _, info = env.reset(options={"damage": False})
    assert (info["x"], info["y"], info["area"]) == (0, 0, 1)


def test_actions_are_done_at_the_centre_of_the_clean_square() -> None:
    env = scripted(0.05)
    env.reset(seed=0, options={"damage": False})
    frame, square = env.processed.scan.frame, env.processed.square
    env.step(1)
    name, x, y = env.last_act
    assert name == "pulse +2.5 V"
    assert (x, y) == frame.position(square.row + (square.side - 1) / 2,
                                    square.col + (square.side - 1) / 2)  # fmt: skip
    env.processed = dataclasses.replace(env.processed, square=Square(0, 0, 0))
    frame = env.processed.scan.frame
    env.step(0)
    assert env.last_act == ("stall", frame.x, frame.y)


def test_every_image_lies_on_fresh_ground() -> None:
    env = make_env(overrides=TRUTH)
    _, info = env.reset(seed=5)
    rng = np.random.default_rng(5)
    for _ in range(60):
        spoilt = list(env.navigator.regions.marks)
        _, _, terminated, truncated, info = env.step(
            rng.choice(np.flatnonzero(info["action_mask"]))
        )
        acted = [m for m in spoilt if m.reason != "image"]
        gaps = [np.hypot(max(abs(info["x"] - m.x) - 5 * NM, 0),
                         max(abs(info["y"] - m.y) - 5 * NM, 0)) - m.radius
                for m in acted]  # fmt: skip
        if info["area"] == 0:
            assert min(gaps, default=0) > -1e-15
        if terminated or truncated:
            _, info = env.reset()


def test_a_used_up_area_is_left_for_a_new_one() -> None:
    env = make_env(overrides=(*TRUTH, "env.regions.area_nm=80"))
    rollout(env, 25, seed=0)
    assert env.navigator.area >= 2
    assert len(env.navigator.regions.marks) < 40


def test_bad_sample_is_blocked_and_skipped() -> None:
    env = make_env(overrides=(*TRUTH, "simulator.rough_fraction=0.3"))
    rollout(env, 60, seed=2)
    radii = [
        mark.radius / NM for mark in env.navigator.regions.marks if mark.reason == "bad sample"
    ]
    assert radii
    assert set(np.round(np.square(np.array(radii) / 25))) <= set(range(1, 11))


def test_hopeless_sample_stops_with_a_reason() -> None:
    env = make_env(overrides=(*TRUTH, "simulator.rough_fraction=1.0"))
    with pytest.raises(InstrumentError, match="no usable image in 10 attempts"):
        env.reset(seed=0)


def test_lost_contact_and_crashes_are_recovered() -> None:
    env = make_env(
        overrides=(*TRUTH, "simulator.contact_loss_rate=0.05", "simulator.crash_rate=0.05")
    )
    events = str(rollout(env, 60, seed=4))
    assert "lost contact" in events
    assert "crash" in events
    assert env.instrument.status().approached


def test_a_tip_that_somebody_withdraws_in_mid_scan_is_left_so() -> None:
    class Hand(SimulatedMicroscope):
        scans = 0

        def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
            recorded = super().scan(frame, fraction)
            self.scans += 1
            if self.scans == 6:
                self.withdraw()
                up = np.arange(frame.pixels)[:, None] >= 20
                return dataclasses.replace(
                    recorded, z=np.where(up, np.float32(self.z_range[1]), recorded.z)
                )
            return recorded

    config = load_config(None, [*TRUTH, "simulator.rough_fraction=0"])
    microscope = Hand(config.simulator)
    env = make_env(config, instrument=microscope)
    env.reset(seed=0, options={"damage": False})
    env.step(0)
    with pytest.raises(TipWithdrawn, match="not by this program"):
        env.step(0)
    assert not microscope.status().approached


class WaryMotor(SimulatedMicroscope):
    """Moves coarsely only from the surface, as one whose direction has to be verified."""

    def __init__(self, error: type[ContactLost], config: SimulatorConfig) -> None:
        super().__init__(config)
        self.error: type[ContactLost] | None = error

    def move_area(self, direction: Direction) -> None:
        if self.error is not None:
            raise self.error("approach first")
        super().move_area(direction)

    def approach(self) -> None:
        self.error = None
        super().approach()


def test_a_lost_tip_is_found_again_before_the_area_is_changed() -> None:
    microscope = WaryMotor(ContactLost, SimulatorConfig())
    navigator = Navigator(microscope, EnvConfig())
    navigator.change_area()
    assert navigator.area == 1


def test_a_tip_that_somebody_has_withdrawn_stays_so_when_the_area_is_used_up() -> None:
    microscope = WaryMotor(TipWithdrawn, SimulatorConfig())
    navigator = Navigator(microscope, EnvConfig())
    with pytest.raises(TipWithdrawn):
        navigator.change_area()
    assert microscope.error is TipWithdrawn
    assert navigator.area == 0


@pytest.mark.parametrize("window", [(0.1, 0.95), None])
def test_between_episodes_a_surface_that_has_drifted_is_approached_again(
    window: tuple[float, float] | None,
) -> None:
    world = SimulatorConfig(z_drift_pm_per_s=400.0, tip_change_rate=0, rough_fraction=0,
                            contact_loss_rate=0, crash_rate=0)  # fmt: skip
    microscope = SimulatedMicroscope(world, seed=5)
    env = ProbeConditioningEnv(microscope, Script(0.05), EnvConfig(), z_window=window)
    crashes, approached = 0, 0
    env.reset(seed=0, options={"damage": False})
    for _ in range(20):
        for _ in range(2):
            *_, info = env.step(0)
            assert "approached again: outside the z window" not in info["events"]
            crashes += "crash" in info["events"]
        _, info = env.reset(options={"damage": False})
        approached += "approached again: outside the z window" in info["events"]
    assert (crashes > 0, approached > 0) == (window is None, window is not None)
