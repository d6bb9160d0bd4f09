"""The values that the microscope works with: limits hold for them, no matter who has set them.

A run leaves alone what its settings do not name, and an operator may turn a knob in the middle of
it. So what is in force is asked of the controller, before every approach, scan and act.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from spm_gym.config import RealConfig
from spm_gym.errors import LimitExceeded
from spm_gym.instrument.limits import check_bias, check_place, check_setpoint, check_speed
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.reading import (
    holds_tip,
    is_on,
    read_bias,
    read_numbers,
    read_setpoint,
)
from spm_gym.scale import NM, PA

_SAME = 1e-3
"""A change by less is rounding, of the controller or of its display."""


@dataclass(frozen=True, slots=True)
class InForce:
    """The values that the controller says it works with.

    Attributes:
        bias: V.
        setpoint: A.
        speed: Of the tip in scans, forward, m/s.
        frame: Centre x and y, width and height of the scan frame, m, and its angle, degrees.
    """

    bias: float
    setpoint: float
    speed: float
    frame: tuple[float, ...]

    @staticmethod
    def read(controller: Controller) -> InForce:
        """Ask the controller; changes nothing."""
        return InForce(
            read_bias(controller),
            read_setpoint(controller),
            read_numbers(controller, "Scan.SpeedGet", "fwd_speed")[0],
            tuple(
                read_numbers(
                    controller, "Scan.FrameGet", "centre_x", "centre_y", "width", "height", "angle"
                )
            ),
        )

    def changes_to(self, other: InForce) -> list[str]:
        """List what differs in another reading, each in words."""
        found = []
        if not math.isclose(self.bias, other.bias, rel_tol=_SAME):
            found.append(f"bias from {self.bias:.4g} to {other.bias:.4g} V")
        if not math.isclose(self.setpoint, other.setpoint, rel_tol=_SAME):
            found.append(f"setpoint from {self.setpoint / PA:.4g} to {other.setpoint / PA:.4g} pA")
        if not math.isclose(self.speed, other.speed, rel_tol=_SAME):
            found.append(f"scan speed from {self.speed / NM:.4g} to {other.speed / NM:.4g} nm/s")
        # Places are compared by the size of the frame: less is rounding, not an operator.
        nearby = _SAME * max(self.frame[2], other.frame[2])
        *place, angle = zip(self.frame, other.frame, strict=True)
        moved = any(abs(a - b) > nearby for a, b in place)
        if moved or abs(angle[0] - angle[1]) > 0.1:
            found.append(f"scan frame from {_frame(self.frame)} to {_frame(other.frame)}")
        return found


def check_limits_in_force(bias: float, setpoint: float, config: RealConfig) -> None:
    """Refuse a bias (V) or setpoint (A) at which no tip may be at the surface.

    Raises:
        LimitExceeded: Names the limit.
    """
    check_bias(bias, config.limits)
    check_setpoint(setpoint, config.limits)


def safe_tip_threshold(controller: Controller) -> float | None:
    """Current above which the controller withdraws the tip by itself, A; None if it does not."""
    if not is_on(controller.call("SafeTip.OnOffGet")["on"]):
        return None
    return read_numbers(controller, "SafeTip.PropsGet", "threshold")[0]


def check_safe_tip(threshold: float | None, setpoint: float, config: RealConfig) -> None:
    """Refuse a Safe Tip that would withdraw the tip at the setpoint, or at that of approach.

    Args:
        threshold: Of Safe Tip, A; None if it is off.
        setpoint: Of imaging, A.
        config: The settings of the real microscope.

    Raises:
        LimitExceeded: The threshold is not above the setpoint.
    """
    # The larger of the two: Safe Tip does not know that an approach is under way.
    highest = max(abs(setpoint), (config.nanonis.approach_setpoint_pA or 0.0) * PA)
    if threshold is not None and not threshold > highest:
        raise LimitExceeded(
            f"Safe Tip is on and withdraws the tip at {threshold / PA:.4g} pA, which the setpoint "
            f"of {highest / PA:.4g} pA reaches: raise its threshold "
            "(real.nanonis.shaping.safe_tip_nA), lower the setpoint or switch Safe Tip off"
        )


def check_safe_tip_in_force(controller: Controller, config: RealConfig) -> None:
    """As `check_safe_tip`, of what the controller says of itself."""
    check_safe_tip(safe_tip_threshold(controller), read_setpoint(controller), config)


def check_before_changes(controller: Controller, config: RealConfig) -> None:
    """See that limits hold for what will be in force, and for what is if the tip is down.

    Raises:
        LimitExceeded: Names the limit.
    """
    imaging = config.imaging
    bias, setpoint = read_bias(controller), read_setpoint(controller)
    # A withdrawn tip may have any bias: what counts is the one that it will come down with.
    if holds_tip(controller):
        check_limits_in_force(bias, setpoint, config)
    bias = bias if imaging.bias_V is None else imaging.bias_V
    setpoint = setpoint if imaging.setpoint_pA is None else imaging.setpoint_pA * PA
    check_limits_in_force(bias, setpoint, config)


class Watch:
    """Knows what should be in force, and notices what somebody else has changed.

    Args:
        controller: Is asked.
        config: The settings of the real microscope.
        note: Takes a sentence for every change.
    """

    def __init__(
        self, controller: Controller, config: RealConfig, note: Callable[[str], None]
    ) -> None:
        self._controller = controller
        self._config = config
        self._note = note
        self._known: InForce | None = None

    def adopt(self) -> None:
        """Take what is in force for what should be: this program has set it, or begins with it."""
        self._known = InForce.read(self._controller)

    def check(self) -> list[str]:
        """See that the limits hold for what is in force.

        Returns:
            What somebody else has changed since the last time.

        Raises:
            LimitExceeded: A value in force lies outside the limits.
        """
        now, changes = self.note_changes()
        check_limits_in_force(now.bias, now.setpoint, self._config)
        if changes:
            # Speed and frame of the operator are replaced before the first scan.
            x, y, width, height, _ = now.frame
            check_speed(now.speed, self._config.limits)
            check_place(abs(x) + width / 2, abs(y) + height / 2, self._config.limits)
        return changes

    def note_changes(self) -> tuple[InForce, list[str]]:
        """Note what somebody else has changed since the last time; returns it, and all in force."""
        now = InForce.read(self._controller)
        changes = [] if self._known is None else self._known.changes_to(now)
        # Noted once: what somebody has set on purpose is not called a change again.
        self._known = now
        for change in changes:
            self._note(f"somebody has changed the {change}")
        return now, changes

    def expect_frame(self, frame: tuple[float, ...], speed: float) -> None:
        """Know what frame and speed (m/s) this program has just set."""
        if self._known is not None:
            self._known = replace(self._known, frame=frame, speed=speed)


def _frame(frame: tuple[float, ...]) -> str:
    x, y, width, _, angle = frame
    return f"{width / NM:.4g} nm at ({x / NM:.1f}, {y / NM:.1f}) nm, {angle:.1f} degrees"
