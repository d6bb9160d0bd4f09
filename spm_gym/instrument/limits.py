"""Comparison of requests with the limits of a microscope.

A request is refused, never clamped: a clamped dip would be another action than the policy chose.
"""

from __future__ import annotations

from spm_gym.config.real import LimitsConfig
from spm_gym.errors import LimitExceeded
from spm_gym.scale import NM, PA
from spm_gym.types import Conditioning, Dip, Frame, Pulse

_ROUNDING = 1e-7
"""Relative tolerance: the rounding of controllers to single precision exceeds no limit."""


def check_frame(frame: Frame, limits: LimitsConfig) -> None:
    """Refuse a frame outside the limits.

    Raises:
        LimitExceeded: Names the limit.
    """
    _within("image_nm", frame.size / NM, limits.image_nm, "an image of {} nm")
    _within("pixels", frame.pixels, limits.pixels, "an image of {} pixels")
    _within("pixels", frame.lines, limits.pixels, "an image of {} lines")
    # The corners count, not the centre: a rotated frame reaches further out.
    for x, y in frame.corners:
        check_place(x, y, limits)


def check_action(action: Conditioning, limits: LimitsConfig) -> None:
    """Refuse an action outside the limits.

    Raises:
        LimitExceeded: Names the limit.
    """
    if isinstance(action, Pulse | Dip):
        check_bias(action.bias, limits)
        _within("width_s", action.width, limits.width_s, "an action of {} s")
    if isinstance(action, Dip):
        _within("dip_nm", abs(action.depth) / NM, (0.0, limits.dip_nm), "a dip of {} nm")


def check_place(x: float, y: float, limits: LimitsConfig) -> None:
    """Refuse a place (m) that is too far out."""
    for distance in (x, y):
        bounds = (0.0, limits.position_nm)
        _within("position_nm", abs(distance) / NM, bounds, "a place {} nm from the centre")


def check_bias(bias: float, limits: LimitsConfig) -> None:
    """Refuse a bias (V).

    Raises:
        LimitExceeded: Names the limit.
    """
    # At too small a bias the feedback drives the tip into the sample to reach its setpoint.
    _within("bias_V", abs(bias), limits.bias_V, "a bias of {} V")


def check_setpoint(setpoint: float, limits: LimitsConfig) -> None:
    """Refuse a setpoint (A).

    Raises:
        LimitExceeded: Names the limit.
    """
    # A setpoint within the noise of the preamplifier is reached anywhere, also without a surface.
    bounds = (limits.min_setpoint_pA, limits.setpoint_pA)
    names = "setpoint_pA and min_setpoint_pA"
    _within(names, abs(setpoint) / PA, bounds, "a setpoint of {} pA")


def check_speed(speed: float, limits: LimitsConfig) -> None:
    """Refuse a speed of the tip (m/s)."""
    bounds = (0.0, limits.speed_nm_per_s)
    _within("speed_nm_per_s", speed / NM, bounds, "a scan speed of {} nm/s")


def _within(limit: str, value: float, bounds: tuple[float, float], what: str) -> None:
    low, high = bounds
    # Written so that NaN is refused too.
    if not low * (1 - _ROUNDING) <= value <= high * (1 + _ROUNDING):
        raise LimitExceeded(
            f"{what.format(f'{value:.6g}')} is refused: allowed are {low:g} to {high:g} "
            f"(real.limits.{limit})"
        )
