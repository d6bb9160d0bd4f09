"""The simulated microscope: a surface, a probe, a piezo and a clock behind `Instrument`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.errors import ContactLost, InstrumentError, LimitExceeded, TipCrashed
from spm_gym.instrument.sim.dynamics import HiddenState, ProbeDynamics, Shape
from spm_gym.instrument.sim.imager import LineImager
from spm_gym.instrument.sim.junction import Junction, junction, patch_at
from spm_gym.instrument.sim.probe import draw_probe
from spm_gym.instrument.sim.rounding import sent_action, sent_frame, single
from spm_gym.instrument.sim.running_scan import (
    BIAS,
    SETPOINT,
    Accident,
    Course,
    Rendered,
    RunningScan,
    change_probability,
    draw_events,
)
from spm_gym.instrument.sim.sample import Sample
from spm_gym.instrument.sim.situation import EXTENSION_AFTER_APPROACH, Kept, Situation
from spm_gym.instrument.sim.surface import Surface
from spm_gym.instrument.validation import (
    validate_act,
    validate_direction,
    validate_duration,
    validate_place,
    validate_scan,
)
from spm_gym.plain_state import restore_generator, restored
from spm_gym.scale import NM
from spm_gym.types import Conditioning, Dip, Direction, Frame, Pulse, Scan, Status

_SHALLOW = 1.2 * NM
"""Depth of a dip up to which it does not reshape the tip but calms it."""

_ROUNDING = 1e-7
"""Larger than the relative error of a number in single precision."""


class SimulatedMicroscope:
    """A scanning tunnelling microscope that exists in software; fulfils `Instrument`.

    Nothing sleeps: the clock jumps by the duration of each act. Frames and the strengths of
    conditioning are rounded to single precision, as in the protocols of controllers.

    Attributes:
        bias: Sample bias, V; its sign decides which orbital is imaged.
        setpoint: Tunnelling current held by the feedback, A.
        largest_current: Largest current that the preamplifier shows, A.

    Args:
        config: The simulation.
        area_nm: Side of the approach area, nm; the xy piezo reaches half of it in each direction.
        seed: Of surface, probe, noise and accidents.
    """

    def __init__(self, config: SimulatorConfig, area_nm: float = 850.0, seed: int = 0) -> None:
        self.config = config
        self.reach = area_nm * NM / 2
        self.z_range = (-config.z_range_nm * NM / 2, config.z_range_nm * NM / 2)
        self.largest_current = config.preamplifier_nA / 1e9
        self.dynamics = ProbeDynamics(config.transitions)
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Start again with a good probe in a fresh area, everything drawn from the seed."""
        self._seed = seed
        self.bias = BIAS
        self.setpoint = SETPOINT
        # Separate streams: how many lines are imaged does not change what happens to the probe.
        fate, noise, jumps = np.random.SeedSequence(seed).spawn(3)
        self._fate = np.random.default_rng(fate)
        self._imager = LineImager(noise, jumps)
        self._course: Course | None = None
        self._rendered = Rendered()
        good = HiddenState()
        self._at = Situation(good, draw_probe(good, self._fate))
        self._sample = Sample(self.config, 2 * self.reach, seed)

    @property
    def truth(self) -> HiddenState:
        """Hidden state of the probe, for labels, oracle and tests only."""
        return self._at.state

    @property
    def fault(self) -> Literal["", Accident]:
        """Accident that the tip has not recovered from; "" if there is none."""
        return self._at.fault

    @property
    def extension(self) -> float:
        """Share of the z range by which the surface lies below the upper end, without its tilt."""
        return self._at.drifted_extension(self.config.z_drift_pm_per_s * 1e-12, self.z_range)

    @property
    def surface(self) -> Surface:
        """Surface in the present approach area."""
        return self._sample.at(self._at.area)

    @property
    def junction(self) -> Junction:
        """Junction between the tip and the place below it."""
        at = self._at
        patch = (self._seed, *patch_at(at.area, at.x, at.y))
        return junction(at.probe, at.state, patch, self.bias, self.setpoint, self.largest_current)

    def status(self) -> Status:
        """Read the present state."""
        at = self._at
        return Status(
            x=at.x,
            y=at.y,
            z=at.height(at.x, at.y, self.surface.slope, self.z_range)
            + at.rise(at.time, self.config.z_drift_pm_per_s * 1e-12),
            z_range=self.z_range,
            bias=self.bias,
            setpoint=self.setpoint,
            current=at.current(self.setpoint, self.largest_current),
            approached=at.approached,
            time=at.time,
        )

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        """Move to the frame and record its first ``fraction`` of lines.

        Raises:
            LimitExceeded: The centre lies outside the piezo range.
            ContactLost: The tip is withdrawn.
            ValueError: It is not a frame, or the fraction is not within 0 to 1.
        """
        validate_scan(frame, fraction)
        running = self.begin_scan(frame)
        running.advance(math.ceil(fraction * frame.lines))
        return running.scan()

    def settle(self, frame: Frame, fraction: float) -> None:
        """Do all that `scan` does, random draws included, but make no image.

        The environment discards the first part of each image, in which the piezo still creeps
        (paper, Methods), so rendering it would be wasted.

        Raises:
            LimitExceeded: The centre lies outside the piezo range.
            ContactLost: The tip is withdrawn.
            ValueError: It is not a frame, or the fraction is not within 0 to 1.
        """
        validate_scan(frame, fraction)
        lines = math.ceil(fraction * frame.lines)
        course = self._begin(frame)
        for part in self._pass_through(course, slice(0, lines)):
            self._imager.draw_noise(course, part, self._at)

    def begin_scan(
        self, frame: Frame, upward: bool = False, line_time: float | None = None
    ) -> RunningScan:
        """Move to the frame and prepare to record its first line.

        Any other act of the microscope ends the scan.

        Args:
            frame: Where to scan.
            upward: Whether to begin at the smallest y.
            line_time: Forward plus backward of one line, s; None for the configured speed.

        Raises:
            LimitExceeded: The centre lies outside the piezo range.
            ContactLost: The tip is withdrawn.
            ValueError: It is not a frame.
        """
        validate_scan(frame)
        course = self._begin(frame, upward, line_time)
        z = np.full(frame.shape, np.nan, dtype=np.float32)
        blank = Scan(frame, z, self.z_range, self.bias, self.setpoint, course.started)
        return RunningScan(blank, course, partial(self._record, course))

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        """Condition the probe at x, y (m).

        Raises:
            LimitExceeded: The place lies outside the piezo range.
            ContactLost: The tip is withdrawn, or the surface out of reach.
            TipCrashed: The tip is in the surface.
            ValueError: The action is not one, or a coordinate is not a number.
        """
        validate_act(action, x, y)
        self._check_place(x, y)
        self._at.check_contact()
        if self._at.fault == "crash":
            raise TipCrashed("the tip has crashed into the surface: withdraw and approach first")
        if self._at.fault:
            raise ContactLost("the surface is out of reach: approach first")
        self._move(x, y)
        self._course = None
        # The table of transitions goes by strength: it must be the one that a controller receives.
        action = sent_action(action)
        if isinstance(action, Pulse | Dip):
            self._at.time += action.width
        # The tip acts with the shape it has: first the mark on the sample, then the new shape.
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
        self._at.check_contact()
        self._at.fault = what
        if what == "crash":
            # Silver sticks to a tip that was driven into the sample: it is blunt afterwards.
            self._become(HiddenState(Shape.MULTIPLE, self.truth.contaminated, self.truth.unstable))

    def move_to(self, x: float, y: float) -> None:
        """Move the tip to x, y (m), in contact or not.

        Raises:
            LimitExceeded: The place lies outside the piezo range.
        """
        validate_place(x, y)
        self._check_place(x, y)
        self._move(x, y)

    def approach(self, extension: float = EXTENSION_AFTER_APPROACH) -> None:
        """Bring the tip into contact, the z piezo so far extended; finds a lost surface again too.

        Raises:
            TipCrashed: Withdraw first.
        """
        if self._at.fault == "crash":
            raise TipCrashed("the tip has crashed into the surface: withdraw before approach")
        self._at.land(self.reach, extension)

    def withdraw(self) -> None:
        """Take the tip away from the surface."""
        self._course = None
        self._at.withdraw()

    def retract(self) -> None:
        """Withdraw; a simulated tip needs no coarse motor to leave the surface."""
        self.withdraw()

    def move_area(self, direction: Direction) -> None:
        """Withdraw, step to the neighbouring approach area, approach, centre the xy piezo.

        Raises:
            ValueError: It is not a direction.
        """
        validate_direction(direction)
        # Sideways steps in contact would drag the tip through the surface.
        self.withdraw()
        self.shift_area(*direction.stride)
        self.approach()

    def shift_area(self, dx: int, dy: int) -> None:
        """Move coarsely by so many approach areas and centre the xy piezo.

        Raises:
            InstrumentError: The tip is not withdrawn.
        """
        if dx or dy:
            self._at.shift_area(dx, dy)

    def set_probe(self, state: HiddenState) -> None:
        """Mount another probe of the given class: for labelled images and tests only."""
        self._at.state = state
        self._at.probe = draw_probe(state, self._fate)
        self._at.away = False

    def lend(self, work: Callable[[], None]) -> None:
        """Let ``work`` be done: it cannot reach a microscope in this program's memory."""
        self._at.check_contact()
        work()

    def wait(self, seconds: float) -> None:
        """Let the clock run, for creep to fade."""
        validate_duration("a wait", seconds)
        self._at.time += seconds

    def reconnect(self) -> None:
        """Do nothing; there is no connection."""

    def close(self) -> None:
        """Do nothing; a real microscope would close its connection."""

    def get_state(self) -> dict[str, Any]:
        """Return all that is needed to continue bit for bit, except a scan in progress."""
        return {
            "seed": self._seed,
            "bias": self.bias,
            "setpoint": self.setpoint,
            "situation": asdict(self._at),
            "fate": self._fate.bit_generator.state,
            **self._imager.get_state(),
            "surfaces": self._sample.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave.

        Raises:
            StateError: It is not such a state.
        """
        kept = restored(Kept, state)
        self.restart(kept.seed)
        self.bias = kept.bias
        self.setpoint = kept.setpoint
        restore_generator(self._fate, kept.fate)
        self._imager.set_state(kept.noise, kept.jumps)
        self._sample.set_state(kept.surfaces)
        self._at = kept.situation

    def _begin(self, frame: Frame, upward: bool = False, line_time: float | None = None) -> Course:
        """Move to a frame and draw what will happen during its scan."""
        sent = sent_frame(frame)
        self._check_place(sent.x, sent.y)
        self._at.check_contact()
        self._move(sent.x, sent.y)
        self._at.away = False
        if line_time is None:
            line_time = 2 * sent.size / single(self.config.speed_nm_per_s * NM)
        lines, share = frame.lines, frame.lines / frame.pixels
        change = change_probability(
            self.config, lines * line_time, self.bias, self.setpoint, self._at.pulsed, share
        )
        events = draw_events(self.config, lines, self._fate, change, share)
        self._course = Course(sent, line_time, upward, self._at.time, events)
        return self._course

    def _record(self, course: Course, lines: slice, render_ahead: bool) -> NDArray[np.float64]:
        """Record the next lines of a scan, in order of acquisition."""
        if course is not self._course:
            raise InstrumentError(
                "this scan has ended: the microscope has done something else since"
            )

        def render(part: slice) -> NDArray[np.float64]:
            return self._imager.image(
                course, part, self._at, self.surface, self.config, self.bias, self.z_range
            )

        parts = []
        for part in self._pass_through(course, lines):
            until = min([n for n, _ in course.events if n > part.start] + [course.frame.lines])
            made_of = (course, self._at.probe, self._at.fault, self.bias > 0)
            until = until if render_ahead else part.stop
            parts.append(self._rendered.lines(made_of, part, until, render))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _pass_through(self, course: Course, lines: slice) -> Iterator[slice]:
        """Let the events of these lines happen, and give the lines in parts with one probe each."""
        between = {line for line, _ in course.events if lines.start < line < lines.stop}
        for start, stop in pairwise(sorted({lines.start, lines.stop} | between)):
            for line, event in course.events:
                if line != start or self._at.fault:
                    continue
                if event == "tip change":
                    self._become(self.dynamics.change(self._at.state, self._fate))
                else:
                    self.inject(event)
            yield slice(start, stop)
            # One addition for each line: the sum must not depend on how lines are grouped.
            for _ in range(start, stop):
                self._at.time += course.line_time

    def _become(self, state: HiddenState) -> None:
        # A probe whose class stays keeps its parameters: so the hidden process is a finite Markov
        # decision process, and the values of policies can be computed exactly.
        if state != self._at.state:
            self.set_probe(state)

    def _move(self, x: float, y: float) -> None:
        if self._at.move_to(x, y, self.config.speed_nm_per_s * NM):
            self._course = None

    def _check_place(self, x: float, y: float) -> None:
        if max(abs(x), abs(y)) > self.reach * (1 + _ROUNDING):
            raise LimitExceeded(
                f"({x / NM:.1f}, {y / NM:.1f}) nm lies outside the piezo range of "
                f"+-{self.reach / NM:.1f} nm"
            )
