"""A scan in progress, as a controller sees one: some lines are done, the others not yet."""

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
"""Sample bias until somebody sets another one, V."""
SETPOINT = 25e-12
"""Current setpoint until somebody sets another one, A."""


@dataclass(frozen=True, slots=True)
class Course:
    """What is settled about a scan when it begins.

    Attributes:
        frame: As single precision transmits it.
        line_time: Forward plus backward of one line, s.
        upward: Whether the slow axis runs from the smallest y to the largest.
        started: Seconds on the instrument's clock.
        events: What befalls the probe, and at which line in order of acquisition.
    """

    frame: Frame
    line_time: float
    upward: bool
    started: float
    events: tuple[tuple[int, Event], ...] = ()

    @property
    def step(self) -> int:
        """Turns lines in order of acquisition into rows of the image, and back: 1 or -1."""
        return -1 if self.upward else 1

    def rows(self, lines: slice) -> slice:
        """The rows of the image, falling y, that these lines fill."""
        if not self.upward:
            return lines
        return slice(self.frame.pixels - lines.stop, self.frame.pixels - lines.start)

    def in_rows(self, lines: NDArray[_T]) -> NDArray[_T]:
        """What belongs to lines in order of acquisition in that of rows, or the other way round."""
        return np.ascontiguousarray(lines[::-1]) if self.upward else lines


def change_probability(
    config: SimulatorConfig, duration: float, bias: float, setpoint: float, pulsed: bool = False
) -> float:
    """Probability that the tip changes by itself during a scan.

    Args:
        config: The simulation.
        duration: Of the scan, s.
        bias: V.
        setpoint: A.
        pulsed: Whether a pulse has left it ready to change.
    """
    if not config.tip_change_per_s:
        return config.tip_change_rate
    expected = config.tip_change_per_s * duration * abs(bias / BIAS * setpoint / SETPOINT)
    if pulsed:
        expected *= config.tip_change_after_pulse
    return 1 - (1 - config.tip_change_rate) * math.exp(-expected)


def draw_events(
    config: SimulatorConfig,
    pixels: int,
    rng: np.random.Generator,
    change_rate: float,
) -> tuple[tuple[int, Event], ...]:
    """Draw what will occur the probe in a whole image: the events and their lines, in order.

    Args:
        config: The simulation.
        pixels: Lines of the image.
        rng: Chance.
        change_rate: Probability of a tip change.
    """
    change, accident, changed, happened = rng.random(4).tolist()
    change_at, accident_at = int(changed * pixels), int(happened * pixels)
    events: list[tuple[int, Event]] = []
    if change < change_rate:
        events.append((change_at, "tip change"))
    if accident < config.contact_loss_rate:
        events.append((accident_at, "lost contact"))
    elif accident < config.contact_loss_rate + config.crash_rate:
        events.append((accident_at, "crash"))
    return tuple(sorted(events, key=lambda event: event[0]))


class Rendered:
    """Lines that were rendered before they were due, so that looks in mid-scan leave no seam."""

    def __init__(self) -> None:
        self._made_of: tuple[object, ...] = ()
        self._first = 0
        self._image: Array = np.empty((0, 0))

    def lines(
        self,
        made_of: tuple[object, ...],
        wanted: slice,
        until: int,
        render: Callable[[slice], Array],
    ) -> Array:
        """Lines of what was rendered, or of what is rendered now.

        Args:
            made_of: What the image depends on; other objects mean another image.
            wanted: Which lines.
            until: How far to render, if that has to be done.
            render: Renders lines.
        """
        last = self._first + len(self._image)
        same = len(made_of) == len(self._made_of) and all(
            new is old for new, old in zip(made_of, self._made_of, strict=True)
        )
        if not (same and self._first <= wanted.start and wanted.stop <= last):
            self._made_of, self._first = made_of, wanted.start
            self._image = render(slice(wanted.start, until))
        return self._image[wanted.start - self._first : wanted.stop - self._first]


class RunningScan:
    """A scan in progress; `SimulatedMicroscope.begin_scan` begins one.

    Attributes:
        frame: Where it is taken, as it was asked for.
        line_time: Forward plus backward of one line, s.
        upward: Whether the slow axis runs from the smallest y to the largest.
        lines_done: How many lines have been recorded.

    Args:
        blank: The scan before its first line; all of its heights are NaN.
        course: What is settled about it.
        record: Records the next lines, numbered and given in order of acquisition; told whether
            more may be rendered ahead.
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
        return self.lines_done == self.frame.pixels

    def advance(self, lines: int, look: bool = False) -> None:
        """Record until ``lines`` lines in all are done; the clock runs by `line_time` for each.

        Args:
            lines: In all.
            look: Whether the scan goes on afterwards: then all that is to come is rendered at once,
                and the image has no seams. It costs as much as the whole scan.

        Raises:
            ValueError: The frame has fewer lines.
            InstrumentError: The microscope has done something else since.
        """
        if lines > self.frame.pixels:
            raise ValueError(f"the frame has {self.frame.pixels} lines, not {lines}")
        if lines > self.lines_done:
            self._lines[self.lines_done : lines] = self._record(slice(self.lines_done, lines), look)
            self.lines_done = lines

    def scan(self) -> Scan:
        """The scan so far; row 0 lies at the largest y whichever way it runs."""
        return replace(self._scan, z=self._z)
