"""Colours of all pictures and pages, after Okabe and Ito.

Colour-blind people can distinguish them.
"""

from __future__ import annotations

HEIGHTS = "afmhot"
OBSERVATION = "gray"
"""Colour maps of heights and of observations of the networks; both are brighter where higher."""

GOOD, BAD, NEUTRAL, INK = "#009e73", "#d55e00", "#0072b2", "#222222"
CLEAN = "#56b4e9"
ACTION = "#f0e442"
BLOCKED = {"bad sample": "#b0488a", "conditioning": "#2b86c5", "other": "#d98200"}
"""Blocked places by kind; "other" are places where something went wrong."""
