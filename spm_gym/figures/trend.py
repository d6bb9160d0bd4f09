"""Small charts of height and current for the live page, as paths of SVG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spm_gym.analysis.trend import Trace, Trend

_MARGIN = 0.06


@dataclass(frozen=True, slots=True)
class SmallChart:
    """A line over the time of operation, in a square of 100 x 100 with y down.

    Attributes:
        name: Of what it shows.
        unit: Of its values.
        last: The newest value.
        lowest: Value.
        highest: Value.
        bottom: Value a little above the lower edge.
        top: Value a little below the upper edge.
        path: The line.
        reach: Lowest and highest value that there can be; None if unknown.
        band: Top edge and height of what lies within reach; None if unknown.
    """

    name: str
    unit: str
    last: float
    lowest: float
    highest: float
    bottom: float
    top: float
    path: str
    reach: tuple[float, float] | None
    band: tuple[float, float] | None


def small_charts(trend: Trend | None) -> list[SmallChart]:
    """Draw height and current; what was never known has no chart."""
    return [] if trend is None else list(_drawn(trend))


def _drawn(trend: Trend) -> Iterator[SmallChart]:
    if trend.z and trend.last_z is not None:
        yield _chart("z", "m", trend.z, trend.last_z, trend.elapsed, trend.z_range)
    if trend.current and trend.last_current is not None:
        yield _chart("Current", "A", trend.current, trend.last_current, trend.elapsed, None)


def _chart(
    name: str,
    unit: str,
    trace: Trace,
    last: float,
    elapsed: float,
    reach: tuple[float, float] | None,
) -> SmallChart:
    lowest, highest = min(low for _, low, _ in trace), max(high for _, _, high in trace)
    # A current is read by its distance from none, a height by that from the ends of its range.
    least, most = reach or (0.0, 0.0)
    low, high = min(lowest, least), max(highest, most)
    height = (1 + 2 * _MARGIN) * (high - low) or 1.0

    def y(value: float) -> float:
        return 100 * (_MARGIN + (high - value) / height)

    points = [(100 * time / elapsed, y(value)) for time, *ends in trace for value in ends]
    path = "M" + "L".join(f"{right:.2f} {down:.2f}" for right, down in points)
    band = None if reach is None else (y(reach[1]), y(reach[0]) - y(reach[1]))
    return SmallChart(name, unit, last, lowest, highest, low, high, path, reach, band)
