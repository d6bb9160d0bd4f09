"""Numbers of the live page as people read them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime

from spm_gym.scale import duration_text

_PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: ""}


def quantity(value: float, unit: str) -> str:
    """Write a value with the prefix that suits it: 25 pA, −91.4 nm; "unknown" for NaN."""
    if not math.isfinite(value):
        return "unknown"
    rounded = float(f"{value:.2e}")  # before the prefix is chosen: 0.9997 nA are 1 nA
    power = 0 if rounded == 0 else 3 * math.floor(math.log10(abs(rounded)) / 3 + 1e-9)
    power = min(max(power, min(_PREFIXES)), max(_PREFIXES))
    text = f"{rounded / 10.0**power:.4g}\N{NO-BREAK SPACE}{_PREFIXES[power]}{unit}"
    return text.replace("-", "−")


def percent(share: float | None) -> str:
    """Write a share; a dash for none."""
    return "–" if share is None else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def whole_percent(share: float) -> str:
    """Write how much of something is over, rounded down: 100 % is all of it."""
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
    "quantity": quantity,
    "percent": percent,
    "whole_percent": whole_percent,
    "probability": probability,
    "duration": duration_text,
    "iso": iso,
    "utc": utc,
    "nm": nm,
    "number": number,
}
