"""The driver of a microscope behind the LabVIEW server of DeepSPM."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from spm_gym.config import EnvConfig, RealConfig
from spm_gym.config.real import DeepSPMConfig, DriverSettings, ImagingConfig
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.deepspm.client import DeepSPMInstrument
from spm_gym.instrument.driver import Capabilities, Driver, DriverContext, Finding, Inspection
from spm_gym.scale import NM, PA

_UNABLE = (
    "status", "withdraw", "retract", "previews", "abort", "restore", "rehearse", "verify_motor"
)  # fmt: skip


@dataclass(frozen=True)
class DeepSPMDriver(Driver):
    """Drives the server; nothing is known of the instrument but what the settings say."""

    settings: type[DriverSettings] = DeepSPMConfig

    def capabilities(self, real: RealConfig) -> Capabilities:
        """Say what can be done: scans, actions, approach, other areas, hand-overs."""
        why = "its protocol has no such request"
        return Capabilities(coarse_motion=True, lend=True, reasons=dict.fromkeys(_UNABLE, why))

    def connect(self, real: RealConfig, context: DriverContext) -> Instrument:
        """Connect; bias and setpoint are taken for what the settings say, not set."""
        bias, setpoint = _stated(real.imaging)
        return DeepSPMInstrument(
            real.deepspm.host,
            real.deepspm.port,
            bias=bias,
            setpoint=setpoint,
            speed=real.imaging.speed_nm_per_s * NM,
        )

    def preflight(self, real: RealConfig, env: EnvConfig, kept: Path | None) -> Inspection:
        """Ask for the sizes that the server knows."""
        own, area_nm = real.deepspm, env.regions.area_nm
        with closing(DeepSPMInstrument(own.host, own.port)) as instrument:
            side_nm, z_range = instrument.area_side() / NM, instrument.status().z_range
        findings = [
            Finding("connection", f"{own.host} port {own.port} answers"),
            Finding("piezo range", f"{side_nm:g} nm; used are {area_nm:g} nm", area_nm > side_nm),
            Finding("z range", f"{z_range[0] / NM:g} to {z_range[1] / NM:g} nm"),
        ]
        return Inspection(findings, *_stated(real.imaging))


def _stated(imaging: ImagingConfig) -> tuple[float, float]:
    """Bias (V) and setpoint (A) as the settings say; NaN for what they leave open."""
    bias, setpoint = imaging.bias_V, imaging.setpoint_pA
    return math.nan if bias is None else bias, math.nan if setpoint is None else setpoint * PA
