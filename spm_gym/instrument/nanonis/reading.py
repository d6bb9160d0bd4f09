"""What a controller tells of itself and of the microscope; nothing is moved or changed."""

from __future__ import annotations

import time

from spm_gym.config import RealConfig
from spm_gym.instrument.base import BadReply, CommandFailed, InstrumentError
from spm_gym.instrument.nanonis.commands import RT_INDEXES_SINCE
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.types import Status

FEEDBACK_ON = 2
"""Reply of ZCtrl.StatusGet while the feedback holds the tip."""

_END_MARGIN = 0.01


def ask_release(controller: Controller, config: RealConfig) -> int:
    """The release of the controller's software, by the settings or by asking.

    Raises:
        InstrumentError: It does not say.
    """
    if config.release is not None:
        return config.release
    try:
        version = controller.call("Util.VersionGet")
    except (CommandFailed, BadReply) as error:
        raise InstrumentError(
            f"the controller does not tell its release ({error}): set real.release, for example "
            "real.release=10862 for software older than R11798"
        ) from error
    return int(version["host_release"])


def read_z_range(controller: Controller) -> tuple[float, float]:
    """Lowest and highest height that the z piezo reaches, m."""
    limits = controller.call("ZCtrl.LimitsGet")
    low, high = limits["low"], limits["high"]
    if not low < high:
        raise BadReply(f"ZCtrl.LimitsGet: a z range from {low:g} to {high:g} m")
    return low, high


def read_status(controller: Controller, z_range: tuple[float, float]) -> Status:
    """Ask for everything that a `Status` tells; moves nothing."""
    place = controller.call("FolMe.XYPosGet", newest=0)
    return Status(
        x=place["x"],
        y=place["y"],
        z=controller.call("ZCtrl.ZPosGet")["z"],
        z_range=z_range,
        bias=controller.call("Bias.Get")["bias"],
        setpoint=controller.call("ZCtrl.SetpntGet")["setpoint"],
        current=controller.call("Current.Get")["current"],
        approached=controller.call("ZCtrl.StatusGet")["status"] == FEEDBACK_ON,
        time=time.time(),
    )


def height_channel(controller: Controller, wanted: str) -> int:
    """Index of the height signal, as the scan commands of this release count it.

    Raises:
        InstrumentError: There is no such signal.
    """
    slots = controller.release < RT_INDEXES_SINCE
    names = controller.call("Signals.InSlotsGet" if slots else "Signals.NamesGet")["names"]
    if wanted not in names:
        raise InstrumentError(
            f"setting real.imaging.channel = {wanted!r}: the controller has no such signal; "
            f"it has {', '.join(name for name in names if name)}"
        )
    return int(names.index(wanted))


def retracted(z: float, z_range: tuple[float, float]) -> bool:
    """Whether this height is the upper end of the z piezo: withdrawn, or crashed."""
    return z > z_range[1] - _margin(z_range)


def out_of_reach(z: float, z_range: tuple[float, float]) -> bool:
    """Whether this height is the lower end of the z piezo: contact is lost."""
    return z < z_range[0] + _margin(z_range)


def _margin(z_range: tuple[float, float]) -> float:
    return _END_MARGIN * (z_range[1] - z_range[0])
