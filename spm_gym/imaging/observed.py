"""Reading of scans that have more pixels, or a larger area, than the networks take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spm_gym.config import EnvConfig
from spm_gym.imaging.averaging import box_averaged, middle
from spm_gym.imaging.clean_square import Square
from spm_gym.imaging.diagnosis import Diagnosis
from spm_gym.imaging.image_size import ground_pixels
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.imaging.previews import interpolate_lines
from spm_gym.imaging.reading import Readings, readings_of
from spm_gym.types import Scan


def read_observed(scans: Sequence[Scan], env: EnvConfig) -> Readings:
    """Read scans, with observations of the size that the settings ask for.

    Args:
        scans: All with the pixels of the settings; some may be previews.
        env: Settings of the environment.

    Returns:
        Diagnoses of the whole scans, or of the part that is observed if only that has a fault;
        observations (N, 1, side, side); clean squares of the whole scans, in their pixels.

    Raises:
        ValueError: The pixels differ, or are not those of the settings where the observation is
            not the whole image as it is.
    """
    preprocessing = Preprocessing.of(env)
    part, side = env.observed
    if part == side == env.pixels:
        return readings_of(scans, *preprocessing)
    # Squares of other images would lie elsewhere, and an action be done there.
    if any(scan.frame.pixels != env.pixels for scan in scans):
        given = sorted({scan.frame.pixels for scan in scans})
        raise ValueError(f"scans of env.pixels = {env.pixels} are needed, not of {given}")
    whole = readings_of(scans, *preprocessing)
    # In the networks' pixels: an unstable tip spoils so many of finer ones that hardly a square
    # would survive, however clean the ground is.
    ground = readings_of([_averaged(scan, ground_pixels(env)) for scan in scans], *preprocessing)
    observed = ground
    if part < env.pixels:
        # Levelled by itself, as an image of that part alone would be.
        observed = readings_of([_middle(scan, part, side) for scan in scans], *preprocessing)
    diagnoses = zip(whole.diagnoses, observed.diagnoses, strict=True)
    factor = env.pixels / ground_pixels(env)
    return Readings(
        tuple(of_all if of_all is not Diagnosis.FINE else of_part for of_all, of_part in diagnoses),
        observed.observations,
        tuple(_enlarged(square, factor) for square in ground.squares),
    )


def _averaged(scan: Scan, pixels: int) -> Scan:
    """Average a scan over larger pixels; a preview keeps its lines."""
    lines = min(scan.frame.lines, pixels)
    z = box_averaged(scan.z.astype(np.float64), pixels, lines).astype(np.float32)
    return replace(scan, frame=replace(scan.frame, pixels=pixels, lines=lines), z=z)


def _middle(scan: Scan, part: int, side: int) -> Scan:
    """Cut out the middle of a scan and average it; a preview as it is interpolated."""
    frame = scan.frame
    z = middle(interpolate_lines(scan.z, frame.pixels), part).astype(np.float64)
    smaller = replace(frame, size=frame.pixel * part, pixels=side, lines=side)
    return replace(scan, frame=smaller, z=box_averaged(z, side).astype(np.float32))


def _enlarged(square: Square, factor: float) -> Square:
    """Express a square in smaller pixels: the largest one of whole pixels inside it."""
    row, bottom = _inside(square.row, square.side, factor)
    col, right = _inside(square.col, square.side, factor)
    return Square(row, col, min(bottom - row, right - col)) if square.side else square


def _inside(start: int, side: int, factor: float) -> tuple[int, int]:
    # With tolerance, for factors are rounded.
    return math.ceil(start * factor - 1e-6), math.floor((start + side) * factor + 1e-6)
