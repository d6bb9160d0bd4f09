"""Where the tip is: moving it sideways, taking it away, and seeing that it is at the surface."""

from __future__ import annotations

import math

from spm_gym.errors import (
    CommandFailed,
    ContactLost,
    InstrumentError,
    TipCrashed,
    TipWithdrawn,
    UnsafeToContinue,
)
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.reading import (
    holds_tip,
    out_of_reach,
    read_current,
    read_numbers,
    read_place,
    read_status,
    read_z,
    retracted,
    touches,
)
from spm_gym.instrument.nanonis.scanning import stop_scan
from spm_gym.scale import NM

_SLOWEST = 1e-12
"""m/s; a controller that reports less reports nonsense."""


def move_tip(controller: Controller, x: float, y: float) -> None:
    """Move the tip to x, y (m), in contact or not, and read back where it is.

    Raises:
        InstrumentError: It is elsewhere, or any other failure.
    """
    # The reply comes when the tip is there: how long that takes, only the speed tells.
    here = read_place(controller)
    (speed,) = read_numbers(controller, "FolMe.SpeedGet", "speed")
    distance = math.dist((x, y), here)
    # Some controllers report 0 for "as fast as it goes".
    if speed != 0 and not abs(speed) > _SLOWEST:
        raise CommandFailed(f"FolMe.SpeedGet: the tip moves at {speed:g} m/s, so never")
    takes = 2 * distance / abs(speed) if speed != 0 else 0.0
    controller.call("FolMe.XYPosSet", takes=takes, x=x, y=y, wait=1)
    # The newest value: others are averaged over a time in which the tip still moved.
    there = read_place(controller, newest=1)
    if not math.dist((x, y), there) <= NM:
        raise InstrumentError(
            f"the tip is at ({there[0] / NM:.1f}, {there[1] / NM:.1f}) nm instead of "
            f"({x / NM:.1f}, {y / NM:.1f}): out of the piezo's range, or somebody else moves it"
        )


def check_feedback(controller: Controller) -> None:
    """See that the feedback holds the tip.

    Raises:
        TipWithdrawn: It does not.
    """
    if not holds_tip(controller):
        raise TipWithdrawn("the tip is withdrawn or the feedback off: approach first")


def check_contact(controller: Controller, z_range: tuple[float, float]) -> None:
    """See that the tip is at the surface.

    Args:
        controller: Is asked.
        z_range: Lowest and highest height that the z piezo reaches, m.

    Raises:
        TipWithdrawn: The feedback does not hold it.
        ContactLost: The surface is out of reach.
        TipCrashed: The tip is in the surface.
    """
    check_feedback(controller)
    z = read_z(controller)
    if out_of_reach(z, z_range):
        raise ContactLost("the surface is out of reach: approach first")
    if retracted(z, z_range):
        raise TipCrashed("the tip has crashed into the surface: withdraw and approach first")


def lift_tip(controller: Controller, z_range: tuple[float, float], seconds: float) -> None:
    """Stop the scan and take the tip to the upper end of the z piezo, whether that frees it or not.

    Args:
        controller: Carries it out.
        z_range: Lowest and highest height that the z piezo reaches, m.
        seconds: Longest time that it may take.

    Raises:
        InstrumentError: It is not there, or any other failure.
    """
    # A scan that goes on would move a tip sideways that has not yet come free.
    stop_scan(controller)
    controller.call("ZCtrl.Withdraw", takes=seconds, wait=1, timeout=math.ceil(seconds * 1e3))
    # The reply has no flag for a timeout, so the height has to say it.
    status = read_status(controller, z_range)
    if status.approached or not retracted(status.z, z_range):
        raise InstrumentError(
            f"the tip is not withdrawn: z = {status.z / NM:.1f} nm of {z_range[1] / NM:.1f} nm "
            f"after {seconds:g} s (real.nanonis.withdraw_timeout_s)"
        )


def withdraw_tip(controller: Controller, z_range: tuple[float, float], seconds: float) -> None:
    """Lift the tip, as `lift_tip`, and see that it is free.

    Raises:
        UnsafeToContinue: It still draws the current of a tip that touches something.
        InstrumentError: As for `lift_tip`.
    """
    lift_tip(controller, z_range, seconds)
    if touches(controller):
        raise UnsafeToContinue(
            "the tip is withdrawn as far as the z piezo goes and still draws "
            f"{read_current(controller) / NM:.3g} nA: it touches the sample"
        )
