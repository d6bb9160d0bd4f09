"""Figures of reading scans: planes, normalised images and clean squares against RANSAC."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from imaging import SURFACES, Surface, by_loops, image
from measure import Figure, compare, of_values
from numpy.typing import NDArray

from spm_gym.imaging import Square, clean_pixels, fit_plane, level, normalise, read_scans
from spm_gym.imaging.plane import Method

BATCH = 64
IMAGES, TIMED = 12, 8
"""Images whose planes are compared, and those that RANSAC is timed with.

The same in quick and full runs, whose ratios are compared.
"""

MOLECULES, FLAT, STEP = SURFACES
FloatArray = NDArray[np.float64]


def figures(quick: bool) -> Iterator[Figure]:
    """Yield the speed, and how far the planes are from the true ones."""
    yield speed(pairs=3 if quick else 9)
    for white in (2.0, 5.0, 10.0):
        yield accuracy(MOLECULES, white)
    yield accuracy(FLAT, 2.0)
    yield accuracy(STEP, 10.0)


def speed(pairs: int) -> Figure:
    """Time all that is done with every scan: a batch of ours against some by scikit-learn."""
    scans = [image(SURFACES[MOLECULES], 5.0, seed)[0] for seed in range(BATCH)]
    z = np.stack(scans).astype(np.float32)
    z_ranges = np.tile([-150e-9, 150e-9], (BATCH, 1))
    ours, theirs = errors(SURFACES[MOLECULES], 5.0)[..., 0]
    return compare(
        "plane + normalise + clean square, 64x64, 5 pm noise, 30 % coverage",
        lambda: read_scans(z, z_ranges),
        lambda: [one_at_a_time(scan) for scan in z[:TIMED]],
        at_least=60,
        pairs=pairs,
        unit="us",
        ours_per=BATCH,
        reference_per=TIMED,
        note=f"one thread; ours with diagnosis, {BATCH} at a time; reference: scikit-learn's RANSAC"
        " with the paper's settings and a plain loop over the pixels, one at a time; mean error of"
        f" the planes {ours.mean():.2f} pm, reference {theirs.mean():.2f} pm",
    )


def one_at_a_time(scan: NDArray[np.float32]) -> tuple[NDArray[np.float32], Square]:
    """Observation and clean square."""
    levelled = level(scan, "ransac")
    return normalise(levelled), by_loops(clean_pixels(levelled))


def accuracy(surface: str, white: float) -> Figure:
    """How far the planes are from the true ones, the reference being RANSAC."""
    # RANSAC takes either terrace; only the tilt of its plane can be compared.
    what, which = ("tilt", 1) if surface == STEP else ("plane", 0)
    ours, theirs = errors(SURFACES[surface], white)[..., which]
    return of_values(
        f"{what} error, {surface}, {white:g} pm noise",
        ours.tolist(),
        theirs.tolist(),
        at_least=1,
        unit="pm rms",
        note=f"worst {ours.max():.1f}, of RANSAC {theirs.max():.1f}",
    )


def errors(surface: Surface, white: float) -> FloatArray:
    """Rms errors of the planes and of their tilts, pm: ours and those of RANSAC."""
    methods: tuple[Method, ...] = ("levels", "ransac")
    found = np.empty((len(methods), IMAGES, 2))
    for seed in range(IMAGES):
        z, plane = image(surface, white, seed)
        for row, method in enumerate(methods):
            wrong = (fit_plane(z, method).heights(z.shape) - plane) * 1e12
            found[row, seed] = np.sqrt(np.mean(wrong**2)), wrong.std()
    return found
