"""Whether a scan can be classified, and if not, what went wrong."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_gym.imaging.plane import check_shape
from spm_gym.imaging.robust import extent, heights_in, quantile, straightened
from spm_gym.imaging.terraces import FEWEST_PIXELS, first_tilt, fit_terraces
from spm_gym.jit import compiled
from spm_gym.types import FloatImage, Scan

FloatArray = NDArray[np.float64]


class Diagnosis(StrEnum):
    """What a scan shows."""

    FINE = "fine"
    PARTIAL = "partial scan"
    LOST_CONTACT = "lost contact"
    CRASH = "crash"
    ROUGH = "rough sample"


DIAGNOSES = tuple(Diagnosis)
_FINE, _PARTIAL, _LOST_CONTACT, _CRASH, _ROUGH = range(len(DIAGNOSES))

UNKNOWN = float("nan")
"""An end of the z range that nobody knows."""


class Limits(NamedTuple):
    """What is too much, as in `diagnose`."""

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
    heights = heights_in(z)
    low, high = z_range or (UNKNOWN, UNKNOWN)
    limits = Limits(
        float(at_end_share),
        float(saturated_share),
        float(end_margin),
        float(missing_rows_share),
        float(rough_range),
        float(rough_percentile),
    )
    spoilt = what_spoils(heights, float(low), float(high), limits)
    if spoilt:
        return DIAGNOSES[spoilt]
    tilt = first_tilt(heights)
    # Most images are so flat that nobody needs to know their terraces.
    if not is_uneven(heights, tilt[0], tilt[1], limits):
        return Diagnosis.FINE
    return DIAGNOSES[how_rough(heights, *fit_terraces(heights, *tilt), limits)]


@compiled
def what_spoils(z: FloatArray, low: float, high: float, limits: Limits) -> int:
    """Number of the diagnosis of what can be seen without levelling; 0 if nothing."""
    share = limits.at_end_share
    margin = limits.end_margin * (high - low)
    if np.isnan(margin):
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
    if at_high > share * scanned:
        return _CRASH
    if at_low > share * scanned:
        return _LOST_CONTACT
    too_few = missing_rows > limits.missing_rows_share * z.shape[0]
    return _PARTIAL if too_few or scanned < FEWEST_PIXELS else _FINE


@compiled
def is_uneven(z: FloatArray, per_row: float, per_col: float, limits: Limits) -> bool:
    """Whether every second row, the most frequent slope removed, has the range of a rough one."""
    _, low, high = straightened(z, per_row, per_col)
    return high - low >= limits.rough_range


@compiled
def how_rough(
    z: FloatArray,
    offset: float,
    per_row: float,
    per_col: float,
    levels: FloatArray,
    limits: Limits,
) -> int:
    """Number of the diagnosis by the heights above the nearest terrace, outermost pixels aside."""
    heights, n = np.empty(z.size), 0
    for row in range(z.shape[0]):
        for col in range(z.shape[1]):
            height = z[row, col] - (offset + per_row * row + per_col * col)
            nearest = 0
            while nearest + 1 < levels.size and 2 * height > levels[nearest] + levels[nearest + 1]:
                nearest += 1
            heights[n] = height - levels[nearest]
            n += 1
    share = limits.rough_percentile / 100
    low = quantile(heights, share, 0.5)
    high = quantile(heights, 1 - share, 0.5)
    return _ROUGH if high - low >= limits.rough_range else _FINE
