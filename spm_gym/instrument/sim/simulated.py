"""The simulated microscope: a surface, a probe, a piezo and a clock behind `Instrument`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.errors import (
    ContactLost,
    InstrumentError,
    LimitExceeded,
    TipCrashed,
    TipWithdrawn,
)
from spm_gym.instrument.sim.dynamics import HiddenState, ProbeDynamics, Shape
from spm_gym.instrument.sim.junction import PATCH, Junction, junction
from spm_gym.instrument.sim.molecule import template
from spm_gym.instrument.sim.piezo import shift_of_lines
from spm_gym.instrument.sim.probe import draw_probe
from spm_gym.instrument.sim.render import View, jumping, scan_lines, white_noise
from spm_gym.instrument.sim.rounding import sent_action, sent_frame, single
from spm_gym.instrument.sim.running_scan import (
    BIAS,
    SETPOINT,
    Accident,
    Course,
    Event,
    Rendered,
    RunningScan,
    change_probability,
    draw_events,
)
from spm_gym.instrument.sim.sample import Sample
from spm_gym.instrument.sim.situation import Kept, Situation
from spm_gym.instrument.sim.surface import Surface
from spm_gym.instrument.validation import (
    validate_act,
    validate_direction,
    validate_duration,
    validate_place,
    validate_scan,
)
from spm_gym.plain_state import restore_generator, restored
from spm_gym.types import BoolArray, Conditioning, Dip, Direction, Frame, Pulse, Scan, Status

NM = 1e-9
_EXTENSION_AFTER_APPROACH = 0.8
_APPROACH_S = 60.0
_COARSE_MOVE_S = 30.0
_SHALLOW = 1.2 * NM
"""Depth of a dip up to which it does not reshape the tip but calms it."""
_SATURATED_NOISE = 0.05e-12
_STABLE: BoolArray = np.zeros((0, 0), dtype=bool)
_Time = TypeVar("_Time", float, NDArray[np.float64])
_ROUNDING = 1e-7
"""More than single precision can change a number, as a share of it."""


class SimulatedMicroscope:
    """A scanning tunnelling microscope that exists in software; fulfils `Instrument`.

    Nothing sleeps: the clock jumps by what each act would take. Frames and the strengths of
    conditioning are rounded to single precision, in which controllers are told of them.

    Attributes:
        bias: Sample bias, V; its sign decides which orbital is imaged.
        setpoint: Tunnelling current held by the feedback, A.
        largest_current: That the preamplifier shows, A.

    Args:
        config: The simulation.
        area_nm: Side of the approach area, nm; the xy piezo reaches half of it either way.
        seed: Surface, probe, noise and accidents all follow from it.
    """

    def __init__(self, config: SimulatorConfig, area_nm: float = 850.0, seed: int = 0) -> None:
        self.config = config
        self.reach = area_nm * NM / 2
        half = config.z_range_nm * NM / 2
        self.z_range = (-half, half)
        self.largest_current = config.preamplifier_nA / 1e9
        self.dynamics = ProbeDynamics(config.transitions)
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Begin again with a good probe in a fresh area, everything drawn from the seed."""
        self._seed = seed
        self.bias = BIAS
        self.setpoint = SETPOINT
        fate, imaging, jumps = np.random.SeedSequence(seed).spawn(3)
        self._fate = np.random.default_rng(fate)
        self._noise = np.random.default_rng(imaging)
        self._jumps = np.random.default_rng(jumps)
        self._course: Course | None = None
        self._rendered = Rendered()
        good = HiddenState()
        self._at = Situation(good, draw_probe(good, self._fate))
        self._sample = Sample(self.config, 2 * self.reach, seed)

    @property
    def truth(self) -> HiddenState:
        """The hidden state of the probe: for labels, oracle and tests only."""
        return self._at.state

    @property
    def fault(self) -> Literal["", Accident]:
        """The accident that has not been recovered from yet, if there is one."""
        return self._at.fault

    @property
    def surface(self) -> Surface:
        """The sample in the present approach area."""
        return self._sample.at(self._at.area)

    @property
    def junction(self) -> Junction:
        """What lies between the tip and the place below it."""
        at = self._at
        cell = (math.floor(at.x / PATCH), math.floor(at.y / PATCH))
        # Seeds take no negative numbers.
        patch = [2 * abs(number) + (number < 0) for number in (*at.area, *cell)]
        return junction(
            at.probe, at.state, (self._seed, *patch), self.bias, self.setpoint, self.largest_current
        )

    def status(self) -> Status:
        """Read the present state."""
        at = self._at
        return Status(
            x=at.x,
            y=at.y,
            z=self._height(at.x, at.y) + self._risen(at.time),
            z_range=self.z_range,
            bias=self.bias,
            setpoint=self.setpoint,
            current=self._current(),
            approached=at.approached,
            time=at.time,
        )

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        """Move to the frame and record its first ``fraction`` of lines.

        Raises:
            LimitExceeded: The centre lies outside the piezo range.
            ContactLost: The tip is withdrawn.
            ValueError: It is no frame, or the fraction not within 0 to 1.
        """
        validate_scan(frame, fraction)
        lines = math.ceil(fraction * frame.pixels)
        course = self._begin(frame)
        z = np.full((frame.pixels, frame.pixels), np.nan, dtype=np.float32)
        if lines:
            z[:lines] = self._record(course, slice(0, lines), look=False)
        return Scan(frame, z, self.z_range, self.bias, self.setpoint, course.started)

    def settle(self, frame: Frame, fraction: float) -> None:
        """Do what `scan` does, chance included, but for the image, which nobody wants to see.

        Raises:
            LimitExceeded: The centre lies outside the piezo range.
            ContactLost: The tip is withdrawn.
            ValueError: It is no frame, or the fraction not within 0 to 1.
        """
        validate_scan(frame, fraction)
        lines = math.ceil(fraction * frame.pixels)
        course = self._begin(frame)
        for part in self._pass_through(course, slice(0, lines)):
            self._draw_noise(course, part)

    def begin_scan(
        self, frame: Frame, upward: bool = False, line_time: float | None = None
    ) -> RunningScan:
        """Move to the frame and be ready to record its first line.

        The scan ends when the microscope is told to do something else.

        Args:
            frame: Where to scan.
            upward: Whether to begin at the smallest y.
            line_time: Forward plus backward of one line, s; None for the configured speed.

        Raises:
            LimitExceeded: The centre lies outside the piezo range.
            ContactLost: The tip is withdrawn.
            ValueError: It is no frame.
        """
        validate_scan(frame)
        course = self._begin(frame, upward, line_time)
        z = np.full((frame.pixels, frame.pixels), np.nan, dtype=np.float32)
        blank = Scan(frame, z, self.z_range, self.bias, self.setpoint, course.started)
        return RunningScan(blank, course, partial(self._record, course))

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        """Condition the probe at x, y (m).

        Raises:
            LimitExceeded: The place lies outside the piezo range.
            ContactLost: The tip is withdrawn, or the surface out of reach.
            TipCrashed: The tip is in the surface.
            ValueError: Something is no action or no number.
        """
        validate_act(action, x, y)
        self._check_place(x, y)
        self._check_contact()
        if self._at.fault == "crash":
            raise TipCrashed("the tip has crashed into the surface: withdraw and approach first")
        if self._at.fault:
            raise ContactLost("the surface is out of reach: approach first")
        self._move(x, y)
        self._course = None
        action = sent_action(action)
        if isinstance(action, Pulse | Dip):
            self._at.time += action.width
        self.surface.mark(action, x, y, self._fate)
        if isinstance(action, Pulse):
            self._at.pulsed = True
        elif isinstance(action, Dip) and action.depth <= _SHALLOW * (1 + _ROUNDING):
            self._at.pulsed = False
        self._become(self.dynamics.act(self._at.state, action, self._fate))
        if isinstance(action, Dip) and self._fate.random() < self.config.crash_rate:
            self.inject("crash")

    def inject(self, what: Accident) -> None:
        """Let an accident happen now.

        Raises:
            ContactLost: The tip is withdrawn.
        """
        self._check_contact()
        self._at.fault = what
        if what == "crash":
            self._become(HiddenState(Shape.MULTIPLE, self.truth.contaminated, self.truth.unstable))

    def move_to(self, x: float, y: float) -> None:
        """Move the tip to x, y (m), in contact or not.

        Raises:
            LimitExceeded: The place lies outside the piezo range.
        """
        validate_place(x, y)
        self._check_place(x, y)
        self._move(x, y)

    def approach(self) -> None:
        """Bring the tip into contact; also finds the surface again after it was lost.

        Raises:
            TipCrashed: Withdraw first.
        """
        if self._at.fault == "crash":
            raise TipCrashed("the tip has crashed into the surface: withdraw before approach")
        self._at.time += _APPROACH_S
        self._at.approached = True
        self._at.fault = ""
        self._at.landed = self._at.time
        if self._at.shifted:
            self._at.shifted = False
            self._at.moved = (self.reach, self.reach, self._at.time)

    def withdraw(self) -> None:
        """Take the tip away from the surface."""
        self._course = None
        self._at.approached = False
        self._at.fault = ""

    def retract(self) -> None:
        """Withdraw; nothing is left for a coarse motor to do."""
        self.withdraw()

    def move_area(self, direction: Direction) -> None:
        """Withdraw, step to the neighbouring approach area, approach, centre the xy piezo.

        Raises:
            ValueError: This is no direction.
        """
        validate_direction(direction)
        self.withdraw()
        self.shift_area(*direction.stride)
        self.approach()

    def shift_area(self, dx: int, dy: int) -> None:
        """Move coarsely by so many approach areas and centre the xy piezo.

        Raises:
            InstrumentError: The tip is not withdrawn.
        """
        if dx == dy == 0:
            return
        at = self._at
        if at.approached:
            raise InstrumentError("withdraw before a coarse move")
        at.area = (at.area[0] + dx, at.area[1] + dy)
        at.x = at.y = 0.0
        at.shifted = True
        at.time += _COARSE_MOVE_S * (abs(dx) + abs(dy))

    def set_probe(self, state: HiddenState) -> None:
        """Mount another probe of the given class: for labelled images and tests only."""
        self._at.state = state
        self._at.probe = draw_probe(state, self._fate)
        self._at.away = False

    def wait(self, seconds: float) -> None:
        """Let the clock run, for creep to fade."""
        validate_duration("a wait", seconds)
        self._at.time += seconds

    def reconnect(self) -> None:
        """Do nothing; there is no connection."""

    def close(self) -> None:
        """Do nothing; a real microscope would let go of its connection."""

    def get_state(self) -> dict[str, Any]:
        """Everything to continue from, bit for bit, but for a scan in progress; plain data."""
        return {
            "seed": self._seed,
            "bias": self.bias,
            "setpoint": self.setpoint,
            "situation": asdict(self._at),
            "fate": self._fate.bit_generator.state,
            "noise": self._noise.bit_generator.state,
            "jumps": self._jumps.bit_generator.state,
            "surfaces": self._sample.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave.

        Raises:
            StateError: It is not what `get_state` gives.
        """
        kept = restored(Kept, state)
        self.restart(kept.seed)
        self.bias = kept.bias
        self.setpoint = kept.setpoint
        restore_generator(self._fate, kept.fate)
        restore_generator(self._noise, kept.noise)
        restore_generator(self._jumps, kept.jumps)
        self._sample.set_state(kept.surfaces)
        self._at = kept.situation

    def _begin(self, frame: Frame, upward: bool = False, line_time: float | None = None) -> Course:
        """Move to a frame and settle how it will be scanned."""
        sent = sent_frame(frame)
        self._check_place(sent.x, sent.y)
        self._check_contact()
        self._move(sent.x, sent.y)
        self._at.away = False
        if line_time is None:
            line_time = 2 * sent.size / single(self.config.speed_nm_per_s * NM)
        change = change_probability(
            self.config, frame.pixels * line_time, self.bias, self.setpoint, self._at.pulsed
        )
        events = draw_events(self.config, frame.pixels, self._fate, change)
        self._course = Course(sent, line_time, upward, self._at.time, events)
        return self._course

    def _record(self, course: Course, lines: slice, look: bool) -> NDArray[np.float64]:
        """Record the next lines of a scan, in order of acquisition."""
        if course is not self._course:
            raise InstrumentError("this scan has ended: the microscope was told to do other things")
        parts = []
        for part in self._pass_through(course, lines):
            until = min([n for n, _ in course.events if n > part.start] + [course.frame.pixels])
            made_of = (course, self._at.probe, self._at.fault, self.bias > 0)
            parts.append(
                self._rendered.lines(
                    made_of, part, until if look else part.stop, partial(self._image, course)
                )
            )
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _pass_through(self, course: Course, lines: slice) -> Iterator[slice]:
        """Let happen what happens during these lines; gives them in parts with one probe each."""
        between = {line for line, _ in course.events if lines.start < line < lines.stop}
        for start, stop in pairwise(sorted({lines.start, lines.stop} | between)):
            for line, event in course.events:
                if line == start and not self._at.fault:
                    self._occur(event)
            yield slice(start, stop)
            # One addition for each line: the sum must not depend on how lines are grouped.
            for _ in range(start, stop):
                self._at.time += course.line_time

    def _occur(self, event: Event) -> None:
        if event == "tip change":
            self._become(self.dynamics.change(self._at.state, self._fate))
        else:
            self.inject(event)

    def _image(self, course: Course, lines: slice) -> NDArray[np.float64]:
        """Heights under the probe as it is, in order of acquisition."""
        frame, at = course.frame, self._at
        away, words = self._draw_noise(course, lines)
        height = self._height(frame.x, frame.y)
        if at.fault:
            return height + white_noise(words, _SATURATED_NOISE)
        rows = course.rows(lines)
        view = View(
            frame.x, frame.y, frame.angle, frame.pixel, frame.pixels, rows.start, rows.stop,
            course.in_rows(shift_of_lines(course, at.moved, self.config)), height,
            self.surface.slope,
        )  # fmt: skip
        picture = template("lumo" if self.bias > 0 else "homo", self.config.molecule)
        z = scan_lines(
            self.surface.ground, view, at.probe, picture, self.config,
            course.in_rows(away), course.in_rows(words),
        )  # fmt: skip
        z = course.in_rows(z)
        if self.config.z_drift_pm_per_s:
            times = course.started + course.line_time * np.arange(lines.start, lines.stop)
            z += self._risen(times)[:, None]
        return z

    def _draw_noise(self, course: Course, lines: slice) -> tuple[BoolArray, NDArray[np.uint64]]:
        """Draw jumps of the probe and noise for lines in order of acquisition."""
        pixels, count = course.frame.pixels, lines.stop - lines.start
        at, away = self._at, _STABLE
        if at.probe.rate and not at.fault:
            away = jumping(self._jumps.random((count, pixels)), at.probe.rate, at.away)
            at.away = bool(away[-1, -1])
        # One more for each line, drawn line by line: the noise of a line does not depend on where
        # the controller pauses.
        return away, self._noise.integers(2**64, size=(count, pixels + 1), dtype=np.uint64)

    def _current(self) -> float:
        if not self._at.approached or self._at.fault == "lost contact":
            return 0.0
        return self.largest_current if self._at.fault else self.setpoint

    def _height(self, x: float, y: float) -> float:
        """Tip height above a place of the bare substrate, m."""
        if self._at.fault:
            return self.z_range[0 if self._at.fault == "lost contact" else 1]
        if not self._at.approached:
            return self.z_range[1]
        low, high = self.z_range
        a, b = self.surface.slope
        surface = high - _EXTENSION_AFTER_APPROACH * (high - low) + a * x + b * y
        return float(min(max(surface, low), high))

    def _risen(self, time: _Time) -> _Time:
        """By how much the sample has come nearer since the last approach, m."""
        if not self._at.approached or self._at.fault:
            return 0.0 * time
        return self.config.z_drift_pm_per_s * 1e-12 * (time - self._at.landed)

    def _become(self, state: HiddenState) -> None:
        if state != self._at.state:
            self.set_probe(state)

    def _move(self, x: float, y: float) -> None:
        at = self._at
        dx, dy = x - at.x, y - at.y
        if dx or dy:
            self._course = None
            at.time += math.hypot(dx, dy) / (self.config.speed_nm_per_s * NM)
            at.moved = (dx, dy, at.time)
            at.x, at.y = x, y

    def _check_place(self, x: float, y: float) -> None:
        if max(abs(x), abs(y)) > self.reach * (1 + _ROUNDING):
            raise LimitExceeded(
                f"({x / NM:.1f}, {y / NM:.1f}) nm lies outside the piezo range of "
                f"+-{self.reach / NM:.1f} nm"
            )

    def _check_contact(self) -> None:
        if not self._at.approached:
            raise TipWithdrawn("the tip is withdrawn: approach first")
