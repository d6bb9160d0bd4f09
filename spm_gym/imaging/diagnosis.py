"""Diagnosis of scans: fit for the classifier, or what went wrong."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_gym.imaging.plane import check_shape
from spm_gym.imaging.robust import extent, heights_in, quantile, straightened
from spm_gym.imaging.terraces import FEWEST_PIXELS, first_tilt, fit_terraces
from spm_gym.jit import compiled
from spm_gym.types import UNKNOWN_RANGE, FloatImage, Scan

FloatArray = NDArray[np.float64]


class Diagnosis(StrEnum):
    """State of tip and sample that a scan shows."""

    FINE = "fine"
    PARTIAL = "partial scan"
    LOST_CONTACT = "lost contact"
    CRASH = "crash"
    ROUGH = "rough sample"


DIAGNOSES = tuple(Diagnosis)
_FINE, _PARTIAL, _LOST_CONTACT, _CRASH, _ROUGH = range(len(DIAGNOSES))


class Limits(NamedTuple):
    """Limits of a fine scan, as in `diagnose`."""

    at_end_share: float = 0.05
    saturated_share: float = 0.1
    end_margin: float = 0.01
    missing_rows_share: float = 0.1
    rough_range: float = 600e-12
    rough_percentile: float = 1.0


USUAL = Limits()


def diagnose(
    scan: Scan | FloatImage,
    *,
    at_end_share: float = USUAL.at_end_share,
    saturated_share: float = USUAL.saturated_share,
    end_margin: float = USUAL.end_margin,
    missing_rows_share: float = USUAL.missing_rows_share,
    rough_range: float = USUAL.rough_range,
    rough_percentile: float = USUAL.rough_percentile,
) -> Diagnosis:
    """Diagnose a scan (paper, *Operation* and *Preprocessing*).

    Where the z range is unknown, a piezo at its end is recognised by the many pixels that have
    exactly the lowest (lost contact) or highest (crash) height of the image. A surface is rough by
    the range of its heights, each counted from the nearest flat terrace: neither a tilt nor a
    staircase of clean terraces is rough, but tall debris on them is.

    Args:
        scan: A scan, or only its heights (H, W), m.
        at_end_share: Share of the scanned pixels at an end of the z range that is too much.
        saturated_share: Such a share where the z range is unknown.
        end_margin: Extent of each end, as a fraction of the z range.
        missing_rows_share: Share of rows not or hardly scanned that makes a scan partial.
        rough_range: Range of heights that makes a sample rough, m.
        rough_percentile: Percentage of the pixels left out at either end of that range.

    Raises:
        ValueError: The heights are not (H, W) or too small.
    """
    z, ends = (scan.z, scan.z_range_or_nan) if isinstance(scan, Scan) else (scan, UNKNOWN_RANGE)
    check_shape(z)
    heights = heights_in(z)
    limits = Limits(*map(float, (at_end_share, saturated_share, end_margin, missing_rows_share,
                                 rough_range, rough_percentile)))  # fmt: skip
    found = diagnose_raw(heights, float(ends[0]), float(ends[1]), limits)
    if found:
        return DIAGNOSES[found]
    tilt = first_tilt(heights)
    # Most images are so flat that the costly fit of terraces is not needed.
    if not is_uneven(heights, tilt[0], tilt[1], limits):
        return Diagnosis.FINE
    return DIAGNOSES[diagnose_roughness(heights, *fit_terraces(heights, *tilt), limits)]


@compiled
def diagnose_raw(z: FloatArray, low: float, high: float, limits: Limits) -> int:
    """Return the index of the diagnosis that needs no levelling; 0 if the scan is fine so far."""
    share = limits.at_end_share
    margin = limits.end_margin * (high - low)
    if np.isnan(margin):
        # The image itself shows the ends: a saturated piezo writes one height over and over.
        share, margin = limits.saturated_share, 0.0
        low, high = extent(z.ravel())
    low, high = low + margin, high - margin
    scanned, at_low, at_high, missing_rows = 0, 0, 0, 0
    for row in range(z.shape[0]):
        here, in_row = z[row], 0
        for col in range(here.size):
            in_row += here[col] == here[col]
            at_low += here[col] <= low
            at_high += here[col] >= high
        scanned += in_row
        missing_rows += in_row < 0.5 * here.size
    # Before "partial" and "rough": a crash or lost contact may end a scan early and leave it rough.
    # An image of one single height counts as a crash, since withdrawing from it does no harm.
    if at_high > share * scanned:
        return _CRASH
    if at_low > share * scanned:
        return _LOST_CONTACT
    too_few = missing_rows > limits.missing_rows_share * z.shape[0]
    return _PARTIAL if too_few or scanned < FEWEST_PIXELS else _FINE


@compiled
def is_uneven(z: FloatArray, per_row: float, per_col: float, limits: Limits) -> bool:
    """Check whether every second row, its slope removed, has the range of a rough surface."""
    _, low, high = straightened(z, per_row, per_col)
    return high - low >= limits.rough_range


@compiled
def diagnose_roughness(
    z: FloatArray,
    offset: float,
    per_row: float,
    per_col: float,
    levels: FloatArray,
    limits: Limits,
) -> int:
    """Return the index of the diagnosis by the heights above the nearest terrace."""
    heights, n = np.empty(z.size), 0
    for row in range(z.shape[0]):
        for col in range(z.shape[1]):
            height = z[row, col] - (offset + per_row * row + per_col * col)
            nearest = 0
            while nearest + 1 < levels.size and 2 * height > levels[nearest] + levels[nearest + 1]:
                nearest += 1
            heights[n] = height - levels[nearest]
            n += 1
    # Without the outermost pixels: a few spikes do not make a surface rough.
    share = limits.rough_percentile / 100
    low = quantile(heights, share, 0.5)
    high = quantile(heights, 1 - share, 0.5)
    return _ROUGH if high - low >= limits.rough_range else _FINE
