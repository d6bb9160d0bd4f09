"""Sources of the simulator's numbers, as the table in docs/simulator.md.

``python -m spm_gym.instrument.sim.provenance`` prints it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Evidence(StrEnum):
    """How a number is known."""

    MEASURED = "measured"
    DOCUMENTED = "documented"
    ASSUMED = "assumed"


class Number(NamedTuple):
    """A number of the simulator, or several that belong together.

    Attributes:
        name: Setting below ``simulator``, or in words what is no setting.
        value: Default as it is written in the settings, or the value in the code.
        evidence: How the default is known.
        source: Publication, or reason of an assumption.
        lab: Value in ``configs/lab-4k.yaml``, where it differs.
        lab_evidence: How that is known.
    """

    name: str
    value: str
    evidence: Evidence
    source: str
    lab: str = ""
    lab_evidence: Evidence | None = None


_MEASURED, _DOCUMENTED, _ASSUMED = Evidence
PAPER = "Krull et al., Commun. Phys. 3, 54 (2020)"
QPLUS = "a qPlus STM at 4 K, fit to 983 intervals between images"

NUMBERS = (
    Number("molecule", "MgPc", _DOCUMENTED, PAPER),
    Number("height of a flat molecule", "200 pm", _ASSUMED, "of MgPc, and taken for the others"),
    Number("bonds of hexabenzocoronene", "142 pm", _DOCUMENTED, "those of graphene"),
    Number("dark spot of carbon monoxide", "30 pm deep, 0.47 nm wide", _ASSUMED,
           "invented; metal tips are known to see a dip of some tens of pm"),
    Number("mode", "current", _ASSUMED, "constant current of s waves; the paper has 'linear'"),
    Number("white_noise_pm", "2.0", _ASSUMED, "a quiet instrument"),
    Number("line_noise_pm", "1.2", _ASSUMED, "a quiet instrument"),
    Number("tilt_pm_per_nm", "19.2", _ASSUMED, "3 pm a pixel"),
    Number("drift_pm_per_s", "1.0", _ASSUMED, "a cold instrument at rest", "10.6", _MEASURED),
    Number("z_drift_pm_per_s", "0.0", _ASSUMED, "left out", "1.0", _MEASURED),
    Number("hysteresis_fraction", "0.01", _ASSUMED, "about 1 % of a line on real retraces"),
    Number("creep_fraction", "0.02", _ASSUMED, "strongest in the first scan", "0.05", _MEASURED),
    Number("creep_time_s", "null", _ASSUMED, "over in 120 s: " + PAPER + " waits so long",
           "500.0", _MEASURED),
    Number("molecules_per_nm2", "0.055", _ASSUMED, "a sub-monolayer"),
    Number("min_distance_nm", "1.75", _ASSUMED, "somewhat more than a molecule"),
    Number("terrace_nm", "125.0", _ASSUMED, "a step in about 8 % of the images"),
    Number("rough_fraction", "0.02", _ASSUMED, "bad sample is rare"),
    Number("tip_change_rate", "0.002", _ASSUMED, "conditioning is seldom needed",
           "0.0", _MEASURED),
    Number("tip_change_per_s", "0.0", _ASSUMED, "counted by scans instead", "0.0001", _MEASURED),
    Number("growth of tip_change_per_s with bias and current", "in proportion to either", _ASSUMED,
           "that it grows was measured, not how"),
    Number("tip_change_after_pulse", "1.0", _ASSUMED, "left out", "10.0", _ASSUMED),
    Number("contact_loss_rate", "0.0001", _ASSUMED, "rare"),
    Number("crash_rate", "0.0001", _ASSUMED, "rare"),
    Number("speed_nm_per_s", "80.0", _DOCUMENTED, PAPER),
    Number("z_range_nm", "300.0", _ASSUMED, "of the order of real scanners"),
    Number("preamplifier_nA", "100.0", _ASSUMED, "gain of 1e8 V/A", "10.0", _MEASURED),
    Number("approach_spikes_pA", "null", _ASSUMED, "left out", "82 to 375", _MEASURED),
    Number("transitions", "null", _ASSUMED,
           "the table of the package, invented: neither trivial nor hopeless"),
    Number("bias and setpoint at the start", "1 V, 25 pA", _DOCUMENTED, PAPER),
    Number("extension of the z piezo after an approach", "80 %", _DOCUMENTED, PAPER),
    Number("height of a step of Ag(100)", "204 pm", _DOCUMENTED, "half its lattice constant"),
    Number("decay of the current in images", "1 / angstrom", _ASSUMED, "barrier of 3.8 eV"),
    Number("barrier of a clean tip over silver", "4.0 +- 0.3 eV", _ASSUMED,
           "work functions of 4.2 to 4.6 eV, lowered by the image potential"),
    Number("spread of the barrier from patch to patch", "0.15 eV", _ASSUMED,
           "no patch of silver is like the next"),
    Number("barrier lowered by a molecule at the tip", "1 to 2 eV", _ASSUMED,
           "contaminated tips are known by low barriers"),
    Number("curvature of I(V)", "0.2 eV / V^2 over the barrier", _DOCUMENTED,
           "Simmons, J. Appl. Phys. 34, 1793 (1963), gap of 0.6 nm"),
    Number("noise of the preamplifier", "5 fA / sqrt(Hz)", _ASSUMED, "usual at 1e9 V/A"),
)  # fmt: skip


def table() -> str:
    """Write the numbers as a table in Markdown."""
    lines = [
        "| number | default | known | lab-4k | known | source |",
        "|---|---|---|---|---|---|",
    ]
    for number in NUMBERS:
        source = number.source
        if number.lab_evidence is Evidence.MEASURED:
            source += f"; lab-4k: {QPLUS}"
        name = f"`{number.name}`" if " " not in number.name else number.name
        cells = (
            name, number.value, number.evidence, number.lab, number.lab_evidence or "", source
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
