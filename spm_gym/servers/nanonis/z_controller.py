"""Feedback loop and z piezo of the virtual controller: modules Z-Controller and Safe Tip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from spm_gym.servers.nanonis.bench import Bench, Handler, Refused, seconds
from spm_gym.types import Dip

_EXTENSION_RATE = 1e-6
_CONTROLLERS = ("log Current", "Current")
_SPIKE_FADES_S = 20e-3
DEEPEST = 30e-9
"""Depth of an indentation beyond which its effect stays the same, m."""

STEP = 100e-9
"""Step of the coarse z motor, m."""

_NEVER = 1e-3
"""Slowest rate, as a share of the usual one, so that every motion ends."""


class LoopStatus(IntEnum):
    """Return values of ZCtrl.StatusGet."""

    OFF = 1
    ON = 2
    SWITCHING_OFF = 4
    SAFE_TIP = 5
    WITHDRAWING = 6


@dataclass(frozen=True, slots=True)
class _Motion:
    """Motion of the z piezo, and whether the feedback takes over at its end."""

    start: float
    end: float
    started: float
    until: float
    engage: bool = False
    status: LoopStatus = LoopStatus.OFF

    def z(self, now: float) -> float:
        if now >= self.until:
            return self.end
        return self.start + (self.end - self.start) * (now - self.started) / (
            self.until - self.started
        )


class ZController:
    """Holds the tip at the surface, or at a given height.

    Attributes:
        loop: Whether the feedback is on.
        coarse: Steps of the coarse motor away from the sample since the last landing.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._microscope = bench.microscope
        self._motion: _Motion | None = None
        self._held = self._microscope.status().z
        self._indentation = 0.0
        self._coupled = (0.0, 0.0)
        self._tripped = False
        self.loop = self._microscope.status().approached
        self.coarse = 0
        low, high = self._microscope.z_range
        bench.settings.of("ZCtrl.Limits").update(high=high, low=low)

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the module's commands, by name."""
        return {
            "ZCtrl.ZPosSet": self._set_z,
            "ZCtrl.ZPosGet": lambda: {"z": self.z},
            "ZCtrl.OnOffSet": lambda on: self.switch(bool(on)),
            "ZCtrl.OnOffGet": lambda: {"on": int(self.loop or self._switching_off)},
            "ZCtrl.SetpntSet": self._set_setpoint,
            "ZCtrl.SetpntGet": lambda: {"setpoint": self._microscope.setpoint},
            "ZCtrl.Home": self._home,
            "ZCtrl.ActiveCtrlSet": self._set_active,
            "ZCtrl.CtrlListGet": self._controllers,
            "ZCtrl.Withdraw": self._withdraw,
            "ZCtrl.LimitsSet": self._set_limits,
            "ZCtrl.LimitsGet": lambda: dict(zip(("low", "high"), self.limits, strict=True)),
            "ZCtrl.StatusGet": lambda: {"status": self._status},
            "SafeTip.SignalGet": lambda: {"signal": self.current},
        }

    @property
    def in_contact(self) -> bool:
        """Whether the tip is near enough to the surface to do anything to it."""
        return self._microscope.status().approached

    @property
    def extension(self) -> float:
        """Share of the z range by which the surface lies below the upper end, without its tilt.

        Below 0 the tip is in the surface, however far the piezo lifts it; above 1 it is out of
        reach.
        """
        low, high = self._microscope.z_range
        return self._microscope.extension + self.coarse * STEP / (high - low)

    @property
    def tracking(self) -> bool:
        """Whether the feedback follows the surface."""
        return self.loop and self.in_contact and self._motion is None

    @property
    def above_surface(self) -> float:
        """Height above where the feedback would hold the tip, m."""
        return 0.0 if self.tracking else self.z - self._microscope.status().z

    @property
    def z(self) -> float:
        """Height of the tip, m."""
        if self._motion:
            return self._motion.z(self._bench.now)
        return self._surface if self.tracking else self._held

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest height that the piezo may go to, m."""
        if not self._bench.settings.of("ZCtrl.LimitsEnabled").get("on"):
            return self._microscope.z_range
        kept = self._bench.settings.of("ZCtrl.Limits")
        return kept["low"], kept["high"]

    @property
    def current(self) -> float:
        """Tunnelling current, A."""
        limit, bias = self._microscope.largest_current, self._microscope.bias
        if self.extension < 0:
            return math.copysign(limit, bias)  # so deep in that the piezo cannot lift the tip out
        if not self.in_contact or self.extension > 1:
            return self._spike
        current = abs(self._microscope.status().current)
        if not (self.tracking or self._microscope.fault):
            # exp(100) exceeds the range of any preamplifier, and a much larger exponent overflows.
            exponent = min(-2 * self._microscope.junction.decay * self.above_surface, 100.0)
            current = min(current * math.exp(exponent), limit)
        return math.copysign(current, bias)

    def couple(self, current: float) -> None:
        """Let a step of the coarse motor couple a current (A) into the preamplifier."""
        self._coupled = (current, self._bench.now)

    @property
    def _spike(self) -> float:
        current, when = self._coupled
        if not self._bench.clock.runs:
            return 0.0  # on a standing clock it would never fade
        return current * math.exp(-(self._bench.now - when) / _SPIKE_FADES_S)

    def press(self, depth: float) -> None:
        """Press the tip so deep (m) into the surface, and release it."""
        self._indentation = max(self._indentation, depth)
        self._rise()

    @property
    def moving_until(self) -> float | None:
        """Time at which the present motion of the z piezo ends, s; None if there is none."""
        self.update()
        return self._motion.until if self._motion else None

    def update(self) -> None:
        """End a motion whose time is over."""
        motion = self._motion
        if motion is None or (self._bench.now < motion.until and self._bench.clock.runs):
            return
        self._motion = None
        self._hold(motion.end)
        if motion.engage and 0 <= self.extension <= 1 and not self.in_contact:
            self.land(self.extension)

    def switch(self, on: bool) -> None:
        """Switch the feedback on or off."""
        if on == (self.loop and self._motion is None):
            return
        if on:
            self._engage()
        elif self.loop:
            # The command returns at once, but the loop stays on for the delay.
            delay = self._bench.settings.of("ZCtrl.SwitchOffDelay")["delay"]
            lift = self._bench.settings.of("ZCtrl.TipLift")["lift"]
            start = self.z
            self.loop = False
            self._move(start, start + lift, delay, LoopStatus.SWITCHING_OFF)

    def hold_at(self, height: float) -> None:
        """Switch the feedback off so many metres above the surface."""
        self._held = self._coerced(self.z + height)
        self.loop = False

    def withdraw(self) -> None:
        """Start to take the tip to the upper end of the piezo."""
        start = self.z
        self.loop = False
        self._tripped = False
        # First the marks of what the tip has done at the surface, then the withdrawal.
        self._rise()
        self._bench.end_rest()
        self._microscope.withdraw()
        rate = self._bench.settings.of("ZCtrl.WithdrawRate")["rate"]
        self._travel(start, self.limits[1], rate, LoopStatus.WITHDRAWING)

    def land(self, extension: float) -> None:
        """Hold the tip at the surface, the piezo extended by this share of its range."""
        self._microscope.approach(extension)
        self._motion = None
        self._indentation = 0.0
        self._tripped = False
        self.coarse = 0
        self.loop = True

    def miss(self) -> None:
        """End an automatic approach with the feedback on and no surface in reach."""
        self._motion = None
        self._tripped = False
        self.loop = True
        self._held = self.limits[0]

    def trips(self) -> bool:
        """Withdraw if the safe tip is on and there is too much current; return whether it did."""
        settings = self._bench.settings
        limit = settings.of("SafeTip.Props")["threshold"]
        if not settings.of("SafeTip.OnOff").get("on") or abs(self.current) <= limit:
            return False
        self.withdraw()
        self._tripped = True
        return True

    @property
    def _switching_off(self) -> bool:
        return self._motion is not None and self._motion.status == LoopStatus.SWITCHING_OFF

    @property
    def _status(self) -> LoopStatus:
        if self._tripped:
            return LoopStatus.SAFE_TIP
        if self._motion and not self.loop:
            return self._motion.status
        return LoopStatus.ON if self.loop else LoopStatus.OFF

    def _engage(self) -> None:
        start = self.z
        self._tripped = False
        self.loop = True
        if self.in_contact:
            self._motion = None
            self._rise()
            return
        self._travel(start, self._where_feedback_ends, _EXTENSION_RATE, LoopStatus.ON, engage=True)

    @property
    def _where_feedback_ends(self) -> float:
        """Height to which the piezo extends from far away, m: the surface if it is in reach."""
        low, high = self._microscope.z_range
        return self._coerced(high - self.extension * (high - low))

    @property
    def _surface(self) -> float:
        """Height at which the feedback holds the tip, m; the simulation knows no coarse steps."""
        return self._coerced(self._microscope.status().z - self.coarse * STEP)

    def _set_z(self, z: float) -> None:
        if self.loop:
            return  # documented: the position can be set only while the controller is off
        self._motion = None
        self._hold(z)

    def _home(self) -> None:
        props = self._bench.settings.of("ZCtrl.HomeProps")
        # An absolute height, or one relative to the present height.
        target = props.get("home", 0.0) + (self.z if props.get("mode") else 0.0)
        start = self.z
        self.loop = False
        rate = self._bench.settings.of("ZCtrl.WithdrawRate")["rate"]
        self._travel(start, target, rate, LoopStatus.OFF)

    def _withdraw(self, wait: int, timeout: int) -> None:
        self.withdraw()
        if wait:  # a timeout ends the waiting, not the withdrawal
            self._bench.wait(lambda: self.moving_until, seconds(timeout))

    def _travel(
        self, start: float, end: float, rate: float, status: LoopStatus, engage: bool = False
    ) -> None:
        rate = max(rate, _EXTENSION_RATE * _NEVER)
        self._move(start, end, abs(self._coerced(end) - start) / rate, status, engage)

    def _move(
        self, start: float, end: float, takes: float, status: LoopStatus, engage: bool = False
    ) -> None:
        now = self._bench.now
        end = self._coerced(end)
        self._held = start
        self._motion = _Motion(start, end, now, now + takes, engage, status)
        self.update()

    def _hold(self, z: float) -> None:
        """Hold the tip at a height; the deepest point counts until the tip rises again."""
        z = self._coerced(z)
        if z > self._held:
            self._rise()
        self._held = z
        if self.in_contact and not self._microscope.fault:
            self._indentation = max(self._indentation, self._microscope.status().z - z)

    def _rise(self) -> None:
        """Lift the tip from the surface; its indentation acts like a dip."""
        depth, self._indentation = min(self._indentation, DEEPEST), 0.0
        status = self._microscope.status()
        if depth > 0 and self.in_contact and not self._microscope.fault:
            self._microscope.condition(Dip(depth, status.bias), status.x, status.y)

    def _coerced(self, z: float) -> float:
        low, high = self.limits
        return min(max(z, low), high)

    def _set_setpoint(self, setpoint: float) -> None:
        self._microscope.setpoint = setpoint

    def _set_limits(self, high: float, low: float) -> None:
        if high <= low:
            raise Refused(f"the upper limit {high:g} m is not above the lower limit {low:g} m")
        # As on a controller, setting the limits has no effect while they are disabled.
        if self._bench.settings.of("ZCtrl.LimitsEnabled").get("on"):
            self._bench.settings.of("ZCtrl.Limits").update(high=high, low=low)

    def _set_active(self, index: int) -> None:
        if not 0 <= index < len(_CONTROLLERS):
            raise Refused(f"there is no controller {index}")
        self._bench.settings.of("ZCtrl.CtrlList")["active"] = index

    def _controllers(self) -> dict[str, Any]:
        active = self._bench.settings.of("ZCtrl.CtrlList").get("active", 0)
        return {"names": list(_CONTROLLERS), "active_index": active}
