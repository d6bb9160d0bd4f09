"""Heights from a file, and the reasons for which a file is refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spm_gym.scale import length_text

_SQUARE_WITHIN = 0.02
"""Relative difference of the sides of square pixels: frames are seldom set to the last digit."""

FEEDBACK_OFF = "taken at constant height (feedback off): no topography"


class FileFormatError(ValueError):
    """A file is not a readable image; the message names the file and the fault."""


class NoTopographyError(FileFormatError):
    """The heights in a file are not those of a surface: the feedback was off."""


@dataclass(frozen=True, slots=True)
class Topography:
    """Heights from a file.

    Attributes:
        z: Tip height (H, W) float64, m; row 0 at the largest y; NaN where nothing was scanned.
        width: Extent along x, m; None if unknown.
        height: Extent along y, m; known if the width is.
        feedback: Whether the feedback held the current; if not, the tip moved at constant height,
            and z holds nothing of the surface. None if unknown.
        bias: V; None if unknown.
        setpoint: Of the tunnelling current, A; None if unknown.
    """

    z: NDArray[np.float64]
    width: float | None = None
    height: float | None = None
    feedback: bool | None = None
    bias: float | None = None
    setpoint: float | None = None

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """Width and height of a pixel, m; None if unknown."""
        if self.width is None or self.height is None:
            return None
        rows, cols = self.z.shape
        return self.width / cols, self.height / rows

    @property
    def square_pixels(self) -> bool:
        """Whether pixels are as wide as high; True if unknown."""
        if self.pixel_size is None:
            return True
        wide, high = self.pixel_size
        return abs(wide - high) <= _SQUARE_WITHIN * max(wide, high)

    @property
    def unclassifiable(self) -> str:
        """Reason why no probe can be classified by such an image; "" if there is none."""
        if self.feedback is False:
            return FEEDBACK_OFF
        if not self.square_pixels and self.pixel_size is not None:
            wide, high = self.pixel_size
            return (
                f"its pixels are not square ({length_text(wide)} x {length_text(high)}) and would "
                f"show molecules distorted"
            )
        return ""
