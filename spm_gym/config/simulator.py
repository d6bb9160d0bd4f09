"""Settings of the simulated microscope."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from spm_gym.config.sections import Fraction, NonNegative, Positive, Section

Molecule = Literal["MgPc", "PTCDA"]


class SimulatorConfig(Section):
    """The simulated microscope; nothing in it is calibrated against a real one.

    Attributes:
        molecule: What lies on the Ag(100): magnesium phthalocyanine, a cross, or perylene
            tetracarboxylic dianhydride, a rectangle, to try a classifier on what it does not know.
        mode: Whether the probe's kernel is convolved with the tunnel current or with the heights.
        tilt_pm_per_nm: Spread of the sample's tilt along either axis.
        creep_fraction: Share of a move by which the piezo is still off right after it.
        terrace_nm: Mean width of a terrace.
        rough_fraction: Share of the area that is bad sample.
        tip_change_rate: Probability that the tip changes by itself during a scan.
        contact_loss_rate: Probability that contact is lost during a scan.
        crash_rate: Probability that the tip crashes during a scan, or in a dip.
        z_range_nm: Full range of the z piezo.
        transitions: Table of the probe's changes (YAML); None for the one in the package.
    """

    molecule: Molecule = "MgPc"
    mode: Literal["current", "linear"] = "current"
    white_noise_pm: NonNegative = 2.0
    line_noise_pm: NonNegative = 1.2
    tilt_pm_per_nm: NonNegative = 19.2
    drift_pm_per_s: NonNegative = 1.0
    creep_fraction: Fraction = 0.02
    molecules_per_nm2: NonNegative = 0.055
    min_distance_nm: Positive = 1.75
    terrace_nm: Positive = 125.0
    rough_fraction: Fraction = 0.02
    tip_change_rate: Fraction = 0.002
    contact_loss_rate: Fraction = 0.0001
    crash_rate: Fraction = 0.0001
    speed_nm_per_s: Positive = 80.0
    z_range_nm: Positive = 300.0
    transitions: Path | None = None

    @property
    def material(self) -> str:
        """What is on the stage, as in `EnvConfig.material`."""
        return f"{self.molecule} on Ag(100)" if self.molecules_per_nm2 else "Ag(100)"
