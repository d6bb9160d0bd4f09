"""Colours of all pictures and pages, after Okabe and Ito: the colour-blind can tell them apart."""

from __future__ import annotations

HEIGHTS = "afmhot"
SEEN = "gray"
"""Colour maps of heights and of what the networks see; both are brighter where it is higher."""

GOOD, BAD, NEUTRAL, INK = "#009e73", "#d55e00", "#0072b2", "#222222"
ALARM = "#a52a00"
"""Of an end after which somebody has to look at the instrument."""

CLEAN = "#56b4e9"
ACTION = "#f0e442"
BLOCKED = {"bad sample": "#b0488a", "conditioning": "#2b86c5", "other": "#d98200"}
"""Blocked places by kind; other ones are those of troubles."""
