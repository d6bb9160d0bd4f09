"""Numbers of the live page as people read them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime

from spm_gym.analysis.measurement import Spread
from spm_gym.scale import duration_text, quantity_text


def spread(found: Spread, unit: str) -> str:
    """Write the values of all scans: 1 V; −1 V to 1 V; 1 V, of 3 scans unknown; unknown."""
    low, high = quantity_text(found.low, unit), quantity_text(found.high, unit)
    text = low if low == high else f"{low} to {high}"
    if not found.unknown or found.low is None:
        return text
    return f"{text}, of {found.unknown} scan{'s' if found.unknown != 1 else ''} unknown"


def percent(share: float | None) -> str:
    """Write a share; a dash for none."""
    return "–" if share is None else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def whole_percent(share: float) -> str:
    """Write how much of something is over, rounded down: 100 % is all of it."""
    # The margin: 0.29 is a little less in binary, and would be 28 %.
    return f"{math.floor(100 * share + 1e-9)}\N{NO-BREAK SPACE}%"


def probability(value: float | None) -> str:
    """Write three digits; a dash for none."""
    return "–" if value is None else f"{value:.3f}"


def iso(wall: float) -> str:
    """Write seconds since 1970 for machines."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")


def utc(wall: float) -> str:
    """Write seconds since 1970 for a browser that does not turn them into local time."""
    return f"{datetime.fromtimestamp(wall, UTC):%d %b %H:%M:%S} UTC"


def nm(metres: float) -> str:
    """Write a length in nm, without the unit."""
    return f"{metres * 1e9:.1f}".removesuffix(".0").replace("-", "−")


def number(value: float) -> str:
    """Write a number without needless digits, with a true minus sign."""
    return f"{value:g}".replace("-", "−")


FILTERS: dict[str, Callable[..., str]] = {
    "quantity": quantity_text,
    "spread": spread,
    "percent": percent,
    "whole_percent": whole_percent,
    "probability": probability,
    "duration": duration_text,
    "iso": iso,
    "utc": utc,
    "nm": nm,
    "number": number,
}
