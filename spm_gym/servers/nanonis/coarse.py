"""Coarse motion of the virtual controller: modules Motor and Auto Approach."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from spm_gym.instrument.sim.situation import EXTENSION_AFTER_APPROACH
from spm_gym.servers.nanonis.bench import Bench, Handler, Refused
from spm_gym.servers.nanonis.z_controller import STEP, ZController

Retract = Literal["z+", "z-"]

STEPS_PER_AREA = 10
"""Steps sideways that lead to the next approach area."""

_APPROACH_S = 60.0
_APPROACH_STEPS = 6
"""Steps of the coarse motor in an approach after the tip was stepped away."""

_WITHIN_REACH = 0.98
"""Share of the z range up to which an approach takes a surface for one within reach."""

_SEED = 1
_CREEP_S = 120.0
_MOST_STEPS = 10**6
_SLOWEST_HZ = 1.0


@dataclass(frozen=True, slots=True)
class _Steps:
    """Steps along one axis (0 x, 1 y, 2 z), in the direction of their sign."""

    axis: int
    count: int
    started: float
    until: float


class VirtualCoarseMotion:
    """Steps in all directions, and the automatic approach.

    Attributes:
        stuck: Whether automatic approaches never end.
        false_landings: How many of the next approaches end far from the surface, as after a spike
            that the motor has coupled into the preamplifier.
        extension: Share of the z range by which the piezo is extended when the next approach finds
            the surface; None: where the surface is, or 0.8 if it was out of reach.

    Args:
        bench: Shared by all modules.
        z: The z-controller.
        retract: Direction of the z motor that takes the tip away from the sample; the wiring of the
            motor decides it.
    """

    def __init__(self, bench: Bench, z: ZController, retract: Retract) -> None:
        if retract not in ("z+", "z-"):
            raise ValueError(f"the tip is retracted by 'z+' or 'z-', not {retract!r}")
        self._bench = bench
        self._z = z
        self._away = 1 if retract == "z+" else -1
        self._queue: deque[_Steps] = deque()
        self._counted = [0, 0, 0]
        self._position = [0, 0, 0]
        self._beside = [0, 0]
        self._creeps = False
        self._approach_until: float | None = None
        self._spikes = bench.microscope.config.approach_spikes_pA
        self._rng = np.random.default_rng(_SEED)
        self._last_spike = 0.0
        self._left = 0
        self.stuck = False
        self.false_landings = 0
        self.extension: float | None = None

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the module's commands, by name."""
        return {
            "AutoApproach.Open": lambda: None,
            "AutoApproach.OnOffSet": lambda on: self._begin_approach() if on else self._stop(),
            "AutoApproach.OnOffGet": lambda: {"on": int(self._is_approaching())},
            "Motor.StartMove": self._start,
            "Motor.StartClosedLoop": self._go,
            "Motor.StopMove": self._stop_steps,
            "Motor.PosGet": self._get_position,
            "Motor.StepCounterGet": self._count,
        }

    @property
    def busy(self) -> bool:
        """Whether a motor or the approach runs."""
        return bool(self._queue) or self._approach_until is not None

    def update(self) -> None:
        """End steps and approach whose time is over."""
        while self._queue and (
            self._bench.now >= self._queue[0].until or not self._bench.clock.runs
        ):
            done = self._queue.popleft()
            self._take(done.axis, done.count)
        until = self._approach_until
        if until is not None and self._bench.now >= until:
            self._approach_until = None
            # A real approach stops at the first current above the setpoint, also at a spike.
            out_of_reach = self._step_nearer()
            spike = self._last_spike > abs(self._bench.microscope.setpoint)
            if self.false_landings or (out_of_reach and spike):
                self.false_landings -= self.false_landings > 0
                self._z.miss()
            elif out_of_reach:
                self._approach_until = until + _APPROACH_S / _APPROACH_STEPS
            elif self._bench.microscope.fault != "crash":
                self._z.land(self._landing())
                self._left = 0
                if self._creeps and not self._bench.clock.runs:
                    # Clients wait for the creep to fade, but a standing clock does not see it.
                    self._bench.microscope.wait(_CREEP_S)
                self._creeps = False

    def _is_approaching(self) -> bool:
        """Check whether the approach runs; a standing clock is set to its end."""
        if self._approach_until is not None and self._approach_until < math.inf:
            self._bench.clock.set_forward(self._approach_until)
            self.update()
        return self._approach_until is not None

    def _begin_approach(self) -> None:
        if self._approach_until is None:
            takes = _APPROACH_S / (_APPROACH_STEPS if self._spikes and self._left else 1)
            self._approach_until = math.inf if self.stuck else self._bench.now + takes

    def _landing(self) -> float:
        """Share of the z range by which the piezo is extended at the end of this approach."""
        # A controller first lets the piezo extend, and steps only if that finds no surface.
        there, self.extension = self.extension, None
        if there is None:
            there = self._z.extension
            if not 0 <= there <= _WITHIN_REACH or self._bench.microscope.fault:
                there = EXTENSION_AFTER_APPROACH
        return there

    def _step_nearer(self) -> bool:
        """Step nearer, if steps are counted; return whether the surface is still out of reach."""
        if not self._spikes or not self._left:
            return False
        self._left -= 1
        self._couple()
        return self._left > 0

    def _couple(self) -> None:
        if self._spikes:
            smallest, largest = self._spikes
            self._last_spike = self._rng.uniform(smallest, largest) * 1e-12
            self._z.couple(self._last_spike)

    def _stop(self) -> None:
        self._approach_until = None

    def _start(self, direction: int, steps: int, group: int, wait: int) -> None:
        if not 0 <= direction <= 5:
            raise Refused(f"there is no motor direction {direction}; directions go from 0 to 5")
        # X+, X-, Y+, Y-, Z+, Z-.
        axis, backward = divmod(direction, 2)
        self._move({axis: -steps if backward else steps}, bool(wait))

    def _go(self, mode: int, x: float, y: float, z: float, wait: int, group: int = 0) -> None:
        targets = {axis: _steps_for(length) for axis, length in enumerate((x, y, z))}
        if mode:
            targets = {axis: n - self._position[axis] for axis, n in targets.items()}
        self._move(targets, bool(wait))

    def _move(self, steps: Mapping[int, int], wait: bool) -> None:
        """Step along one axis after the other; a motion under way ends first."""
        self._stop_steps()
        frequency = max(self._bench.settings.of("Motor.FreqAmp")["frequency"], _SLOWEST_HZ)
        started = self._bench.now
        for axis, count in steps.items():
            until = started + abs(count) / frequency
            self._queue.append(_Steps(axis, count, started, until))
            started = until
        last = self._queue[-1]

        def due() -> float | None:
            self.update()
            return last.until if any(each is last for each in self._queue) else None

        if due() is not None and wait:
            self._bench.wait(due)

    def _stop_steps(self) -> None:
        self.update()
        if self._queue:
            # Steps that were done before the stop count.
            present = self._queue[0]
            share = (self._bench.now - present.started) / (present.until - present.started)
            self._queue.clear()
            self._take(present.axis, int(present.count * share))

    def _take(self, axis: int, steps: int) -> None:
        """Carry out so many steps."""
        if steps:
            self._couple()
        self._position[axis] += steps
        self._counted[axis] += steps
        if axis == 2:
            self._change_distance(self._away * steps)
        elif steps:
            self._step_sideways(axis, steps)

    def _change_distance(self, away: int) -> None:
        microscope = self._bench.microscope
        if away == 0:
            return
        # Towards the sample a withdrawn tip has room for a few steps; in contact it has none.
        self._z.coarse += away
        if away > 0 and self._z.extension > 1:
            self._left = _APPROACH_STEPS
        if away < 0 and (self._z.in_contact or self._z.extension < 0):
            self._crash()
        elif away > 0 and self._z.in_contact and not microscope.fault:
            microscope.inject("lost contact")

    def _step_sideways(self, axis: int, steps: int) -> None:
        if self._z.in_contact:
            self._crash()  # sideways steps in contact drag the tip through the surface
            return
        self._beside[axis] += steps
        areas = int(self._beside[axis] / STEPS_PER_AREA)
        self._beside[axis] -= areas * STEPS_PER_AREA
        self._creeps |= areas != 0
        self._bench.microscope.shift_area(*((areas, 0) if axis == 0 else (0, areas)))

    def _crash(self) -> None:
        """Crash the tip, because the motor drives it into the sample or drags it along."""
        microscope = self._bench.microscope
        if not self._z.in_contact:
            microscope.approach()
        microscope.inject("crash")

    def _get_position(self, group: int = 0, timeout: int = 0) -> dict[str, float]:
        return {axis: n * STEP for axis, n in zip("xyz", self._position, strict=True)}

    def _count(self, reset_x: int, reset_y: int, reset_z: int) -> dict[str, int]:
        # Documented: the counters are read first and reset afterwards.
        counted = dict(zip("xyz", self._counted, strict=True))
        for axis, reset in enumerate((reset_x, reset_y, reset_z)):
            if reset:
                self._counted[axis] = 0
        return counted


def _steps_for(length: float) -> int:
    return round(min(max(length / STEP, -_MOST_STEPS), _MOST_STEPS))
