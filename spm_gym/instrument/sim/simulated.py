"""The simulated microscope: a surface, a probe, a piezo and a clock behind `Instrument`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.base import ContactLost, LimitExceeded, TipCrashed
from spm_gym.instrument.sim.dynamics import HiddenState, ProbeDynamics, Shape
from spm_gym.instrument.sim.molecule import Orbital
from spm_gym.instrument.sim.probe import Probe, draw_probe
from spm_gym.instrument.sim.render import scan_lines, white_and_line_noise
from spm_gym.instrument.sim.surface import Surface
from spm_gym.types import Conditioning, Dip, Direction, Frame, Pulse, Scan, Status

NM = 1e-9
_EXTENSION_AFTER_APPROACH = 0.8
_APPROACH_S = 60.0
_COARSE_MOVE_S = 30.0
_CREEP_ONSET_S = 1.0
_CREEP_OVER_S = 120.0
_SATURATED_NOISE = 0.05e-12
_STRIDE = {
    Direction.X_PLUS: (1, 0),
    Direction.X_MINUS: (-1, 0),
    Direction.Y_PLUS: (0, 1),
    Direction.Y_MINUS: (0, -1),
}


@dataclass(slots=True)
class _Situation:
    """Where the tip is and what has befallen it; everything a restart resets."""

    state: HiddenState
    probe: Probe
    area: tuple[int, int] = (0, 0)
    x: float = 0.0
    y: float = 0.0
    time: float = 0.0
    moved: tuple[float, float, float] = (0.0, 0.0, -math.inf)
    approached: bool = True
    fault: str = ""


class SimulatedMicroscope:
    """A scanning tunnelling microscope that exists in software; fulfils `Instrument`.

    Nothing sleeps: the clock jumps by what each act would take.

    Args:
        config: The simulation.
        area_nm: Side of the approach area, nm; the xy piezo reaches half of it either way.
        seed: Surface, probe, noise and accidents all follow from it.
    """

    bias = 1.0
    setpoint = 25e-12

    def __init__(self, config: SimulatorConfig, area_nm: float = 850.0, seed: int = 0) -> None:
        self.config = config
        self.reach = area_nm * NM / 2
        half = config.z_range_nm * NM / 2
        self.z_range = (-half, half)
        self.dynamics = ProbeDynamics(config.transitions)
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Begin anew with a good probe in a fresh area, everything drawn from the seed."""
        self._seed = seed
        fate, imaging = np.random.SeedSequence(seed).spawn(2)
        self._fate = np.random.default_rng(fate)
        self._noise = np.random.default_rng(imaging)
        good = HiddenState()
        self._at = _Situation(good, draw_probe(good, self._fate))
        self._surfaces: dict[tuple[int, int], Surface] = {}

    @property
    def truth(self) -> HiddenState:
        """The hidden state of the probe: for labels, oracle and tests only."""
        return self._at.state

    @property
    def surface(self) -> Surface:
        """The sample in the present approach area."""
        area = self._at.area
        if area not in self._surfaces:
            # SeedSequence takes no negative numbers.
            key = [2 * abs(index) + (index < 0) for index in area]
            seed = np.random.SeedSequence([self._seed, *key])
            self._surfaces[area] = Surface(self.config, 2 * self.reach, seed)
        return self._surfaces[area]

    def status(self) -> Status:
        """Read the present state."""
        at = self._at
        touching = at.approached and not at.fault
        return Status(
            x=at.x,
            y=at.y,
            z=self._height(at.x, at.y),
            z_range=self.z_range,
            bias=self.bias,
            setpoint=self.setpoint,
            current=self.setpoint if touching else 0.0,
            approached=at.approached,
            time=at.time,
        )

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        """Move to the frame and record its first ``fraction`` of lines.

        Raises:
            LimitExceeded: The centre lies outside the piezo range.
            ContactLost: The tip is withdrawn.
            ValueError: The fraction is not within 0 to 1.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction must be within 0 to 1, not {fraction:g}")
        self._check_place(frame.x, frame.y)
        self._check_contact()
        self._move(frame.x, frame.y)
        started = self._at.time
        lines = math.ceil(fraction * frame.pixels)
        z = np.full((frame.pixels, frame.pixels), np.nan, dtype=np.float32)
        z[:lines] = self._record(frame, lines, fraction)
        self._at.time += lines * self._line_time(frame)
        return Scan(frame, z, self.z_range, self.bias, self.setpoint, started)

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        """Condition the probe at x, y (m).

        Raises:
            LimitExceeded: The place lies outside the piezo range.
            ContactLost: The tip is withdrawn, or the surface out of reach.
            TipCrashed: The tip is in the surface.
        """
        self._check_place(x, y)
        self._check_contact()
        if self._at.fault == "crash":
            raise TipCrashed("the tip has crashed into the surface: withdraw and approach first")
        if self._at.fault:
            raise ContactLost("the surface is out of reach: approach first")
        self._move(x, y)
        if isinstance(action, Pulse | Dip):
            self._at.time += action.width
        self.surface.mark(action, x, y, self._fate)
        self._become(self.dynamics.act(self._at.state, action, self._fate))
        if isinstance(action, Dip) and self._fate.random() < self.config.crash_rate:
            self._crash()

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

    def withdraw(self) -> None:
        """Take the tip away from the surface."""
        self._at.approached = False
        self._at.fault = ""

    def move_area(self, direction: Direction) -> None:
        """Withdraw, step to the neighbouring approach area, approach, centre the xy piezo."""
        self.withdraw()
        dx, dy = _STRIDE[direction]
        self._at.area = (self._at.area[0] + dx, self._at.area[1] + dy)
        self._at.x = self._at.y = 0.0
        self._at.time += _COARSE_MOVE_S
        self.approach()
        self._at.moved = (self.reach, self.reach, self._at.time)
        self.wait(_CREEP_OVER_S)

    def equip(self, state: HiddenState) -> None:
        """Mount another probe of the given class: for labelled images and tests only."""
        self._at.state = state
        self._at.probe = draw_probe(state, self._fate)

    def wait(self, seconds: float) -> None:
        """Let the clock run, for creep to fade."""
        self._at.time += seconds

    def close(self) -> None:
        """Do nothing; a real microscope would let go of its connection."""

    def get_state(self) -> dict[str, Any]:
        """Everything to continue from, bit for bit; picklable."""
        return {
            "seed": self._seed,
            "situation": replace(self._at),
            "fate": self._fate.bit_generator.state,
            "noise": self._noise.bit_generator.state,
            "surfaces": {area: surface.get_state() for area, surface in self._surfaces.items()},
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave."""
        self.restart(state["seed"])
        self._fate.bit_generator.state = state["fate"]
        self._noise.bit_generator.state = state["noise"]
        for area, kept in state["surfaces"].items():
            self._at.area = area
            self.surface.set_state(kept)
        self._at = replace(state["situation"])

    def _record(self, frame: Frame, lines: int, fraction: float) -> NDArray[np.float64]:
        if self._at.fault:
            return self._saturated(lines, frame.pixels)
        changes = self._fate.random() < self.config.tip_change_rate * fraction
        first = int(self._fate.integers(1, max(2, lines))) if changes else lines
        parts = [self._image(frame, slice(0, first))]
        if changes:
            self._become(self.dynamics.change(self._at.state, self._fate))
            parts.append(self._image(frame, slice(first, lines)))
        z = np.concatenate(parts) + self._plane(frame, lines)
        self._risk_accident(fraction)
        if self._at.fault:
            line = int(self._fate.integers(lines))
            z[line:] = self._saturated(lines - line, frame.pixels)
        return z

    def _saturated(self, lines: int, pixels: int) -> NDArray[np.float64]:
        """What a scan shows while the z piezo is at the end of its range."""
        end = self.z_range[0 if self._at.fault == "lost contact" else 1]
        return np.asarray(end + self._noise.normal(0, _SATURATED_NOISE, (lines, pixels)))

    def _image(self, frame: Frame, lines: slice) -> NDArray[np.float64]:
        orbital: Orbital = "lumo" if self.bias > 0 else "homo"
        probe = self._at.probe
        shift = self._drift(frame)
        z = scan_lines(
            self.surface, frame, lines, probe, shift, orbital, self.config.mode, self._noise
        )
        white = probe.noise * self.config.white_noise_pm * 1e-12
        return z + white_and_line_noise(
            z.shape, white, self.config.line_noise_pm * 1e-12, self._noise
        )

    def _drift(self, frame: Frame) -> NDArray[np.float64]:
        """How far the tip is from where it should be in each line, (2, pixels), m."""
        elapsed = self._line_time(frame) * np.arange(frame.pixels)
        dx, dy, when = self._at.moved
        since = self._at.time - when + elapsed
        left = 1 - np.log1p(since / _CREEP_ONSET_S) / np.log1p(_CREEP_OVER_S / _CREEP_ONSET_S)
        creep = -self.config.creep_fraction * np.clip(left, 0, 1)
        drift = self.config.drift_pm_per_s * 1e-12 * elapsed
        return np.stack([creep * dx + drift, creep * dy + drift])

    def _plane(self, frame: Frame, lines: int) -> NDArray[np.float64]:
        middle = (frame.pixels - 1) / 2
        along = (np.arange(frame.pixels) - middle) * frame.pixel
        cos, sin = math.cos(frame.angle), math.sin(frame.angle)
        a, b = self.surface.slope
        u, v = along[None, :], -along[:lines, None]
        tilt = (a * cos + b * sin) * u + (b * cos - a * sin) * v
        return np.asarray(self._height(frame.x, frame.y) + tilt)

    def _height(self, x: float, y: float) -> float:
        """Tip height above a place of the bare substrate, m."""
        if self._at.fault:
            return self.z_range[0 if self._at.fault == "lost contact" else 1]
        if not self._at.approached:
            return self.z_range[1]
        low, high = self.z_range
        a, b = self.surface.slope
        surface = high - _EXTENSION_AFTER_APPROACH * (high - low) + a * x + b * y
        return float(np.clip(surface, low, high))

    def _risk_accident(self, fraction: float) -> None:
        drawn = self._fate.random()
        if drawn < self.config.contact_loss_rate * fraction:
            self._at.fault = "lost contact"
        elif drawn < (self.config.contact_loss_rate + self.config.crash_rate) * fraction:
            self._crash()

    def _crash(self) -> None:
        self._at.fault = "crash"
        self._become(HiddenState(Shape.MULTIPLE, self.truth.contaminated, self.truth.unstable))

    def _become(self, state: HiddenState) -> None:
        if state != self._at.state:
            self._at.state = state
            self._at.probe = draw_probe(state, self._fate)

    def _move(self, x: float, y: float) -> None:
        at = self._at
        dx, dy = x - at.x, y - at.y
        if dx or dy:
            at.time += math.hypot(dx, dy) / (self.config.speed_nm_per_s * NM)
            at.moved = (dx, dy, at.time)
            at.x, at.y = x, y

    def _line_time(self, frame: Frame) -> float:
        """Forward and back, s."""
        return 2 * frame.size / (self.config.speed_nm_per_s * NM)

    def _check_place(self, x: float, y: float) -> None:
        if max(abs(x), abs(y)) > self.reach * (1 + 1e-9):
            raise LimitExceeded(
                f"({x / NM:.1f}, {y / NM:.1f}) nm lies outside the piezo range of "
                f"+-{self.reach / NM:.1f} nm"
            )

    def _check_contact(self) -> None:
        if not self._at.approached:
            raise ContactLost("the tip is withdrawn: approach first")
