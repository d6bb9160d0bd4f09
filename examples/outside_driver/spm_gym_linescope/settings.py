"""The driver's settings: the section ``real.linescope``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from spm_gym.config.real import DriverSettings, ImagingConfig, LimitsConfig
from spm_gym_linescope.protocol import PORT

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class LinescopeConfig(DriverSettings):
    """Settings of a linescope.

    Attributes:
        host: Of the linescope.
        port: Of the linescope.
        timeout_s: Longest time for a reply, beyond what a request itself takes.
        act_s: Longest move of the tip, sideways or up, beyond the duration of a pulse or dip.
        approach_s: Longest approach.
        steps: Coarse steps away from the sample, and sideways.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = PORT
    timeout_s: Seconds = 10.0
    act_s: Seconds = 60.0
    approach_s: Seconds = 600.0
    steps: Annotated[int, Field(ge=1)] = 10

    def check(self, imaging: ImagingConfig, limits: LimitsConfig) -> None:
        """Refuse more steps than the limits allow."""
        if self.steps > limits.coarse_steps:
            raise ValueError(
                f"linescope.steps = {self.steps} exceeds limits.coarse_steps = "
                f"{limits.coarse_steps}"
            )
