"""Measurements of a lab: effects of the settings, sources of the numbers, table in the docs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spm_gym.config import SimulatorConfig, load_config
from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.instrument.sim.piezo import shift_of_lines
from spm_gym.instrument.sim.provenance import NUMBERS, Evidence, table
from spm_gym.instrument.sim.running_scan import Course, change_probability
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Dip, Frame, Pulse

ROOT = Path(__file__).parents[3]
LAB = load_config(ROOT / "configs" / "lab-4k.yaml", []).simulator
NM = 1e-9
BARE: dict[str, Any] = {
    "tip_change_rate": 0.0, "contact_loss_rate": 0.0, "crash_rate": 0.0, "rough_fraction": 0.0,
    "white_noise_pm": 0.0, "line_noise_pm": 0.0, "tilt_pm_per_nm": 0.0, "molecules_per_nm2": 0.0,
    "terrace_nm": 1e5, "drift_pm_per_s": 0.0, "creep_fraction": 0.0,
}  # fmt: skip


def microscope(seed: int = 3, **settings: Any) -> SimulatedMicroscope:
    return SimulatedMicroscope(SimulatorConfig(**{**BARE, **settings}), seed=seed)


def test_the_table_names_every_setting_with_its_default_and_that_of_the_lab() -> None:
    settings = {number.name: number for number in NUMBERS if " " not in number.name}
    assert settings.keys() == SimulatorConfig.model_fields.keys()
    usual = SimulatorConfig()
    for name, number in settings.items():
        assert number.source
        assert number.value == written(getattr(usual, name)), name
        differs = getattr(LAB, name) != getattr(usual, name)
        assert number.lab == (written(getattr(LAB, name)) if differs else ""), name
        assert (number.lab_evidence is not None) == differs, name


def written(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:g} to {value[1]:g}"
    return "null" if value is None else str(value)


def test_the_docs_print_the_table() -> None:
    text = (ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
    assert table() in text, "python -m spm_gym.instrument.sim.provenance prints it"
    found = [number.evidence for number in NUMBERS] + [number.lab_evidence for number in NUMBERS]
    assert set(Evidence) < {*found}


def test_the_sample_drifts_towards_the_tip_since_the_approach() -> None:
    this, still = microscope(z_drift_pm_per_s=1.0), microscope()
    for each in (this, still):
        each.wait(1000.0)
    assert this.status().z - still.status().z == pytest.approx(1e-9)
    frame = Frame(0, 0, 10 * NM, 64)
    rows = np.median(this.scan(frame).z.astype(float) - still.scan(frame).z, axis=1)
    # The first line 1000 s after the beginning, 0.25 s for each.
    assert rows == pytest.approx((1000 + 0.25 * np.arange(64)) * 1e-12, abs=1e-14)
    assert this.status().z - still.status().z == pytest.approx(1.016e-9)
    for each in (this, still):
        each.withdraw()
        each.approach()
    assert this.status().z == still.status().z


def test_creep_goes_on_as_the_logarithm_of_time() -> None:
    def shift(wait: float, **settings: Any) -> float:
        course = Course(Frame(0, 0, 10 * NM, 32), 0.25, False, 100.0 + wait)
        moved = (400 * NM, 0.0, 100.0)
        first, last = shift_of_lines(course, moved, SimulatorConfig(**BARE | settings))[[0, -1]]
        assert first[1] == last[1] == 0
        return float(first[0])

    lab = {"creep_fraction": 0.05, "creep_time_s": 500.0}
    for wait in (0.0, 50.0, 500.0, 5000.0):
        expected = 400 * NM * 0.05 * math.log(1 + wait / 500)
        assert shift(wait, **lab) == pytest.approx(expected, abs=1e-15)
    assert shift(0.0, creep_fraction=0.02) == pytest.approx(-400 * NM * 0.02)
    assert shift(500.0, creep_fraction=0.02) == 0.0


def test_a_tip_that_has_never_moved_does_not_creep() -> None:
    this, other = (microscope(creep_fraction=f, creep_time_s=500.0) for f in (0.05, 0.0))
    frame = Frame(0, 0, 10 * NM, 16)
    assert np.array_equal(this.scan(frame).z, other.scan(frame).z)


def test_a_tip_changes_by_the_second_and_more_often_with_bias_and_current() -> None:
    hour = 3600.0
    usual = change_probability(LAB, hour, 1.0, 25e-12)
    assert usual == pytest.approx(1 - math.exp(-0.36))
    assert change_probability(LAB, hour, -2.0, 25e-12) == pytest.approx(1 - math.exp(-0.72))
    assert change_probability(LAB, hour, 1.0, 50e-12) == pytest.approx(1 - math.exp(-0.72))
    assert change_probability(LAB, hour, 1.0, 25e-12, True) == pytest.approx(1 - math.exp(-3.6))
    assert change_probability(SimulatorConfig(), hour, 5.0, 1e-9, True) == 0.002


def changes(prepare: list[Pulse | Dip]) -> int:
    """How many of a hundred scans by a good tip, prepared again each time, change it."""
    this = microscope(tip_change_per_s=1e-3, tip_change_after_pulse=1000.0)
    found = 0
    for _ in range(100):
        for action in prepare:
            this.condition(action, 0.0, 0.0)
        this.set_probe(HiddenState())
        this.settle(Frame(0, 0, 10 * NM, 16), 1.0)
        found += not this.truth.good
    return found


def test_after_a_pulse_tips_change_until_a_shallow_dip() -> None:
    # 4 s of scanning: 0.4 %, after a pulse 98 %; a change may also end in a good tip.
    assert changes([Pulse(2.5)]) > 10
    assert changes([Pulse(2.5), Dip(2.5e-9)]) > 10
    for calm in ([], [Pulse(2.5), Dip(1.2e-9)]):
        assert changes(calm) <= 4


def test_a_crash_draws_what_the_preamplifier_can_show() -> None:
    for limit in (10.0, 100.0):
        this = microscope(preamplifier_nA=limit)
        this.inject("crash")
        assert this.status().current == limit / 1e9


def test_the_state_is_kept_with_a_pulse_and_a_landing() -> None:
    this = SimulatedMicroscope(LAB, seed=5)
    this.condition(Pulse(2.5), 0.0, 0.0)
    this.withdraw()
    this.approach()
    other = SimulatedMicroscope(LAB, seed=6)
    other.set_state(this.get_state())
    frame = Frame(30 * NM, 0.0, 10 * NM, 32)
    assert np.array_equal(this.scan(frame).z, other.scan(frame).z)
