"""Whether a scan can be judged, and if not, what went wrong."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from spm_gym.imaging.plane import Plane, check_shape, find_terraces
from spm_gym.imaging.robust import core
from spm_gym.types import FloatImage, Scan


class Diagnosis(StrEnum):
    """What a scan shows."""

    FINE = "fine"
    PARTIAL = "partial scan"
    LOST_CONTACT = "lost contact"
    CRASH = "crash"
    ROUGH = "rough sample"


def diagnose(
    scan: Scan | FloatImage,
    *,
    at_end_share: float = 0.05,
    saturated_share: float = 0.1,
    end_margin: float = 0.01,
    missing_rows_share: float = 0.1,
    rough_range: float = 600e-12,
    rough_percentile: float = 1.0,
) -> Diagnosis:
    """Say whether a scan is usable (paper, *Operation* and *Preprocessing*).

    Lost contact and crash go first, since they also end scans early and leave them rough. Where
    the z range is unknown, a piezo at its end is recognised by the many pixels that have exactly
    the lowest (lost contact) or highest (crash) height of the image; an image of one single height
    counts as a crash, where withdrawing does no harm.

    A surface is rough by the range of its heights, each counted from the nearest flat terrace:
    neither a tilt nor a staircase of clean terraces is rough, but tall debris on them is.

    Args:
        scan: A scan, or only its heights (H, W), m.
        at_end_share: Share of the scanned pixels at an end of the z range that is too much.
        saturated_share: The same where the z range is unknown.
        end_margin: What still counts as the end, as a fraction of the z range.
        missing_rows_share: Share of rows not or hardly scanned that makes a scan partial.
        rough_range: Range of heights that makes a sample rough, m.
        rough_percentile: Percentage of the pixels left out at either end of that range.

    Raises:
        ValueError: The heights are not (H, W) or too small.
    """
    z, z_range = (scan.z, scan.z_range) if isinstance(scan, Scan) else (scan, None)
    check_shape(z)
    scanned = np.isfinite(z)
    heights = z[scanned]
    if heights.size:
        low, high = _at_ends(heights, z_range, end_margin)
        too_many = saturated_share if z_range is None else at_end_share
        if high > too_many:
            return Diagnosis.CRASH
        if low > too_many:
            return Diagnosis.LOST_CONTACT
    missing = scanned.mean(axis=1) < 0.5
    if missing.mean() > missing_rows_share:
        return Diagnosis.PARTIAL
    # Most images are so flat that nobody needs to know their terraces.
    if _range_from_tilt(z) < rough_range:
        return Diagnosis.FINE
    rough = _range_from_terraces(z, rough_percentile) >= rough_range
    return Diagnosis.ROUGH if rough else Diagnosis.FINE


def _at_ends(
    heights: FloatImage, z_range: tuple[float, float] | None, margin: float
) -> tuple[float, float]:
    """Shares of the pixels at the lower and upper end of the z piezo."""
    if z_range is None:
        return float(np.mean(heights == heights.min())), float(np.mean(heights == heights.max()))
    low, high = z_range
    margin *= high - low
    return float(np.mean(heights <= low + margin)), float(np.mean(heights >= high - margin))


def _range_from_tilt(z: FloatImage) -> float:
    """Range of every second pixel of every second line, m, the most frequent slope removed."""
    few = np.asarray(z[::2, ::2], dtype=np.float64)
    per_row, per_col = core(np.diff(few, axis=0))[0], core(np.diff(few, axis=1))[0]
    few = few - Plane(0.0, per_row, per_col).heights(few.shape)
    return float(np.fmax.reduce(few, axis=None) - np.fmin.reduce(few, axis=None))


def _range_from_terraces(z: FloatImage, percentile: float) -> float:
    """Range of heights counted from the nearest terrace, m, without the outermost pixels."""
    terraces = find_terraces(z)
    heights = (z - terraces.plane.heights(z.shape))[np.isfinite(z)]
    between = (terraces.heights[1:] + terraces.heights[:-1]) / 2
    heights = heights - terraces.heights[np.searchsorted(between, heights)]
    low, high = np.percentile(heights, (percentile, 100 - percentile))
    return float(high - low)
