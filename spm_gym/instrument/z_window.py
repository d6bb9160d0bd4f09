"""Where in the range of the z piezo the surface lies, and whether it is to stay there."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from spm_gym.types import Scan

Window = tuple[float, float]
"""Least and most extension of the z piezo at the surface, as `RealConfig.z_window`."""

_ROOM, _DANGER = 0.9, 0.25
"""Shares of the least extension of a window."""

End = Literal["retracted", "extended"]


def extension(z: float, z_range: tuple[float, float]) -> float:
    """Return the share of its range by which the z piezo is extended towards the sample.

    Args:
        z: Height of the tip, m; larger is further from the sample.
        z_range: Lowest and highest height that the z piezo reaches, m.

    Returns:
        0 fully retracted, 1 fully extended; NaN if height or range are unknown.
    """
    low, high = z_range
    return (high - z) / (high - low)


def extension_in(scan: Scan) -> float:
    """Return how far the z piezo was extended in an image; NaN if heights or range are unknown."""
    heights = scan.z[np.isfinite(scan.z)]
    if not heights.size:
        return math.nan
    # Of the whole image: a molecule or a step is no drift.
    return extension(float(np.median(heights)), scan.z_range_or_nan)


def end_near(extended: float, window: Window) -> End | None:
    """Say which end of the range a surface outside the window is near; None within it.

    At the retracted end the piezo has no room left to lift the tip from a surface that comes
    nearer. So that is also the answer where the extension is not a number.
    """
    least, most = window
    if least <= extended <= most:
        return None
    return "extended" if extended > most else "retracted"


def has_room(extended: float, window: Window) -> bool:
    """Say whether a withdrawn tip has room for a step of the coarse motor in the wrong direction.

    The least extension of the window is to leave that; some is lost until the adjustment begins.
    """
    return extended >= _ROOM * window[0]


def in_danger(extended: float, window: Window) -> bool:
    """Say whether the piezo is so near its retracted end that a tip must not stay there."""
    return not extended >= _DANGER * window[0]


def described(extended: float, window: Window) -> str:
    """Say how far the piezo is extended, and what is allowed, in words."""
    return (
        f"z piezo {extended:.1%} extended, outside real.z_window = [{window[0]:g}, {window[1]:g}]"
    )
