"""The world below the tip of the independent controller."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

NM = 1e-9


class World(Protocol):
    """The surface below the tip, and what an act does to it."""

    def image(
        self, x: float, y: float, size: float, pixels: int, lines: int, clockwise: float
    ) -> NDArray[np.floating[Any]]:
        """Heights (m) of a frame turned clockwise by so many degrees; row 0 at the top."""

    def pulse(self, bias: float, width: float, x: float, y: float) -> None:
        """Apply a bias (V) for so many seconds."""

    def dip(self, depth: float, bias: float, width: float, x: float, y: float) -> None:
        """Push the tip into the surface."""

    def arrive(self, x_steps: int, y_steps: int) -> None:
        """Land so many coarse steps away."""


class Bumps:
    """A tilted plane with bumps that no symmetry leaves as they are; acts sharpen the probe."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, float, float, float]] = []
        self.width = 3 * NM

    def height(self, x: Any, y: Any) -> Any:
        """Height of the surface at a place, m."""
        z = 0.01 * x - 0.02 * y
        for at_x, at_y in ((6 * NM, 9 * NM), (-11 * NM, 3 * NM), (4 * NM, -12 * NM)):
            z = z + 0.3 * NM * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / self.width**2)
        return z

    def image(
        self, x: float, y: float, size: float, pixels: int, lines: int, clockwise: float
    ) -> NDArray[np.floating[Any]]:
        """Look at the surface along the lines of a turned frame."""
        along, down = ((np.arange(number) + 0.5) / number - 0.5 for number in (pixels, lines))
        right, up = np.meshgrid(size * along, -size * down)
        turn = math.radians(clockwise)
        picture: NDArray[np.floating[Any]] = self.height(
            x + right * math.cos(turn) + up * math.sin(turn),
            y - right * math.sin(turn) + up * math.cos(turn),
        )
        return picture

    def pulse(self, bias: float, width: float, x: float, y: float) -> None:
        """Blunt the probe."""
        self.acts.append(("pulse", bias, x, y))
        self.width = 5 * NM

    def dip(self, depth: float, bias: float, width: float, x: float, y: float) -> None:
        """Sharpen the probe."""
        self.acts.append(("dip", depth, x, y))
        self.width = 3 * NM

    def arrive(self, x_steps: int, y_steps: int) -> None:
        """Find the same surface everywhere."""
