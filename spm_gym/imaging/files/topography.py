"""Heights as a file holds them, and why a file is refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spm_gym.scale import length_text

_SQUARE_WITHIN = 0.02
"""Pixels whose sides differ by less are square: frames are seldom set to the last digit."""

FEEDBACK_OFF = "taken at constant height (feedback off): no topography"


class FileFormatError(ValueError):
    """A file is not the image that was asked for; the message names it and what was found."""


class NoTopographyError(FileFormatError):
    """A file is read, but its heights are not those of a surface: the feedback was off."""


@dataclass(frozen=True, slots=True)
class Topography:
    """Heights from a file.

    Attributes:
        z: Tip height (H, W) float64, m; row 0 at the largest y; NaN where nothing was scanned.
        width: Extent along x, m; None if the file does not say.
        height: Extent along y, m; known if the width is.
        feedback: Whether the feedback held the current; if not, the tip flew at constant height,
            and z says nothing of the surface. None if the file does not say.
        bias: V; None if the file does not say.
        setpoint: Of the tunnelling current, A; None if the file does not say.
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
        """Whether pixels are as wide as high, as far as is known."""
        if self.pixel_size is None:
            return True
        wide, high = self.pixel_size
        return abs(wide - high) <= _SQUARE_WITHIN * max(wide, high)

    @property
    def unclassifiable(self) -> str:
        """Why no probe can be classified by these heights, whatever their number; "" if one can."""
        if self.feedback is False:
            return FEEDBACK_OFF
        if not self.square_pixels and self.pixel_size is not None:
            wide, high = self.pixel_size
            return (
                f"its pixels are not square ({length_text(wide)} x {length_text(high)}) and would "
                f"show molecules distorted"
            )
        return ""
