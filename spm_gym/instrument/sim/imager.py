"""Lines of scans: noise and jumps drawn for each line, and the image of the surface below."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.molecule import template
from spm_gym.instrument.sim.piezo import shift_of_lines
from spm_gym.instrument.sim.render import View, jumping, scan_lines, white_noise
from spm_gym.instrument.sim.running_scan import Course
from spm_gym.instrument.sim.situation import Situation
from spm_gym.instrument.sim.surface import Surface
from spm_gym.plain_state import restore_generator
from spm_gym.types import BoolArray

Array = NDArray[np.float64]

_SATURATED_NOISE = 0.05e-12
"""Of the height where the piezo is at its end, m: only that of the controller is left."""

_STABLE: BoolArray = np.zeros((0, 0), dtype=bool)


class LineImager:
    """Images lines of scans; noise and jumps come from random streams of its own.

    Args:
        noise: Seed of the noise.
        jumps: Seed of the jumps of an unstable probe.
    """

    def __init__(self, noise: np.random.SeedSequence, jumps: np.random.SeedSequence) -> None:
        self._noise = np.random.default_rng(noise)
        self._jumps = np.random.default_rng(jumps)

    def draw_noise(
        self, course: Course, lines: slice, at: Situation
    ) -> tuple[BoolArray, NDArray[np.uint64]]:
        """Draw jumps of the probe and noise for lines in order of acquisition.

        Returns:
            In which pixels an unstable probe has its second form (lines, pixels), and random words
            (lines, pixels + 1).
        """
        pixels, count = course.frame.pixels, lines.stop - lines.start
        away = _STABLE
        if at.probe.rate and not at.fault:
            away = jumping(self._jumps.random((count, pixels)), at.probe.rate, at.away)
            at.away = bool(away[-1, -1])  # the next line starts in the form in which this one ends
        # One more for each line, drawn line by line: the noise of a line does not depend on where
        # the controller pauses.
        return away, self._noise.integers(2**64, size=(count, pixels + 1), dtype=np.uint64)

    def image(
        self,
        course: Course,
        lines: slice,
        at: Situation,
        surface: Surface,
        config: SimulatorConfig,
        bias: float,
        z_range: tuple[float, float],
    ) -> Array:
        """Image lines of a scan with the probe in its present state.

        Args:
            course: The scan.
            lines: In order of acquisition.
            at: Where the tip is; an unstable probe may change its form.
            surface: The sample below.
            config: The simulation.
            bias: Sample bias, V.
            z_range: Of the z piezo, m.

        Returns:
            Heights (lines, pixels) in order of acquisition, m.
        """
        frame = course.frame
        away, words = self.draw_noise(course, lines, at)
        height = at.height(frame.x, frame.y, surface.slope, z_range)
        if at.fault:
            return height + white_noise(words, _SATURATED_NOISE)
        rows = course.rows(lines)
        # Whatever lies within reach of the tip counts, so the rows between the lines of a preview
        # are imaged too, each at the moment of its line.
        step = frame.line_step
        shift = course.in_rows(shift_of_lines(course, at.moved, config)).repeat(step, axis=0)
        view = View(
            frame.x, frame.y, frame.angle, frame.pixel, frame.pixels,
            step * rows.start, step * rows.stop, shift, height, surface.slope,
        )  # fmt: skip
        # At positive sample bias electrons tunnel into empty orbitals, else out of filled ones.
        picture = template("lumo" if bias > 0 else "homo", config.molecule)
        z = scan_lines(
            surface.ground, view, at.probe, picture, config,
            course.in_rows(away).repeat(step, axis=0), course.in_rows(words).repeat(step, axis=0),
        )  # fmt: skip
        z = course.in_rows(z[frame.rows])
        if config.z_drift_pm_per_s:
            times = course.started + course.line_time * np.arange(lines.start, lines.stop)
            z += at.rise(times, config.z_drift_pm_per_s * 1e-12)[:, None]
        return z

    def get_state(self) -> dict[str, Any]:
        """Return the states of both random generators."""
        return {
            "noise": self._noise.bit_generator.state,
            "jumps": self._jumps.bit_generator.state,
        }

    def set_state(self, noise: dict[str, Any], jumps: dict[str, Any]) -> None:
        """Continue both random streams.

        Raises:
            StateError: It is not the state of such a generator.
        """
        restore_generator(self._noise, noise)
        restore_generator(self._jumps, jumps)
