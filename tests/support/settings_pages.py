"""A virtual controller without sockets, under short commands."""

from __future__ import annotations

import math
from typing import Any

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.nanonis.commands import commands
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.types import Frame

START, STOP, PAUSE, RESUME = range(4)
DOWN, UP = range(2)
Z, CURRENT, BIAS = 30, 0, 24
X_PLUS, Z_PLUS, Z_MINUS = 0, 4, 5
CALM = SimulatorConfig(
    tip_change_rate=0, contact_loss_rate=0, crash_rate=0, rough_fraction=0, tilt_pm_per_nm=0
)

NM = 1e-9


def frame(x: float = 0.0, y: float = 0.0, pixels: int = 64, angle: float = 0.0) -> Frame:
    """Ten nanometres wide, around a place in nanometres."""
    return Frame(x * NM, y * NM, 10 * NM, pixels, angle)


class CommandPanel:
    """Virtual controller whose commands are called with positional arguments."""

    def __init__(self, config: SimulatorConfig = CALM, seed: int = 5, **options: Any) -> None:
        self.microscope = SimulatedMicroscope(config, seed=seed)
        self.controller = VirtualController(self.microscope, **{"time_scale": 0, **options})

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Execute a command; return its only value, or all of them by name."""
        layout = commands(self.controller.release)[name]
        names = [field.name for field in layout.request]
        reply = self.controller.execute(name, dict(zip(names, arguments, strict=True)))
        return next(iter(reply.values())) if len(layout.reply) == 1 else reply

    def start(self, frame: Frame, direction: int = DOWN) -> None:
        angle = -math.degrees(frame.angle)
        self("Scan.FrameSet", frame.x, frame.y, frame.size, frame.size, angle)
        self("Scan.BufferSet", [CURRENT, Z], frame.pixels, frame.lines)
        self("Scan.Action", START, direction)

    def scan(self, frame: Frame, fraction: float = 1.0, direction: int = DOWN) -> Any:
        self.start(frame, direction)
        if fraction < 1:
            line = 2 * frame.size / 80e-9
            self("Scan.WaitEndOfScan", round(fraction * frame.lines * line * 1e3))
            self("Scan.Action", STOP, DOWN)
        else:
            self("Scan.WaitEndOfScan", -1)
        return self.grab()

    def grab(self, channel: int = Z, direction: int = 1) -> Any:
        return self("Scan.FrameDataGrab", channel, direction)["data"]

    def dip(self, depth: float, bias: float = 0.02, width: float = 0.2) -> None:
        pauses = (0.05, 0.05)
        self(
            "TipShaper.PropsSet", 0.05, 1, bias, -depth, width, bias, *pauses[:1], depth, width,
            pauses[1], 1,
        )  # fmt: skip
        self("TipShaper.Start", 1, -1)

    def shift(self, direction: int = X_PLUS) -> None:
        self("ZCtrl.Withdraw", 1, -1)
        self("Motor.StartMove", Z_PLUS, 20, 0, 1)
        self("Motor.StartMove", direction, 10, 0, 1)
        self.approach()

    def approach(self) -> None:
        self("AutoApproach.OnOffSet", 1)
        assert self("AutoApproach.OnOffGet") == 0
