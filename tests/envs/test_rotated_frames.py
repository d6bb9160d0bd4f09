"""Rotated scan frames: images, places of actions, and the room that they need."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spm_gym.assembly.drivers import check_limits
from spm_gym.assembly.environment import make_env
from spm_gym.config import ConfigError, load_config
from spm_gym.errors import LimitExceeded
from spm_gym.imaging import level

NM = 1e-9
TRUTH = (
    "env.ground_truth=true", "env.creep_wait_s=0", "simulator.tip_change_rate=0",
    "simulator.rough_fraction=0", "simulator.drift_pm_per_s=0", "simulator.creep_fraction=0",
)  # fmt: skip


def test_every_image_has_the_angle_and_lies_within_the_area() -> None:
    config = load_config(None, [*TRUTH, "env.angle_deg=30", "env.regions.area_nm=60"])
    env = make_env(config).unwrapped
    env.reset(seed=1)
    for _ in range(12):
        env.step(0)
        assert env.processed is not None
        frame = env.processed.scan.frame
        assert frame.angle == pytest.approx(math.pi / 6)
        assert np.abs(frame.corners).max() <= 30 * NM * (1 + 1e-9)


def test_an_action_is_done_inside_the_rotated_image() -> None:
    env = make_env(load_config(None, [*TRUTH, "env.angle_deg=40"])).unwrapped
    env.reset(seed=2)
    for _ in range(8):
        frame = env.processed.scan.frame
        x, y = env.processed.place
        along = (x - frame.x) * math.cos(frame.angle) + (y - frame.y) * math.sin(frame.angle)
        across = (y - frame.y) * math.cos(frame.angle) - (x - frame.x) * math.sin(frame.angle)
        assert max(abs(along), abs(across)) <= frame.size / 2
        env.step(0)


def test_a_quarter_turn_shows_the_same_sample_turned() -> None:
    upright, turned = (
        make_env(load_config(None, [*TRUTH, f"env.angle_deg={angle}", "simulator.line_noise_pm=0"]))
        for angle in (0, 90)
    )
    for env in (upright, turned):
        env.reset(seed=3, options={"damage": False})
    one, other = (level(env.unwrapped.processed.scan.z) for env in (upright, turned))
    # A frame turned to the left shows the sample turned to the right.
    found = np.corrcoef(np.rot90(one, -1).ravel(), other.ravel())[0, 1]
    assert found > 0.8, found
    assert found > 2 * abs(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_the_corners_count_for_area_and_limits() -> None:
    with pytest.raises(ConfigError, match=r"at least 14\.1421"):
        load_config(None, ["env.angle_deg=45", "env.regions.area_nm=12"])
    check_limits(load_config(None, ["env.regions.area_nm=850", "env.angle_deg=45"]))
    tight = ["env.regions.area_nm=80", "real.limits.position_nm=40"]
    check_limits(load_config(None, [*tight, "env.angle_deg=45"]))
    with pytest.raises(LimitExceeded, match="position_nm"):
        check_limits(load_config(None, ["env.regions.area_nm=82", tight[1], "env.angle_deg=45"]))
