"""Values that cross module boundaries, and the protocols of policies and classifiers.

Everything is in SI units: metres, volts, amperes, seconds. Piezo coordinates have x to the right
and y up; row 0 of an image lies at the largest y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]
_Kind = TypeVar("_Kind", bound=np.generic)

UNKNOWN_RANGE = (math.nan, math.nan)
"""Lowest and highest height of a z piezo whose range is unknown; no height lies in it."""


def read_only(array: NDArray[_Kind]) -> NDArray[_Kind]:
    """Return the array if it is read-only, otherwise a read-only copy."""
    # A read-only view does not suffice: its base may still be written to.
    if array.flags.writeable or array.base is not None:
        array = array.copy()
        array.flags.writeable = False
    return array


@dataclass(frozen=True, slots=True)
class Frame:
    """A square scan frame in piezo coordinates.

    A frame with fewer lines than pixels is a preview: a full scan of which only every k-th line is
    recorded, over the whole frame, in a k-th of the time.

    Attributes:
        x: Centre of the frame, m.
        y: Centre of the frame, m.
        size: Side length, m.
        pixels: Pixels of a line.
        angle: Counter-clockwise rotation about the centre, rad.
        lines: Number of lines, a divisor of the pixels; by default as many.
    """

    x: float
    y: float
    size: float
    pixels: int
    angle: float = 0.0
    lines: int = None  # type: ignore[assignment]  # a default cannot name another field

    def __post_init__(self) -> None:
        if self.lines is None:
            object.__setattr__(self, "lines", self.pixels)

    @property
    def pixel(self) -> float:
        """Distance of neighbouring pixels of a line, m."""
        return self.size / self.pixels

    @property
    def is_preview(self) -> bool:
        """Whether it has fewer lines than pixels."""
        return self.lines < self.pixels

    @property
    def full(self) -> Frame:
        """Frame of a full scan of the same place."""
        return replace(self, lines=self.pixels)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the image: lines, pixels."""
        return self.lines, self.pixels

    @property
    def line_step(self) -> int:
        """Distance of neighbouring lines, in pixels."""
        return self.pixels // self.lines

    @property
    def rows(self) -> slice:
        """Rows of a full scan of the same place that the lines of this one are."""
        # Each line stands for a strip of the frame and runs through its middle, as controllers
        # spread few lines over a frame; an even strip has none there, but one half a pixel below.
        return slice(self.line_step // 2, None, self.line_step)

    @property
    def corners(self) -> list[tuple[float, float]]:
        """Piezo coordinates (m) of the corners: top left, top right, bottom right, bottom left."""
        full = self.full
        # Positions are those of the middles of pixels; the frame reaches half a pixel further.
        low, high = -0.5, self.pixels - 0.5
        ends = ((low, low), (low, high), (high, high), (high, low))
        return [full.position(row, col) for row, col in ends]

    def position(self, row: float, col: float) -> tuple[float, float]:
        """Return the piezo coordinates (m) of a place in the image.

        Row and column count from 0; whole numbers are pixel centres.
        """
        middle = (self.pixels - 1) / 2
        row = self.rows.start + self.line_step * row
        u, v = (col - middle) * self.pixel, (middle - row) * self.pixel
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return float(self.x + cos * u - sin * v), float(self.y + sin * u + cos * v)


@dataclass(frozen=True, slots=True)
class Scan:
    """One constant-current topography.

    Attributes:
        frame: Where it was taken.
        z: Tip height, (lines, pixels) float32, m; larger is further from the sample; NaN where
            nothing was scanned. Read-only.
        z_range: Lowest and highest height that the z piezo reaches, m; None if unknown.
        bias: Sample bias, V.
        setpoint: Tunnelling current held by the feedback, A.
        started: Seconds on the instrument's clock.
        path: File of the raw scan, if one was written.
        channels: Other images that were recorded with it.
    """

    frame: Frame
    z: FloatImage
    z_range: tuple[float, float] | None = None
    # What the paper's images were taken at: 1 V, 25 pA (paper, *Instrument and scanning*).
    bias: float = 1.0
    setpoint: float = 25e-12
    started: float = 0.0
    path: Path | None = None
    channels: tuple[RecordedImage, ...] = ()

    @property
    def z_range_or_nan(self) -> tuple[float, float]:
        """Lowest and highest height that the z piezo reaches, m; NaN if unknown."""
        return self.z_range or UNKNOWN_RANGE

    @property
    def median_z(self) -> float:
        """Median of its heights, m; NaN if nothing was scanned."""
        scanned = self.z[np.isfinite(self.z)]
        return float(np.median(scanned)) if scanned.size else math.nan

    def __post_init__(self) -> None:
        # One scan is levelled, drawn, stored and learned from: none of them may change it for the
        # others.
        object.__setattr__(self, "z", read_only(self.z))

    def __reduce__(self) -> tuple[Any, ...]:
        # Unpickled arrays are writeable; the constructor makes the heights read-only again.
        return type(self), tuple(getattr(self, each.name) for each in fields(self))


@dataclass(frozen=True, slots=True)
class RecordedImage:
    """Another image of a scan: of another signal, or of the way back.

    Attributes:
        name: Of the signal, with its unit.
        backward: Whether it was recorded on the way back.
        values: (lines, pixels) float32, in that unit, as the controller has them. Read-only.
    """

    name: str
    backward: bool
    values: FloatImage

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", read_only(self.values))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.backward, self.values)


@dataclass(frozen=True, slots=True)
class Stall:
    """Do nothing but take another scan."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """A bias pulse: ``bias`` in V for ``width`` seconds."""

    bias: float
    # All actions of the paper last 200 ms, and its dips are at 20 mV (paper, *Actions*).
    width: float = 0.2


@dataclass(frozen=True, slots=True)
class Dip:
    """A controlled indentation ("tip shaping"): ``depth`` in m, positive into the surface."""

    depth: float
    bias: float = 0.02
    width: float = 0.2


Conditioning = Stall | Pulse | Dip


class Direction(Enum):
    """Direction of a coarse move of the approach area."""

    X_PLUS = "x+"
    X_MINUS = "x-"
    Y_PLUS = "y+"
    Y_MINUS = "y-"

    @property
    def stride(self) -> tuple[int, int]:
        """Displacement in approach areas along x and y."""
        length = 1 if self.value[1] == "+" else -1
        return (length, 0) if self.value[0] == "x" else (0, length)


@dataclass(frozen=True, slots=True)
class Status:
    """The state that an instrument reports.

    Attributes:
        x: Piezo position, m.
        y: Piezo position, m.
        z: Tip height, m.
        z_range: Lowest and highest reachable height, m.
        bias: Sample bias, V.
        setpoint: Current setpoint, A.
        current: Tunnelling current, A.
        approached: Whether the feedback holds the tip at the surface.
        time: Seconds on the instrument's clock.
        details: Anything else that the instrument reports, by name.
    """

    x: float
    y: float
    z: float
    z_range: tuple[float, float]
    bias: float
    setpoint: float
    current: float
    approached: bool
    time: float
    details: dict[str, Any] = field(default_factory=dict)


class Classifier(Protocol):
    """Classifies probes from their images, as far as it knows such images."""

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map normalised images (N, 1, H, W) to the probability (N,) that the probe is good.

        NaN stands for an unknown image, unlike all that the classifier was trained with: its probe
        is neither good nor bad.
        """
        ...


class Policy(Protocol):
    """Chooses actions; the signature is that of stable-baselines3 and sb3-contrib."""

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: BoolArray | None = None,
    ) -> tuple[Any, Any]:
        """Return the action for one observation (1, H, W), and the state for the next call.

        The state is None at the start of an episode; most policies have none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of the environment, as a learner needs it.

    Attributes:
        observation: The image before the action, (1, H, W).
        action: Number of the action.
        reward: Of the step.
        next_observation: The image after it, (1, H, W).
        next_mask: Actions allowed on that image, (A,).
        terminated: Whether the episode has ended there.
        truncated: Whether it was cut off there.
        uncertain: Whether the action may not have been carried out: nothing is learned from it.
    """

    observation: NDArray[np.float32]
    action: int
    reward: float
    next_observation: NDArray[np.float32]
    next_mask: BoolArray
    terminated: bool
    truncated: bool
    uncertain: bool = False


class Expectation(NamedTuple):
    """Expectations of a policy before it acts, if it has any.

    Attributes:
        values: Of all actions; None of a policy that has none.
        forecast: Of the belief agent; None of any other policy.
    """

    values: tuple[float, ...] | None = None
    forecast: Forecast | None = None


PolicyName = Literal["agent", "random"]
"""Names of the policies that choose the actions of an autonomous run."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Belief of a policy about the probe, and what it expects of each of the A actions.

    Attributes:
        belief: Probability of each of the S classes of probes.
        good: Probability of a good probe after each action.
        actions_to_go: Mean number of actions to a good probe, beginning with each.
    """

    belief: tuple[float, ...]
    good: tuple[float, ...]
    actions_to_go: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """An action that a policy has chosen in an autonomous run.

    Attributes:
        action: Its number.
        policy: Name of the policy.
        values: Values of all actions; None of a policy that has none.
        forecast: What the policy expects; None of a policy that expects nothing.
    """

    action: int
    policy: PolicyName
    values: tuple[float, ...] | None = None
    forecast: Forecast | None = None
