"""Scan of the virtual controller, made of a running scan of the simulated microscope."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spm_gym.instrument.sim.running_scan import RunningScan
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Frame

Image = NDArray[np.float32]

LARGEST = 1024
"""Most pixels along a side."""

_SMALLEST_PIXEL = 0.5e-12
_PART_OF_A_LINE = 0.01


@dataclass(frozen=True, slots=True)
class Raster:
    """Area and speed of a scan.

    Attributes:
        x: Centre, m.
        y: Centre, m.
        width: Extent along the lines, m.
        height: Extent across the lines, m.
        angle: Degrees, clockwise.
        pixels: Number of pixels in a line.
        lines: Number of lines.
        upward: Whether it starts at the smallest y.
        line_time: Forward plus backward, s.
    """

    x: float
    y: float
    width: float
    height: float
    angle: float
    pixels: int
    lines: int
    upward: bool
    line_time: float

    @property
    def duration(self) -> float:
        """Duration of the whole scan, s."""
        return self.lines * self.line_time

    def place(self, across: float, along: float) -> tuple[float, float]:
        """Convert a place, in shares of height and width from the top left, to coordinates (m)."""
        frame = Frame(self.x, self.y, self.width, 1, -math.radians(self.angle))
        return frame.position((across - 0.5) * self.height / self.width, along - 0.5)


@dataclass(frozen=True, slots=True)
class _Excerpt:
    """Square scan that covers a raster, and its pixels that make up the image; None if all do.

    The simulated microscope scans squares only, and previews whose lines divide the pixels; a
    controller scans any rectangle with any numbers of lines and pixels.
    """

    frame: Frame
    chosen: tuple[NDArray[np.intp], NDArray[np.intp]] | None

    @staticmethod
    def of(raster: Raster) -> _Excerpt:
        r = raster
        size = max(r.width, r.height)
        angle = -math.radians(r.angle)  # controllers count clockwise, frames counter-clockwise
        # In both directions at least as fine as the image.
        fine = math.ceil(max(r.pixels * size / r.width, r.lines * size / r.height) - 1e-6)
        pixels = int(max(min(fine, LARGEST, size / _SMALLEST_PIXEL), 1))
        if r.width == r.height and r.pixels == pixels and pixels % r.lines == 0:
            return _Excerpt(Frame(r.x, r.y, size, pixels, angle, r.lines), None)
        frame = Frame(r.x, r.y, size, pixels, angle)
        rows = _nearest(r.lines, r.height / frame.pixel, pixels)
        return _Excerpt(frame, (rows, _nearest(r.pixels, r.width / frame.pixel, pixels)))

    def cut(self, image: Image) -> Image:
        return image if self.chosen is None else np.asarray(image[np.ix_(*self.chosen)])

    def lines_needed(self, lines: int, raster: Raster) -> int:
        """Count the lines of the square scan that the first lines of the image need."""
        if self.chosen is None or lines == 0:
            return lines
        if lines == raster.lines:
            return self.frame.lines
        rows = self.chosen[0]
        if raster.upward:
            return self.frame.lines - int(rows[-lines])
        return int(rows[lines - 1]) + 1


def _nearest(count: int, extent: float, pixels: int) -> NDArray[np.intp]:
    """Find the pixels nearest to the centres of ``count`` parts of the middle ``extent`` pixels."""
    centres = (pixels - extent) / 2 + (np.arange(count) + 0.5) * extent / count
    return np.clip(np.floor(centres).astype(np.intp), 0, pixels - 1)


class Acquisition:
    """Scan from its start to its end; it is given all times and reads no clock.

    Attributes:
        raster: Its area and speed.
        started: When the first line started, later by all pauses, s.
        paused: When it was paused; None if it is not.

    Args:
        raster: Its area and speed.
        now: The time, s.
        microscope: Takes the scan.
        blind_at: Height at which the tip is held, m; None if the feedback follows the surface.
        before: Content of the buffer until the first lines are done.
    """

    def __init__(
        self,
        raster: Raster,
        now: float,
        microscope: SimulatedMicroscope,
        blind_at: float | None,
        before: Image | None = None,
    ) -> None:
        self.raster = raster
        self.started = now
        self.paused: float | None = None
        self.bias = microscope.bias
        self.setpoint = microscope.setpoint
        self._excerpt = _Excerpt.of(raster)
        self._blind_at = blind_at
        self._lines = self._followed = 0
        self._before = before
        self._microscope = microscope
        self._unstable = np.zeros(raster.lines, dtype=bool)
        self._running: RunningScan | None = None
        if blind_at is not None:
            # Without feedback there is nothing to image, but the tip still moves to the frame.
            microscope.move_to(raster.x, raster.y)
        else:
            frame = self._excerpt.frame
            line_time = raster.line_time
            if self._excerpt.chosen is not None:
                line_time *= raster.lines / frame.lines
            self._running = microscope.begin_scan(frame, raster.upward, line_time)

    @property
    def end(self) -> float:
        """Time at which the last line is done, s; infinite during a pause."""
        return math.inf if self.paused is not None else self.started + self.raster.duration

    def elapsed(self, now: float) -> float:
        """Return the time spent scanning, s."""
        return (now if self.paused is None else self.paused) - self.started

    def due(self, now: float) -> int:
        """Count the lines that are done by now."""
        # Rounding of the times must not leave a scan one line short when its time is over.
        lines = math.floor(self.elapsed(now) / self.raster.line_time + _PART_OF_A_LINE)
        return min(lines, self.raster.lines)

    def pause(self, now: float) -> None:
        """Pause the scan, to be resumed."""
        if self.paused is None:
            self.paused = now

    def resume(self, now: float) -> None:
        """Continue a paused scan."""
        if self.paused is not None:
            self.started += now - self.paused
            self.paused = None

    def record(self, lines: int, blind_at: float | None, render_ahead: bool) -> None:
        """Record until so many lines are done.

        Args:
            lines: In all.
            blind_at: Height at which the tip is held now, m, or None; if it was held once, the rest
                of the scan stays blind.
            render_ahead: Whether the scan goes on afterwards.
        """
        if self._blind_at is None and blind_at is not None:
            self._blind_at = blind_at
        if self._blind_at is None and lines > self._lines:
            assert self._running is not None
            self._running.advance(self._excerpt.lines_needed(lines, self.raster), render_ahead)
            self._unstable[self._followed : lines] = self._microscope.truth.unstable
            self._followed = lines
        self._lines = max(lines, self._lines)

    def heights(self) -> Image:
        """Return the image so far (lines, pixels), m; row 0 lies at the top of the frame."""
        z = np.full((self.raster.lines, self.raster.pixels), np.nan, dtype=np.float32)
        in_order = z[:: -1 if self.raster.upward else 1]
        if self._running is not None:
            image = self._excerpt.cut(self._running.scan().z)[:: -1 if self.raster.upward else 1]
            in_order[: self._followed] = image[: self._followed]
        if self._blind_at is not None:
            in_order[self._followed : self._lines] = self._blind_at
        # Lines of the last scan stay in the buffer until new ones replace them.
        if self._before is not None and self._before.shape == z.shape:
            z = np.where(np.isnan(z), self._before, z)
        return z

    def blind(self) -> NDArray[np.bool_]:
        """Mark the lines in which the feedback did not follow the surface, from the top."""
        order = np.arange(self.raster.lines)
        return order[:: -1 if self.raster.upward else 1] >= (
            self.raster.lines if self._blind_at is None else self._followed
        )

    @property
    def unstable(self) -> NDArray[np.bool_]:
        """Lines in which the tip was unstable, from the top."""
        return self._unstable[:: -1 if self.raster.upward else 1]

    def position(self, now: float) -> tuple[float, float]:
        """Return the position of the tip, m."""
        lines = min(self.elapsed(now) / self.raster.line_time, self.raster.lines)
        done = math.floor(lines)
        # Each line runs forward and back again.
        there_and_back = 1 - abs(2 * (lines - done) - 1)
        down = min((done + 0.5) / self.raster.lines, 1.0)
        return self.raster.place(1 - down if self.raster.upward else down, there_and_back)


def upside_down(raster: Raster) -> Raster:
    """Reverse the slow direction of a raster."""
    return replace(raster, upward=not raster.upward)
