"""Scan in progress, as on a controller: some lines are done, the others not yet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.types import Frame, Scan

Array = NDArray[np.float64]
_T = TypeVar("_T", bound=np.generic)
Accident = Literal["lost contact", "crash"]
Event = Accident | Literal["tip change"]

BIAS = 1.0
"""Sample bias at the start, V (paper, Methods)."""

SETPOINT = 25e-12
"""Current setpoint at the start, A (paper, Methods)."""


@dataclass(frozen=True, slots=True)
class Course:
    """Course of a scan, fixed when it starts.

    Attributes:
        frame: Where it is taken, in single precision.
        line_time: Forward plus backward of one line, s.
        upward: Whether the slow axis runs from the smallest y to the largest.
        started: Seconds on the instrument's clock.
        events: Events of the probe and their lines, in order of acquisition.
    """

    frame: Frame
    line_time: float
    upward: bool
    started: float
    events: tuple[tuple[int, Event], ...] = ()

    @property
    def step(self) -> int:
        """Step through rows of the image that gives the order of acquisition: 1 or -1."""
        return -1 if self.upward else 1

    def rows(self, lines: slice) -> slice:
        """Return the rows of the image, with falling y, that these lines fill."""
        if not self.upward:
            return lines
        return slice(self.frame.lines - lines.stop, self.frame.lines - lines.start)

    def in_rows(self, lines: NDArray[_T]) -> NDArray[_T]:
        """Convert an array from order of acquisition to order of rows, or back."""
        return np.ascontiguousarray(lines[::-1]) if self.upward else lines


def change_probability(
    config: SimulatorConfig,
    duration: float,
    bias: float,
    setpoint: float,
    pulsed: bool = False,
    share: float = 1.0,
) -> float:
    """Compute the probability that the tip changes by itself during a scan.

    Args:
        config: The simulation.
        duration: Of the scan, s.
        bias: Sample bias, V.
        setpoint: Current setpoint, A.
        pulsed: Whether there was a pulse and no shallow dip since.
        share: Of the lines of a full scan.
    """
    # A preview risks as much as the same number of lines of a full scan.
    rate = config.tip_change_rate * share
    # On a real microscope, changes were found to be more frequent at higher bias and current; that
    # the rate is proportional to them is an assumption.
    if not config.tip_change_per_s:
        return rate
    expected = config.tip_change_per_s * duration * abs(bias / BIAS * setpoint / SETPOINT)
    if pulsed:
        expected *= config.tip_change_after_pulse
    return 1 - (1 - rate) * math.exp(-expected)


def draw_events(
    config: SimulatorConfig,
    lines: int,
    rng: np.random.Generator,
    change_rate: float,
    share: float = 1.0,
) -> tuple[tuple[int, Event], ...]:
    """Draw the events of a whole image and their lines, in order.

    Args:
        config: The simulation.
        lines: Of the image.
        rng: Random numbers; four are drawn, whatever happens.
        change_rate: Probability of a tip change.
        share: Of the lines of a full scan.
    """
    change, accident, changed, happened = rng.random(4).tolist()
    change_at, accident_at = int(changed * lines), int(happened * lines)
    events: list[tuple[int, Event]] = []
    if change < change_rate:
        events.append((change_at, "tip change"))
    if accident < config.contact_loss_rate * share:
        events.append((accident_at, "lost contact"))
    elif accident < (config.contact_loss_rate + config.crash_rate) * share:
        events.append((accident_at, "crash"))
    return tuple(sorted(events, key=lambda event: event[0]))


class Rendered:
    """Lines that were rendered ahead of time, so that images read in mid-scan have no seams."""

    def __init__(self) -> None:
        self._made_of: tuple[object, ...] = ()
        self._first = 0
        self._image: Array = np.empty((0, 0))

    def lines(
        self,
        made_of: tuple[object, ...],
        required: slice,
        until: int,
        render: Callable[[slice], Array],
    ) -> Array:
        """Return lines that were rendered before, or render them now.

        Args:
            made_of: All that the image depends on; other objects mean another image.
            required: The lines.
            until: Line before which to stop, if lines have to be rendered.
            render: Renders lines.
        """
        # Compared by identity: every change of the probe or of the scan makes a new object.
        last = self._first + len(self._image)
        same = len(made_of) == len(self._made_of) and all(
            new is old for new, old in zip(made_of, self._made_of, strict=True)
        )
        if not (same and self._first <= required.start and required.stop <= last):
            self._made_of, self._first = made_of, required.start
            self._image = render(slice(required.start, until))
        return self._image[required.start - self._first : required.stop - self._first]


class RunningScan:
    """Scan in progress, from `SimulatedMicroscope.begin_scan`.

    Attributes:
        frame: Where it is taken, as requested.
        line_time: Forward plus backward of one line, s.
        upward: Whether the slow axis runs from the smallest y to the largest.
        lines_done: How many lines have been recorded.

    Args:
        blank: The scan before its first line; all of its heights are NaN.
        course: Its course.
        record: Records the next lines, in order of acquisition; the second argument says whether
            the others are rendered ahead.
    """

    def __init__(self, blank: Scan, course: Course, record: Callable[[slice, bool], Array]) -> None:
        self.frame = blank.frame
        self.line_time = course.line_time
        self.upward = course.upward
        self.lines_done = 0
        self._scan = blank
        self._z = blank.z.copy()
        self._lines = self._z[:: course.step]
        self._record = record

    @property
    def finished(self) -> bool:
        """Whether every line has been recorded."""
        return self.lines_done == self.frame.lines

    def advance(self, lines: int, render_ahead: bool = False) -> None:
        """Record until ``lines`` lines in all are done; the clock runs by `line_time` for each.

        Args:
            lines: In all.
            render_ahead: Whether to render all later lines too, because the scan goes on
                afterwards: then the image has no seams. It costs as much as the whole scan.

        Raises:
            ValueError: The frame has fewer lines.
            InstrumentError: The microscope has done something else since.
        """
        if lines > self.frame.lines:
            raise ValueError(f"the frame has {self.frame.lines} lines, not {lines}")
        if lines > self.lines_done:
            self._lines[self.lines_done : lines] = self._record(
                slice(self.lines_done, lines), render_ahead
            )
            self.lines_done = lines

    def scan(self) -> Scan:
        """Return the scan so far; row 0 lies at the largest y, upward scans included."""
        return replace(self._scan, z=self._z)
