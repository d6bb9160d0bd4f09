"""Colours of all pictures and pages, after Okabe and Ito.

Colour-blind people can distinguish them.
"""

from __future__ import annotations

from dataclasses import dataclass

HEIGHTS = "afmhot"
OBSERVATION = "gray"
"""Colour maps of heights and of what the networks see; both are brighter where it is higher."""

HEIGHT_STOPS = ("#000", "#800000", "#ff8000", "#ffff80", "#fff")
"""The colours of `HEIGHTS` where they bend, for scales in SVG."""

OBSERVATION_STOPS = ("#000", "#fff")
"""The same of `OBSERVATION`."""

_BLACK, _GREEN, _VERMILION, _BLUE = "#000000", "#009e73", "#d55e00", "#0072b2"
_ORANGE, _SKY, _PINK, _YELLOW = "#e69f00", "#56b4e9", "#cc79a7", "#f0e442"

GOOD, BAD, NEUTRAL, INK = _GREEN, _VERMILION, _BLUE, "#222222"
CLEAN = _SKY
ACTION = _YELLOW
ALARM = "#a52a00"
"""Of an end after which somebody has to look at the instrument."""

GROUND = "#eceff1"
"""Where nothing was imaged."""

USED, NOT_SCANNED = "#8a8a8a", "#7f8c8d"
"""Places that images have used up; parts of an image that have no heights."""

LABELS = {
    "good": GOOD,
    "bad probe": BAD,
    "bad sample": _PINK,
    "unknown": _ORANGE,
    # Not of Okabe and Ito, whose colours are all given away; a survey has few other labels.
    "unclassified": "#5e4fa2",
    "conditioning": _SKY,
    "preview": _BLUE,
    "unusable": _YELLOW,
    "undecided": "#999999",
}
"""Frames of the images by label."""

BLOCKED = {"bad sample": "#b0488a", "conditioning": "#2b86c5", "other": "#d98200"}
"""Blocked places by kind; other ones are those of troubles."""

POLICIES = {
    "agent": _BLUE,
    "random": _VERMILION,
    "single": _YELLOW,
    "blind": _ORANGE,
    "mask": _PINK,
    "counting": "#777777",
    "counting-mask": _BLACK,
    "oracle": _GREEN,
    "shuffled": _SKY,
}
"""Policies of an evaluation."""


RUNS = (_BLUE, _VERMILION, _GREEN, _PINK, _ORANGE, _SKY, _BLACK)
"""Runs beside one another, in turn."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a chart on a light or on a dark page."""

    ink: str
    grid: str
    good: str
    share: str
    limit: str
    conditioning: str
    trouble: str


LIGHT = Theme(INK, "#d0d0d0", _GREEN, _BLUE, _VERMILION, _SKY, "#b04a00")
DARK = Theme("#dddddd", "#4a4a4a", "#2fc79a", "#6cbcf0", "#f08a3c", "#3d7fa6", "#f0a24c")
