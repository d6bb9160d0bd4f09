"""Diagnosis, normalised image and clean square of many scans at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spm_gym.imaging.clean_square import Square, find_square, mark_clean, tolerance_for
from spm_gym.imaging.diagnosis import (
    DIAGNOSES,
    USUAL,
    Diagnosis,
    Limits,
    diagnose_raw,
    diagnose_roughness,
    is_uneven,
)
from spm_gym.imaging.normalisation import (
    HALF_MOLECULE,
    HeightScale,
    normalise_into,
    to_metres,
    unit_of,
)
from spm_gym.imaging.plane import Method, check_shape, fit_plane, subtract
from spm_gym.imaging.previews import interpolate_lines
from spm_gym.imaging.robust import FEW_LINES, noise_between_rows
from spm_gym.imaging.terraces import FEWEST_PIXELS, first_tilt, fit_terraces
from spm_gym.jit import compiled
from spm_gym.types import Scan

FloatArray = NDArray[np.float64]
SingleArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Readings:
    """Results of reading scans of one size.

    Attributes:
        diagnoses: As by `diagnose`, one a scan.
        observations: Levelled and normalised images, (N, 1, H, W); -1 all over where hardly
            anything was scanned.
        squares: Largest clean squares; of side 0 where nothing is clean.
    """

    diagnoses: tuple[Diagnosis, ...]
    observations: SingleArray
    squares: tuple[Square, ...]


def readings_of(
    scans: Sequence[Scan], method: Method = "levels", scale: HeightScale = HALF_MOLECULE
) -> Readings:
    """Read scans as `read_scans` does, images and previews with the same number of pixels.

    Raises:
        ValueError: Their pixels differ, or no such method.
    """
    # Heights beyond single precision become infinite, which counts as not scanned.
    with np.errstate(over="ignore"):
        single = [scan.z.astype(np.float32, casting="same_kind", copy=False) for scan in scans]
    # Before anything is read, so that the same code reads both, and a square of pixels is a square.
    heights = np.stack(
        [interpolate_lines(z, scan.frame.pixels) for z, scan in zip(single, scans, strict=True)]
    )
    ranges = np.array([scan.z_range_or_nan for scan in scans])
    steps = [scan.frame.line_step for scan in scans]
    return read_scans(heights, ranges, method, steps, scale)


def read_scans(
    z: SingleArray,
    z_ranges: FloatArray,
    method: Method = "levels",
    line_steps: Sequence[int] | None = None,
    scale: HeightScale = HALF_MOLECULE,
) -> Readings:
    """Diagnose, level and normalise scans and find their clean squares.

    Each comes out, bit for bit, as by `diagnose`, `level`, `normalise` and `largest_clean_square`.

    Args:
        z: Topographies (N, H, W), m; NaN where nothing was scanned.
        z_ranges: Lowest and highest heights (N, 2) that the z piezo reaches, m; NaN if unknown.
        method: As in `fit_plane`.
        line_steps: Distances of the rows that were recorded (N,); rows between them were
            interpolated. None: every row was.
        scale: As in `normalise`.

    Raises:
        ValueError: The shapes are wrong, or no such method.
    """
    if z.ndim != 3 or z_ranges.shape != (len(z), 2):
        raise ValueError(f"scans are (N, H, W) with ranges (N, 2), not {z.shape}, {z_ranges.shape}")
    for image in z[:1]:  # all have one shape; an empty batch has none
        check_shape(image)
    # Writeable: for read-only arrays Numba would compile the function a second time.
    z = np.require(z, np.float32, ["C", "W"])
    kinds, planes = np.empty(len(z), dtype=np.int64), np.full((len(z), 3), np.nan)
    by_levels = method == "levels"
    if not by_levels:
        for index in np.flatnonzero(np.isfinite(z).sum(axis=(1, 2)) >= FEWEST_PIXELS):
            planes[index] = fit_plane(z[index], method)
    observations = np.full((len(z), 1, *z.shape[1:]), -1, dtype=np.float32)
    squares = np.zeros((len(z), 3), dtype=np.int64)
    ends = z_ranges.astype(np.float64)
    steps = np.ones(len(z), np.int64) if line_steps is None else np.array(line_steps, np.int64)
    _read(z, ends, steps, USUAL, by_levels, unit_of(scale), planes, kinds, observations, squares)
    return Readings(
        tuple(DIAGNOSES[kind] for kind in kinds.tolist()),
        observations,
        tuple(Square(*square) for square in squares.tolist()),
    )


@compiled
def _read(
    z: SingleArray,
    z_ranges: FloatArray,
    line_steps: NDArray[np.int64],
    limits: Limits,
    by_levels: bool,
    unit: float,
    planes: FloatArray,
    kinds: NDArray[np.int64],
    observations: SingleArray,
    squares: NDArray[np.int64],
) -> None:
    """Fill in the indices of the diagnoses, the observations and the squares.

    Args:
        z: Topographies (N, H, W), m.
        z_ranges: Ranges of the z piezo (N, 2), m.
        line_steps: Distances of the recorded rows (N,).
        limits: Of the diagnoses.
        by_levels: Whether the planes are found here, by levels; otherwise they are given.
        unit: Of the observations, as in `normalise_into`.
        planes: Offset and slopes (N, 3).
        kinds: Indices into `DIAGNOSES` (N,).
        observations: Normalised images (N, 1, H, W).
        squares: Row, column and side (N, 3).
    """
    heights, above = np.empty(z.shape[1:]), np.empty(z.shape[1:])
    flat = above.ravel()
    clean = np.empty(z.shape[1:], dtype=np.bool_)
    for index in range(z.shape[0]):
        scanned = _copy_heights(z[index], heights)
        kinds[index] = diagnose_raw(heights, z_ranges[index, 0], z_ranges[index, 1], limits)
        if scanned < FEWEST_PIXELS:
            continue
        per_row, per_col, noise = first_tilt(heights)
        uneven = kinds[index] == 0 and is_uneven(heights, per_row, per_col, limits)
        if by_levels or uneven:
            offset, per_row, per_col, levels = fit_terraces(heights, per_row, per_col, noise)
            if uneven:
                kinds[index] = diagnose_roughness(heights, offset, per_row, per_col, levels, limits)
            if by_levels:
                planes[index, 0], planes[index, 1], planes[index, 2] = offset, per_row, per_col
        subtract(heights, planes[index, 0], planes[index, 1], planes[index, 2], above)
        # `level` returns the precision of the scan; both must give the same bits.
        for pixel in range(flat.size):
            flat[pixel] = np.float32(flat[pixel])
        normalise_into(flat, observations[index].ravel(), unit)
        to_metres(flat)
        # Rows that were interpolated have no noise of their own: with the tolerance of an image
        # without noise hardly a recorded pixel would count as clean.
        step = line_steps[index]
        recorded = np.ascontiguousarray(above[step // 2 :: step])
        _, noise = noise_between_rows(recorded, min(FEW_LINES, z.shape[2]))
        mark_clean(above, tolerance_for(noise), clean)
        squares[index, 0], squares[index, 1], squares[index, 2] = find_square(clean)


@compiled
def _copy_heights(image: SingleArray, heights: FloatArray) -> int:
    """Copy heights, with infinities as NaN, and count the scanned pixels."""
    scanned = 0
    for row in range(image.shape[0]):
        here, there = image[row], heights[row]
        for col in range(here.size):
            finite = abs(here[col]) < np.inf
            there[col] = here[col] if finite else np.nan
            scanned += finite
    return scanned
