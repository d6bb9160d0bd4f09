"""Settings of the simulated microscope."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from spm_gym.config.sections import Fraction, NonNegative, Positive, Section

Molecule = Literal["MgPc", "PTCDA", "HBC", "CO"]

CO_APART_NM = 0.6
"""Least distance of two carbon monoxide molecules."""

MOST_POWER = 20.0
"""Highest power of a mean of heights, for the sake of single precision."""


def _rising(pair: tuple[float, float] | None) -> tuple[float, float] | None:
    if pair is not None and pair[0] > pair[1]:
        raise ValueError(f"the smallest comes first, not {pair[0]:g} before {pair[1]:g}")
    return pair


_RISING = AfterValidator(_rising)


def _mode(value: object) -> object:
    # By itself, for the complaint of a union would name one of its types and not the others.
    if value in ("current", "linear"):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 < value <= MOST_POWER:
        return float(value)
    raise ValueError(f"must be current, linear, or a power above 1 and at most {MOST_POWER:g}")


class SimulatorConfig(Section):
    """The simulated microscope; `spm_gym.instrument.sim.provenance` says where numbers come from.

    Attributes:
        molecule: Adsorbate on the Ag(100): magnesium phthalocyanine, a cross, or, to try
            networks on what they do not know, perylene tetracarboxylic dianhydride, a rectangle,
            hexa-peri-hexabenzocoronene, six lobes, or carbon monoxide, a dark spot.
        mode: What the probe's kernel is convolved with: "current", the tunnel current; "linear",
            the heights; or a number p, (1 + h / angstrom)^p of the heights h above the lowest one,
            whose root is then taken: no model of a junction, but something for networks to learn
            from that lies between the mean of the heights, near 1, and almost the highest, at 20.
        tilt_pm_per_nm: Spread of the sample's tilt along either axis.
        drift_pm_per_s: Of the sample along either axis.
        z_drift_pm_per_s: Of the sample towards the tip, since the last approach; negative: away.
        hysteresis_fraction: Share of a line by which the piezo lags in its middle on the way back.
        creep_fraction: Share of a move by which the piezo is still off right after it; with
            ``creep_time_s`` f in f * ln(1 + t / creep_time_s), by which it goes on after the move.
        creep_time_s: Of creep that never ends, s; None: it is over after two minutes.
        terrace_nm: Mean width of a terrace.
        rough_fraction: Share of the area that is bad sample.
        tip_change_rate: Probability that the tip changes by itself during a full scan.
        tip_change_per_s: Probability of the same per second at 1 V and 25 pA, beside
            ``tip_change_rate``; it grows in proportion to bias and current.
        tip_change_after_pulse: By how much ``tip_change_per_s`` is higher after a pulse, until a
            dip of at most 1.2 nm.
        contact_loss_rate: Probability that contact is lost during a full scan.
        crash_rate: Probability that the tip crashes during a full scan, or in a dip.
        z_range_nm: Full range of the z piezo.
        preamplifier_nA: Largest current that the preamplifier shows.
        approach_spikes_pA: Smallest and largest current that a step of the coarse motor couples
            into the preamplifier, on a virtual Nanonis; None: none.
        transitions: Table of the probe's changes (YAML); None for the one in the package.
    """

    molecule: Molecule = "MgPc"
    mode: Annotated[Literal["current", "linear"] | float, PlainValidator(_mode)] = "current"
    # Above some 3 pm no clean square survives the paper's tolerance of 10 pm.
    white_noise_pm: NonNegative = 2.0
    line_noise_pm: NonNegative = 1.2
    # 3 pm from pixel to pixel of the usual image (10 nm, 64 pixels).
    tilt_pm_per_nm: NonNegative = 19.2
    drift_pm_per_s: NonNegative = 1.0
    z_drift_pm_per_s: float = 0.0
    hysteresis_fraction: Annotated[float, Field(ge=0, le=0.1)] = 0.01
    creep_fraction: Fraction = 0.02
    creep_time_s: Positive | None = None
    molecules_per_nm2: NonNegative = 0.055
    min_distance_nm: Positive = 1.75
    # So wide that a step crosses 8 % of the images of 10 nm.
    terrace_nm: Positive = 125.0
    rough_fraction: Fraction = 0.02
    tip_change_rate: Fraction = 0.002
    tip_change_per_s: NonNegative = 0.0
    tip_change_after_pulse: Annotated[float, Field(ge=1)] = 1.0
    contact_loss_rate: Fraction = 0.0001
    crash_rate: Fraction = 0.0001
    speed_nm_per_s: Positive = 80.0
    z_range_nm: Positive = 300.0
    preamplifier_nA: Positive = 100.0
    approach_spikes_pA: Annotated[tuple[NonNegative, NonNegative] | None, _RISING] = None
    transitions: Path | None = None

    @model_validator(mode="after")
    def _apart(self) -> SimulatorConfig:
        # Dark spots add up: where several overlap there would be less than no current.
        if self.molecule == "CO" and self.min_distance_nm < CO_APART_NM:
            raise ValueError(
                f"min_distance_nm must be at least {CO_APART_NM} for CO, not {self.min_distance_nm}"
            )
        return self

    @property
    def material(self) -> str:
        """Sample on the stage, as in `EnvConfig.material`."""
        return f"{self.molecule} on Ag(100)" if self.molecules_per_nm2 else "Ag(100)"
