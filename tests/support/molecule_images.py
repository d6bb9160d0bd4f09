"""Synthetic topographies whose plane is known, for tests and benchmarks of the imaging code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PM = 1e-12
FloatArray = NDArray[np.float64]


def plane(shape: tuple[int, int], per_row: float, per_col: float) -> FloatArray:
    """A plane, m, from its slopes in pm per pixel."""
    rows, cols = np.indices(shape)
    heights: FloatArray = (per_row * rows + per_col * cols) * PM
    return heights


def noise(
    shape: tuple[int, int], rng: np.random.Generator, white: float, line: float = 0.0
) -> FloatArray:
    """White noise and offsets of whole rows, m, from their rms in pm."""
    heights: FloatArray = rng.normal(0, white, shape) + rng.normal(0, line, (shape[0], 1))
    return heights * PM


def molecules(
    shape: tuple[int, int], rng: np.random.Generator, coverage: float, pixel: float = 0.156
) -> FloatArray:
    """Four-lobed molecules, 2 Å high and 1.4 nm across, m, until ``coverage`` is above 10 pm."""
    rows, cols = np.indices(shape)
    heights = np.zeros(shape)
    while np.mean(heights > 10) < coverage:
        row, col = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        y, x = (rows - row) * pixel, (cols - col) * pixel
        azimuth = rng.choice([-1, 1]) * np.pi / 6
        one = 90 * np.exp(-(x**2 + y**2) / (2 * 0.28**2))
        for lobe in azimuth + np.arange(4) * np.pi / 2:
            distance = (x - 0.42 * np.cos(lobe)) ** 2 + (y - 0.42 * np.sin(lobe)) ** 2
            one += 150 * np.exp(-distance / (2 * 0.18**2))
        heights = np.maximum(heights, one)
    return heights * PM


def flat_molecules(
    shape: tuple[int, int],
    rng: np.random.Generator,
    coverage: float,
    radius: float = 4.5,
    height: float = 200.0,
) -> FloatArray:
    """Flat-topped discs, m, until ``coverage`` of the image is covered; height in pm."""
    rows, cols = np.indices(shape)
    covered = np.zeros(shape, dtype=bool)
    while covered.mean() < coverage:
        row, col = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        covered |= (rows - row) ** 2 + (cols - col) ** 2 < radius**2
    return covered * height * PM


def step(
    shape: tuple[int, int], angle: float, position: float = 0.5, height: float = 204.0
) -> FloatArray:
    """An Ag(100) step edge, m, whose normal is turned by ``angle`` (rad) against the columns."""
    rows, cols = np.indices(shape)
    along = (cols / shape[1] - position) * np.cos(angle) + (rows / shape[0] - 0.5) * np.sin(angle)
    heights: FloatArray = height * PM / (1 + np.exp(-along * max(shape) / 0.6))
    return heights
