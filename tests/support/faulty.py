"""Simulated microscopes with faults."""

from __future__ import annotations

from typing import Any

import numpy as np

from spm_gym.config import SimulatorConfig
from spm_gym.config.operation import FaultConfig
from spm_gym.instrument.faults import FaultyMicroscope
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Scan

NONE: dict[str, Any] = {
    "lost_contact": 0,
    "crash": 0,
    "connection": 0,
    "outage": 0,
    "missing_lines": 0,
    "rough_region": 0,
}
CALM = SimulatorConfig(tip_change_rate=0, contact_loss_rate=0, crash_rate=0, rough_fraction=0)


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
