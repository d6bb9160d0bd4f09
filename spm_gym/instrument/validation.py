"""Validation of requests and answers that are impossible for any microscope.

A value of a wrong type is a mistake in a program, a `ValueError`. A number that is not finite, or
on the impossible side of zero, lies outside any limit: `LimitExceeded`. An answer may be NaN where
a microscope does not know; an infinite answer is a `BadReply`.
"""

from __future__ import annotations

import math

import numpy as np

from spm_gym.errors import BadReply, LimitExceeded, brief
from spm_gym.types import Dip, Direction, Frame, Pulse, Scan, Stall, Status


def validate_scan(frame: object, fraction: object = 1.0) -> None:
    """Refuse an impossible frame or share of its lines.

    Raises:
        ValueError: It is not a frame, its pixels or lines are not an integer, the lines do not
            divide the pixels, or the fraction is not within 0 to 1.
        LimitExceeded: The frame is at no finite place, or has no extent.
    """
    if not isinstance(frame, Frame):
        raise ValueError(f"a scan needs a Frame, not {brief(frame)}")
    for name in ("x", "y", "size", "angle"):
        _validate_number(f"the frame's {name}", getattr(frame, name))
    for name in ("pixels", "lines"):
        number = getattr(frame, name)
        if not isinstance(number, int | np.integer) or isinstance(number, bool):
            raise ValueError(f"the frame's {name} must be an integer, not {brief(number)}")
    if frame.size <= 0 or min(frame.shape) < 1:
        raise LimitExceeded(
            f"a frame has an extent: size {frame.size:g} m, {frame.pixels} pixels, "
            f"{frame.lines} lines are refused"
        )
    if frame.pixels % frame.lines:
        raise ValueError(
            f"the frame's lines must divide its pixels: {frame.lines} lines of {frame.pixels} "
            "pixels are refused"
        )
    if not _is_number(fraction) or not 0 <= fraction <= 1:  # type: ignore[operator]
        raise ValueError(f"fraction must be within 0 to 1, not {brief(fraction)}")


def validate_act(action: object, x: object, y: object) -> None:
    """Refuse an impossible action or place.

    Raises:
        ValueError: It is not an action, or a parameter is not a number.
        LimitExceeded: A number is not finite, or a duration is negative.
    """
    if not isinstance(action, Stall | Pulse | Dip):
        raise ValueError(f"conditioning is a Stall, a Pulse or a Dip, not {brief(action)}")
    validate_place(x, y)
    if isinstance(action, Dip):
        _validate_number("the depth of a dip", action.depth)
    if isinstance(action, Pulse | Dip):
        _validate_number("the bias of an action", action.bias)
        validate_duration("the width of an action", action.width)


def validate_place(x: object, y: object) -> None:
    """Refuse an impossible place (m).

    Raises:
        ValueError: A coordinate is not a number.
        LimitExceeded: A coordinate is not finite.
    """
    _validate_number("x", x)
    _validate_number("y", y)


def validate_direction(direction: object) -> None:
    """Refuse an impossible direction of a coarse move.

    Raises:
        ValueError: It is not a direction.
    """
    if not isinstance(direction, Direction):
        allowed = ", ".join(str(each) for each in Direction)
        raise ValueError(f"a coarse move needs one of {allowed}, not {brief(direction)}")


def validate_duration(what: str, seconds: object) -> None:
    """Refuse an impossible duration (s).

    Raises:
        ValueError: It is not a number.
        LimitExceeded: It is not finite, or negative.
    """
    _validate_number(what, seconds)
    if seconds < 0:  # type: ignore[operator]
        raise LimitExceeded(f"{what} must not be negative, but is {seconds} s")


def validate_status(status: Status) -> None:
    """Refuse an impossible status.

    Raises:
        BadReply: A number is infinite, or the z range has no extent.
    """
    for name in ("x", "y", "z", "bias", "setpoint", "current", "time"):
        _validate_answer(name, getattr(status, name))
    _validate_range(status.z_range)


def validate_answered(scan: Scan, frame: Frame) -> None:
    """Refuse an impossible scan, or one of another frame than was asked for.

    Raises:
        BadReply: A number is infinite, the z range has no extent, or the heights are not
            (lines, pixels) float32.
    """
    if scan.z.shape != frame.shape or scan.z.dtype != np.float32:
        # Whatever reads the image further on is made for what was asked for, and drivers come from
        # other packages too; one that does not know of previews would answer with a full scan.
        raise BadReply(
            f"the scan has {scan.z.shape} heights of type {scan.z.dtype}, "
            f"not {frame.shape} of float32"
        )
    for name in ("bias", "setpoint", "started"):
        _validate_answer(f"{name} of the scan", getattr(scan, name))
    if scan.z_range is not None:
        _validate_range(scan.z_range)
    if np.isinf(scan.z).any():
        raise BadReply("heights of the scan are infinite")


def _validate_range(z_range: tuple[float, float]) -> None:
    low, high = z_range
    for end in z_range:
        _validate_answer("an end of the z range", end)
    if low >= high:  # false if unknown (NaN)
        raise BadReply(f"the reported z range, {low:g} to {high:g} m, has no extent")


def _validate_answer(what: str, value: float) -> None:
    # With an infinite answer every comparison with a limit is in favour of going on.
    if math.isinf(value):
        raise BadReply(f"{what} was reported as {value}, which is impossible")


def _validate_number(what: str, value: object) -> None:
    if not _is_number(value):
        raise ValueError(f"{what} must be a number, not {brief(value)}")
    if not math.isfinite(value):  # type: ignore[arg-type]
        raise LimitExceeded(f"{what} must be finite, not {value}")


def _is_number(value: object) -> bool:
    # To Python, True is an integer.
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
