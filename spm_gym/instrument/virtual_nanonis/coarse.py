"""Coarse motion: modules Motor and Auto Approach of the virtual controller."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from spm_gym.instrument.virtual_nanonis.bench import Bench, Handler, Refused
from spm_gym.instrument.virtual_nanonis.z_controller import ZController

Retract = Literal["z+", "z-"]

STEPS_PER_AREA = 10
"""Steps sideways that lead to the next approach area."""

_APPROACH_S = 60.0
_STEP = 100e-9
_FREE_STEPS = 2
"""Steps towards the sample that fit below a withdrawn tip."""


@dataclass(frozen=True, slots=True)
class _Steps:
    axis: int
    sign: int
    count: int
    begun: float
    until: float


class CoarseMotion:
    """Steps in all directions, and the automatic approach.

    Attributes:
        stuck: Whether automatic approaches never end.

    Args:
        bench: Shared by all modules.
        z: The z-controller.
        retract: Which direction of the z motor takes the tip away from the sample.
    """

    def __init__(self, bench: Bench, z: ZController, retract: Retract) -> None:
        if retract not in ("z+", "z-"):
            raise ValueError(f"the tip is retracted by 'z+' or 'z-', not {retract!r}")
        self._bench = bench
        self._z = z
        self._away = 1 if retract == "z+" else -1
        self._steps: _Steps | None = None
        self._counted = [0, 0, 0]
        self._position = [0, 0, 0]
        self._beside = [0, 0]
        self._approach_until: float | None = None
        self.stuck = False

    def handlers(self) -> Mapping[str, Handler]:
        """What answers the commands."""
        return {
            "AutoApproach.Open": lambda: None,
            "AutoApproach.OnOffSet": lambda on: self._begin_approach() if on else self._stop(),
            "AutoApproach.OnOffGet": lambda: {"on": int(self._look())},
            "Motor.StartMove": self._start,
            "Motor.StartClosedLoop": self._go,
            "Motor.StopMove": self._stop_steps,
            "Motor.PosGet": self._get_position,
            "Motor.StepCounterGet": self._count,
        }

    @property
    def busy(self) -> bool:
        """Whether a motor or the approach runs."""
        return self._steps is not None or self._approach_until is not None

    def update(self) -> None:
        """End steps and approach whose time is over."""
        if self._steps and (self._bench.now >= self._steps.until or not self._bench.clock.runs):
            self._end_steps(self._steps.count)
        until = self._approach_until
        if until is not None and self._bench.now >= until:
            self._approach_until = None
            if self._bench.microscope.fault != "crash":
                self._bench.microscope.approach()
                self._z.land()

    def _look(self) -> bool:
        """Whether the approach runs, or would still run if the clock moved by itself."""
        if self._approach_until is not None and self._approach_until < math.inf:
            self._bench.clock.set_forward(self._approach_until)
            self.update()
        return self._approach_until is not None

    def _begin_approach(self) -> None:
        if self._approach_until is None:
            self._approach_until = math.inf if self.stuck else self._bench.now + _APPROACH_S

    def _stop(self) -> None:
        self._approach_until = None

    def _start(self, direction: int, steps: int, group: int, wait: int) -> None:
        if not 0 <= direction <= 5:
            raise Refused(f"there is no motor direction {direction}; directions go from 0 to 5")
        axis, sign = direction // 2, 1 - 2 * (direction % 2)
        self._move(axis, sign, steps, bool(wait))

    def _move(self, axis: int, sign: int, steps: int, wait: bool) -> None:
        self._stop_steps()
        frequency = max(self._bench.memory.of("Motor.FreqAmp")["frequency"], 1.0)
        now = self._bench.now
        self._steps = moving = _Steps(axis, sign, steps, now, now + steps / frequency)

        def due() -> float | None:
            self.update()
            return moving.until if self._steps is moving else None

        if due() is not None and wait:
            self._bench.wait(due)

    def _go(self, mode: int, x: float, y: float, z: float, wait: int, group: int = 0) -> None:
        """Step to a place, one axis after the other; z last, as a retraction comes by itself."""
        for axis, target in enumerate((x, y, z)):
            start = self._position[axis] if mode else 0
            steps = round(min(max(target / _STEP, -1e6), 1e6)) - start
            if steps:
                self._move(axis, int(math.copysign(1, steps)), abs(steps), bool(wait))

    def _stop_steps(self) -> None:
        if self._steps:
            moving = self._steps
            share = (self._bench.now - moving.begun) / (moving.until - moving.begun)
            self._end_steps(int(moving.count * min(share, 1.0)))

    def _end_steps(self, count: int) -> None:
        assert self._steps is not None
        axis, sign = self._steps.axis, self._steps.sign
        self._steps = None
        self._position[axis] += sign * count
        self._counted[axis] += sign * count
        if count == 0:
            return
        if axis == 2:
            self._change_distance(sign * self._away * count)
        else:
            self._step_sideways(axis, sign * count)

    def _change_distance(self, away: int) -> None:
        microscope = self._bench.microscope
        if away < 0 and (self._z.in_contact or self._z.coarse + away < -_FREE_STEPS):
            self._crash()
            return
        self._z.coarse += away
        if self._z.in_contact and not microscope.fault:
            microscope.suffer("lost contact")

    def _step_sideways(self, axis: int, steps: int) -> None:
        if self._z.in_contact:
            self._crash()
            return
        self._beside[axis] += steps
        areas = int(self._beside[axis] / STEPS_PER_AREA)
        self._beside[axis] -= areas * STEPS_PER_AREA
        self._bench.microscope.shift_area(*((areas, 0) if axis == 0 else (0, areas)))

    def _crash(self) -> None:
        """The motor drives the tip into the sample, or drags it along."""
        microscope = self._bench.microscope
        if not self._z.in_contact:
            microscope.approach()
        microscope.suffer("crash")

    def _get_position(self, group: int = 0, timeout: int = 0) -> dict[str, float]:
        return {axis: n * _STEP for axis, n in zip("xyz", self._position, strict=True)}

    def _count(self, reset_x: int, reset_y: int, reset_z: int) -> dict[str, int]:
        counted = dict(zip("xyz", self._counted, strict=True))
        for axis, reset in enumerate((reset_x, reset_y, reset_z)):
            if reset:
                self._counted[axis] = 0
        return counted
