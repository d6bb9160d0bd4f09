"""Questions to a controller about itself and the microscope; nothing is moved or changed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from spm_gym.config.real import NanonisConfig
from spm_gym.errors import BadReply, CommandFailed, InstrumentError
from spm_gym.instrument.nanonis.commands import RT_INDEXES_SINCE
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.types import Status

FEEDBACK_ON = 2
"""Reply of ZCtrl.StatusGet while the feedback holds the tip."""

VIRTUAL = "Virtual Nanonis"
"""Product line of the virtual controller of this project: its samples are simulated."""

_END_MARGIN = 0.01
_HEIGHT_UNIT = "(m)"
_TOUCHING = 0.5e-9
"""Current that no tip in the air draws, A: approach spikes of up to 0.375 nA are on record."""


def is_on(value: int) -> bool:
    """Whether a switch that a Get reports is on.

    A Set has 1 for on and 2 for off, a Get 1 and 0; some controllers report what was set.
    """
    return value == 1


def read_numbers(controller: Controller, command: str, *keys: str, **values: Any) -> list[float]:
    """Numbers that a command returns.

    Raises:
        BadReply: One is infinite or not a number, which no comparison with a limit would notice.
    """
    reply = controller.call(command, **values)
    for key in keys:
        if not math.isfinite(reply[key]):
            raise BadReply(f"{command}: {key} = {reply[key]:g} is no finite number")
    return [float(reply[key]) for key in keys]


def ask_release(controller: Controller, config: NanonisConfig) -> int:
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
            f"the controller does not say its release ({error}): set real.nanonis.release, for "
            "example real.nanonis.release=10862 for software older than R11798"
        ) from error
    return int(version["host_release"])


def is_virtual(controller: Controller) -> bool:
    """Whether this is the virtual controller of this project, as far as the release can tell."""
    try:
        return bool(controller.call("Util.VersionGet")["product_line"] == VIRTUAL)
    except CommandFailed:
        return False


def read_z_range(controller: Controller) -> tuple[float, float]:
    """Lowest and highest height that the z piezo reaches, m."""
    limits = controller.call("ZCtrl.LimitsGet")
    low, high = limits["low"], limits["high"]
    if not (low < high and math.isfinite(high - low)):
        raise BadReply(f"ZCtrl.LimitsGet: a z range from {low:g} to {high:g} m")
    return low, high


def read_status(controller: Controller, z_range: tuple[float, float]) -> Status:
    """Ask for everything that a `Status` tells; moves nothing.

    Raises:
        BadReply: A number is not finite.
    """
    x, y = read_place(controller)
    return Status(
        x=x,
        y=y,
        z=read_z(controller),
        z_range=z_range,
        bias=read_bias(controller),
        setpoint=read_setpoint(controller),
        current=read_current(controller),
        approached=holds_tip(controller),
        time=time.time(),
    )


def read_place(controller: Controller, newest: int = 0) -> tuple[float, float]:
    """Piezo position, m; ``newest`` 1 waits for the next measurement."""
    x, y = read_numbers(controller, "FolMe.XYPosGet", "x", "y", newest=newest)
    return x, y


def read_z(controller: Controller) -> float:
    """Height of the tip, m."""
    return read_numbers(controller, "ZCtrl.ZPosGet", "z")[0]


def read_bias(controller: Controller) -> float:
    """Sample bias, V."""
    return read_numbers(controller, "Bias.Get", "bias")[0]


def read_setpoint(controller: Controller) -> float:
    """Current setpoint, A."""
    return read_numbers(controller, "ZCtrl.SetpntGet", "setpoint")[0]


def read_current(controller: Controller) -> float:
    """Tunnelling current, A."""
    return read_numbers(controller, "Current.Get", "current")[0]


def holds_tip(controller: Controller) -> bool:
    """Whether the feedback holds the tip at the surface."""
    # On hold, switching off, Safe Tip, withdrawing: nothing but "on" keeps a tip at the surface.
    return bool(controller.call("ZCtrl.StatusGet")["status"] == FEEDBACK_ON)


def touches(controller: Controller) -> bool:
    """Whether a tip that should be in the air draws the current of one that touches something."""
    # Written so that a current that is no number counts as touching.
    return not abs(read_current(controller)) <= max(_TOUCHING, 2 * abs(read_setpoint(controller)))


def height_channel(controller: Controller, channel: str) -> int:
    """Index of the height signal, as the scan commands of this release count it.

    Raises:
        InstrumentError: There is no such signal, or it is no height.
    """
    index = channel_index(signal_names(controller), channel, "real.nanonis.channel")
    # The unit stands at the end of a signal's name. Lateral positions have it too, but no scan
    # records them.
    if not channel.strip().endswith(_HEIGHT_UNIT) or channel.strip()[:1] in ("X", "Y"):
        raise InstrumentError(
            f"setting real.nanonis.channel = {channel!r}: this is no height of the tip in metres; "
            "the usual one is 'Z (m)'"
        )
    return index


def signal_names(controller: Controller) -> list[str]:
    """Names of the signals in the order in which the scan commands of this release count them."""
    # Older scans count the 24 slots of the Signals Manager, newer ones the list of 128 signals.
    slots = controller.release < RT_INDEXES_SINCE
    asked = "Signals.InSlotsGet" if slots else "Signals.NamesGet"
    return [str(name) for name in controller.call(asked)["names"]]


def channel_index(names: Sequence[str], channel: str, setting: str) -> int:
    """Find a signal that a setting names.

    Raises:
        InstrumentError: There is no such signal.
    """
    if channel not in names:
        raise InstrumentError(
            f"setting {setting} = {channel!r}: the controller has no such signal; "
            f"it has {', '.join(name for name in names if name)}"
        )
    return names.index(channel)


def retracted(z: float, z_range: tuple[float, float]) -> bool:
    """Whether this height is the upper end of the z piezo: withdrawn, or crashed."""
    return z > z_range[1] - _margin(z_range)


def out_of_reach(z: float, z_range: tuple[float, float]) -> bool:
    """Whether this height is the lower end of the z piezo: contact is lost."""
    return z < z_range[0] + _margin(z_range)


def _margin(z_range: tuple[float, float]) -> float:
    return _END_MARGIN * (z_range[1] - z_range[0])
