"""Units; round lengths for scale bars and axes; quantities, durations, probabilities in words."""

from __future__ import annotations

import math

NM, PM = 1e-9, 1e-12
PA = 1e-12

_PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: ""}
_UNITS = (("µm", 1e-6), ("nm", NM), ("pm", PM))


def round_length(most: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that does not exceed a length."""
    # The small margins keep rounding from turning 10 into 5.
    power = 10.0 ** math.floor(math.log10(most) + 1e-9)
    return power * next(m for m in (5, 2, 1) if m * power <= most * (1 + 1e-9))


def ticks(low: float, extent: float) -> list[float]:
    """Return about five round numbers from ``low`` on."""
    step = round_length(extent / 4)
    first = math.ceil(low / step)
    return [step * n for n in range(first, math.floor((low + extent) / step) + 1)]


def length_text(length: float) -> str:
    """Write a length (m) with its unit."""
    # In the next smaller unit, such a length would be rounded to "1e+03".
    unit, size = next((each for each in _UNITS if length >= 0.9999 * each[1]), _UNITS[-1])
    return f"{length / size:.3g} {unit}"


def quantity_text(value: float | None, unit: str) -> str:
    """Write a value with the prefix that suits it: 25 pA, −91.4 nm; "unknown" for None and NaN."""
    if value is None or not math.isfinite(value):
        return "unknown"
    rounded = float(f"{value:.2e}")  # before the prefix is chosen: 0.9997 nA are 1 nA
    power = 0 if rounded == 0 else 3 * math.floor(math.log10(abs(rounded)) / 3 + 1e-9)
    power = min(max(power, min(_PREFIXES)), max(_PREFIXES))
    # Unbroken, so that no line ends between a number and its unit.
    text = f"{rounded / 10.0**power:.4g}\N{NO-BREAK SPACE}{_PREFIXES[power]}{unit}"
    return text.replace("-", "−")


def tunnelling_text(bias: float | None, setpoint: float | None) -> str:
    """Write the bias (V) and the setpoint (A) of a scan; None and NaN are unknown."""
    volts, amperes = quantity_text(bias, "V"), quantity_text(setpoint, "A")
    return "bias and setpoint unknown" if volts == amperes else f"bias {volts}, setpoint {amperes}"


def duration_text(seconds: float) -> str:
    """Write a time of operation in seconds, minutes or hours."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{seconds / 3600:.1f} h"


def probability_text(probability: float) -> str:
    """Write the answer of a classifier: three digits, or "unknown" for NaN."""
    return "unknown" if math.isnan(probability) else f"{probability:.3f}"


def time_unit(longest: float) -> tuple[str, float]:
    """Choose the unit of a time axis by its longest time (s); also its length in s."""
    if longest < 2 * 3600:
        return "min", 60.0
    return ("h", 3600.0) if longest < 2 * 86400 else ("days", 86400.0)
