"""A second opinion on the Nanonis protocol: a small controller that shares no code with ours.

Written from the protocol's documents alone (release R14718, big-endian throughout). Where they
leave something open, or controllers are known to differ, it takes the other reading than the
virtual Nanonis: what is not scanned yet is 0; the time of a line is kept when the frame changes;
switches that are off are told as 2 by some commands; an empty text keeps the old one; approaches
end falsely. It knows nothing of probes: a world that it is given makes the images.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.conformance.independent_wire import Ports, Refused, pack, unpack
from tests.conformance.independent_world import World

NM = 1e-9
HIGH, LOW = 150 * NM, -150 * NM
REACH = 425 * NM
STEP = 40 * NM
PREAMPLIFIER = 10e-9
_LANDS_AT = -90 * NM
_SLEW = 80 * NM
"""The z piezo moves by so much between two commands."""
_CURRENT, _BIAS, _Z = 0, 24, 30
_VERSION = ("Nanonis SPM Control System", "5", 14718, 14718)
_NAMES = {_CURRENT: "Current (A)", _BIAS: "Bias (V)", _Z: "Z (m)"}
_SIGNALS = [_NAMES.get(number, f"Internal {number}") for number in range(128)]


class IndependentController(Ports):
    """A microscope behind four ports; use it as a context.

    Its clock stands still while nobody waits, and jumps by what they wait for.

    Args:
        world: Below the tip.
        away: Motor direction that leads away from the sample: 4 is Z+, 5 is Z-.
        false_landings: How many approaches end without a surface before each landing.
        without: Module that is not running, of those that no command opens.
    """

    def __init__(
        self, world: World, away: int = 4, false_landings: int = 2, without: str = ""
    ) -> None:
        super().__init__(self._reply)
        self.world = world
        self._away = away
        self._false_landings = self._false_left = false_landings
        self._open = {"TipShaper", "Motor"} - {without}
        self.log: list[str] = []
        self.bias, self.setpoint = 1.0, 25e-12
        self.frame = [10 * NM, -20 * NM, 50 * NM, 50 * NM, 15.0]
        self.buffer = [[_CURRENT, _Z], 128, 128]
        self.speed, self.ratio, self.constant = 75 * NM, 1.25, 0
        self.continuous, self.bouncy, self.autosave, self.autopaste = 1, 2, 0, 2
        self.series, self.comment = "operator_", "a sample of mine"
        self.modules: list[str] = ["Scan"]
        self.shaper = [0.01, 2, 0.1, -1 * NM, 0.1, 0.1, 0.05, 1 * NM, 0.1, 0.05, 1]
        self.safe_tip_on, self.safe_tip = 2, [0, 1, 5e-9]
        self.surface = -60 * NM
        """Height of the piezo, m, at which the tip reaches the surface."""
        self.z, self.feedback, self.withdrawn = self.surface, True, False
        self.place = [0.0, 0.0]
        self.motor_steps: list[tuple[int, int]] = []
        self._sideways = [0, 0]
        self._approaching = 0
        self._clock = self._scan_began = 0.0
        self.scanning = False
        self._lines = 0
        self._picture: NDArray[np.floating[Any]] = np.zeros((128, 128))
        self._commands = self._table()

    def settings(self) -> dict[str, Any]:
        """Everything that an operator would want to find as he left it."""
        return {
            "bias": self.bias, "setpoint": self.setpoint, "frame": list(self.frame),
            "buffer": list(self.buffer), "speed": (self.speed, self.ratio, self.constant),
            "scan": (self.continuous, self.bouncy, self.autosave), "series": self.series,
            "comment": self.comment, "modules": self.modules, "autopaste": self.autopaste,
            "shaper": list(self.shaper), "safe tip": (self.safe_tip_on, *self.safe_tip),
        }  # fmt: skip

    def _reply(self, name: str, body: bytes) -> bytes:
        self.log.append(name)
        try:
            if name not in self._commands:
                raise Refused(f"{name} is no command")
            module = name.split(".")[0]
            if module in ("TipShaper", "Motor", "AutoApproach") and not name.endswith(".Open"):
                self._need(module)
            request, response, act = self._commands[name]
            self._move_piezo()
            returned = act(*unpack(request, body))
            values = returned if isinstance(returned, tuple | list) else ()
            return pack(response, values) + struct.pack(">Ii", 0, 0)
        except Refused as refused:
            text = str(refused).encode("ascii")
            return struct.pack(">Ii", 1, len(text)) + text

    # --- the commands -------------------------------------------------------------------------

    def _table(self) -> dict[str, tuple[str, str, Callable[..., object]]]:
        """Layouts of request and response, and what is done; see `unpack` for the letters."""
        return {
            "Util.VersionGet": ("", "SSII", lambda: _VERSION),
            "Signals.NamesGet": ("", "L", lambda: (_SIGNALS,)),
            "Piezo.RangeGet": ("", "fff", lambda: (2 * REACH, 2 * REACH, HIGH - LOW)),
            "Bias.Get": ("", "f", lambda: (self.bias,)),
            "Bias.Set": ("f", "", lambda bias: setattr(self, "bias", bias)),
            "Bias.Pulse": ("IffHH", "", self._pulse),
            "Current.Get": ("", "f", lambda: (self._current(),)),
            "ZCtrl.SetpntGet": ("", "f", lambda: (self.setpoint,)),
            "ZCtrl.SetpntSet": ("f", "", lambda value: setattr(self, "setpoint", value)),
            "ZCtrl.LimitsGet": ("", "ff", lambda: (HIGH, LOW)),
            "ZCtrl.ZPosGet": ("", "f", lambda: (self.z,)),
            "ZCtrl.StatusGet": ("", "H", lambda: (2 if self.feedback else 1,)),
            "ZCtrl.OnOffGet": ("", "I", lambda: (int(self.feedback),)),
            "ZCtrl.OnOffSet": ("I", "", self._switch_feedback),
            "ZCtrl.TipLiftGet": ("", "f", lambda: (0.0,)),
            "ZCtrl.Withdraw": ("Ii", "", self._withdraw),
            "FolMe.XYPosGet": ("I", "dd", lambda newest: self.place),
            "FolMe.XYPosSet": ("ddI", "", self._move),
            "FolMe.SpeedGet": ("", "fI", lambda: (1e-6, 1)),
            "SafeTip.OnOffGet": ("", "H", lambda: (self.safe_tip_on,)),
            "SafeTip.OnOffSet": ("H", "", self._switch_safe_tip),
            "SafeTip.PropsGet": ("", "HHf", lambda: self.safe_tip),
            "SafeTip.PropsSet": ("HHf", "", lambda *values: setattr(self, "safe_tip", [*values])),
            "TipShaper.PropsGet": ("", "fIffffffffI", lambda: self.shaper),
            "TipShaper.PropsSet": ("fIffffffffI", "", self._set_shaper),
            "TipShaper.Start": ("Ii", "", self._dip),
            "AutoApproach.Open": ("", "", self._open_approach),
            "AutoApproach.OnOffGet": ("", "H", self._still_approaching),
            "AutoApproach.OnOffSet": ("H", "", self._approach),
            "Motor.StartMove": ("IHII", "", self._step),
            "Motor.StopMove": ("", "", lambda: None),
            "Scan.FrameGet": ("", "fffff", lambda: self.frame),
            "Scan.FrameSet": ("fffff", "", self._set_frame),
            "Scan.BufferGet": ("", "Aii", lambda: self.buffer),
            "Scan.BufferSet": ("Aii", "", self._set_buffer),
            "Scan.SpeedGet": ("", "ffffHf", self._speed_reply),
            "Scan.SpeedSet": ("ffffHf", "", self._set_speed),
            "Scan.PropsGet": ("", "IIISSLAGI", self._properties_reply),
            "Scan.PropsSet": ("IIISSLI", "", self._set_properties),
            "Scan.StatusGet": ("", "I", lambda: (int(self.scanning),)),
            "Scan.Action": ("HI", "", self._scan),
            "Scan.WaitEndOfScan": ("i", "IS", self._wait_for_scan),
            "Scan.FrameDataGrab": ("II", "SMI", self._grab),
        }  # fmt: skip

    def _need(self, module: str) -> None:
        if module not in self._open:
            raise Refused(f"Cannot access the {module} module, please make sure it is running")

    # --- tip, piezo, motor --------------------------------------------------------------------

    def _move_piezo(self) -> None:
        if self.withdrawn:
            self.z = HIGH
        elif self.feedback:
            distance = max(self.surface, LOW) - self.z
            self.z += math.copysign(min(abs(distance), _SLEW), distance)

    def _current(self) -> float:
        if self.surface > HIGH:
            return PREAMPLIFIER
        at_surface = self.feedback and abs(self.z - self.surface) < 0.1 * NM
        return self.setpoint if at_surface else 1e-14

    def _switch_feedback(self, on: int) -> None:
        self.feedback = bool(on)
        self.withdrawn = self.withdrawn and not on

    def _withdraw(self, wait: int, timeout: int) -> None:
        self._approaching = 0
        self.feedback, self.withdrawn, self.z = False, True, HIGH

    def _move(self, x: float, y: float, wait: int) -> None:
        self.place = [max(-REACH, min(REACH, value)) for value in (x, y)]

    def _step(self, direction: int, steps: int, group: int, wait: int) -> None:
        self.motor_steps.append((direction, steps))
        if direction >= 4:
            self.surface += STEP * (-steps if direction == self._away else steps)
        else:
            self._sideways[direction // 2] += -steps if direction % 2 else steps

    def _open_approach(self) -> None:
        if "AutoApproach" in self._open:
            raise Refused("The module is open already")
        self._open.add("AutoApproach")

    def _approach(self, on: int) -> None:
        self._approaching = 2 if on else 0
        if on:
            self.feedback, self.withdrawn = False, False

    def _still_approaching(self) -> tuple[int]:
        if self._approaching:
            self._approaching -= 1
            if not self._approaching:
                self._end_approach()
        return (int(self._approaching > 0),)

    def _end_approach(self) -> None:
        self.feedback = True
        if self._false_left:
            # A spike of the motor looked like the surface; the loop looks for it and finds nothing.
            self._false_left -= 1
            self.surface = min(self.surface, LOW - STEP)
            self.z = HIGH
            return
        self._false_left = self._false_landings
        self.surface = self.z = _LANDS_AT
        self.world.arrive(*self._sideways)
        self._sideways = [0, 0]

    # --- acts ---------------------------------------------------------------------------------

    def _pulse(self, wait: int, width: float, bias: float, hold: int, mode: int) -> None:
        self.world.pulse(bias + (self.bias if mode == 1 else 0.0), width, *self.place)

    def _dip(self, wait: int, timeout: int) -> None:
        _, change, bias, lift, width = self.shaper[:5]
        self.world.dip(-lift, bias if change == 1 else self.bias, width, *self.place)

    def _set_shaper(self, *values: Any) -> None:
        new = [*values]
        for flag in (1, 10):
            new[flag] = values[flag] or self.shaper[flag]
        self.shaper = new

    def _switch_safe_tip(self, on: int) -> None:
        self.safe_tip_on = on or self.safe_tip_on

    # --- scans --------------------------------------------------------------------------------

    def _set_frame(self, *frame: float) -> None:
        line_time = self.frame[2] / self.speed
        self.frame = [*frame]
        self.speed = self.frame[2] / line_time

    def _set_buffer(self, channels: list[int], pixels: int, lines: int) -> None:
        pixels = max(16, pixels // 16 * 16)
        self.buffer = [sorted(channels), pixels, lines or pixels]
        self._picture, self._lines = np.zeros((self.buffer[2], pixels)), 0

    def _speed_reply(self) -> tuple[float, ...]:
        time = self.frame[2] / self.speed
        return (self.speed, self.speed * self.ratio, time, time / self.ratio,
                self.constant, self.ratio)  # fmt: skip

    def _set_speed(
        self, fwd: float, bwd: float, fwd_time: float, bwd_time: float, constant: int, ratio: float
    ) -> None:
        self.constant = constant - 1 if constant else self.constant
        self.speed = self.frame[2] / fwd_time if self.constant else fwd
        self.ratio = ratio

    def _properties_reply(self) -> tuple[Any, ...]:
        return (int(self.continuous == 1), self.bouncy, self.autosave, self.series, self.comment,
                self.modules, [0] * len(self.modules), None, self.autopaste)  # fmt: skip

    def _set_properties(
        self, continuous: int, bouncy: int, autosave: int, series: str, comment: str,
        modules: list[str], autopaste: int,
    ) -> None:  # fmt: skip
        self.continuous = continuous or self.continuous
        self.bouncy = bouncy or self.bouncy
        self.autosave = autosave - 1 if autosave else self.autosave
        self.autopaste = autopaste - 1 if autopaste else self.autopaste
        self.series = series or self.series
        self.comment = comment or self.comment
        self.modules = modules

    def _scan(self, action: int, direction: int) -> None:
        if action == 1:
            self._update_scan()
            self.scanning = False
        elif action == 0 and direction == 0:
            x, y, width, _, angle = self.frame
            _, pixels, lines = self.buffer
            self.place = [x, y]
            self._picture = np.full((lines, pixels), self.z)
            if self.feedback and self.surface >= LOW:
                level = self.surface
                self._picture = level + self.world.image(x, y, width, pixels, lines, angle)
            self._scan_began, self._lines, self.scanning = self._clock, 0, True
        else:
            raise Refused("this controller starts scans downwards and stops them")

    def _update_scan(self) -> None:
        """See how far the scan has come, and whether it has ended."""
        if self.scanning:
            line_time = self.frame[2] / self.speed * (1 + 1 / self.ratio)
            done = (self._clock - self._scan_began) / line_time
            self._lines = min(self.buffer[2], int(done + 1e-3))
            self.scanning = self._lines < self.buffer[2]

    def _wait_for_scan(self, timeout: int) -> tuple[int, str]:
        if self.scanning:
            self._clock += timeout * 1e-3
        self._update_scan()
        return int(self.scanning), ""

    def _grab(self, channel: int, direction: int) -> tuple[Any, ...]:
        if channel not in self.buffer[0]:
            raise Refused(f"channel #{channel} is not part of the acquired selection")
        displayed = self._picture.copy()
        displayed[self._lines :] = 0
        return _NAMES.get(channel, ""), displayed, 0
