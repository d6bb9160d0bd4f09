"""Accuracy and speed of the imaging code against scikit-learn's RANSAC and plain loops.

Run ``python -m benchmarks.imaging`` in the root of the repository, with one thread
(``OMP_NUM_THREADS=1``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from spm_gym.imaging import diagnose, fit_plane, largest_clean_square, level, noise, normalise
from spm_gym.imaging.plane import Method
from tests.imaging.test_clean_square import by_loops
from tests.support import molecule_images as make

SHAPE = (64, 64)
LINE_NOISE = 1.2
METHODS: tuple[Method, ...] = ("levels", "ransac")
FloatArray = NDArray[np.float64]
Surface = Callable[[np.random.Generator], FloatArray]

SURFACES: dict[str, Surface] = {
    "molecules, 30 %": lambda rng: make.molecules(SHAPE, rng, 0.3),
    "flat-topped, 55 %": lambda rng: make.flat_molecules(SHAPE, rng, 0.55),
    "step and molecules, 10 %": lambda rng: (
        make.step(SHAPE, rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.7))
        + make.molecules(SHAPE, rng, 0.1)
    ),
}


def image(surface: Surface, white: float, seed: int) -> tuple[FloatArray, FloatArray]:
    """A topography and the plane in it, m."""
    rng = np.random.default_rng(seed)
    plane = make.plane(SHAPE, *rng.normal(0, 3, 2))
    return plane + surface(rng) + make.noise(SHAPE, rng, white, LINE_NOISE), plane


def errors_and_times(
    surface: Surface, white: float, method: Method, images: int
) -> tuple[FloatArray, FloatArray]:
    """Rms error of the plane and of its tilt alone, pm, (images, 2), and times, ms."""
    errors, times = [], []
    for seed in range(images):
        z, plane = image(surface, white, seed)
        start = perf_counter()
        found = fit_plane(z, method)
        times.append((perf_counter() - start) * 1e3)
        wrong = (found.heights(SHAPE) - plane) * 1e12
        errors.append((np.sqrt(np.mean(wrong**2)), wrong.std()))
    return np.array(errors), np.array(times)


def compare_planes(images: int) -> None:
    """Print errors and times of both methods on the same images."""
    print(f"{images} images a row. plane, tilt: mean rms error, pm (worst); time: median, ms")
    columns = f"{'plane':>16} {'tilt':>6} {'time':>6}"
    print(f"{'':32} {'levels':^30} {'RANSAC':^30} {'RANSAC / levels':>20}")
    print(f"{'surface':26} {'noise':>5} {columns} {columns} {'plane':>6} {'tilt':>6} {'time':>6}")
    for name, surface in SURFACES.items():
        for white in (2.0, 5.0, 10.0):
            rows = []
            print(f"{name:26} {white:5.0f}", end="")
            for method in METHODS:
                errors, times = errors_and_times(surface, white, method, images)
                plane, tilt = errors.mean(axis=0)
                worst, time = f"({errors[:, 0].max():.1f})", float(np.median(times))
                print(f" {plane:8.2f} {worst:>7} {tilt:6.2f} {time:6.2f}", end="")
                rows.append(np.array([plane, tilt, time]))
            print(" {:6.1f} {:6.1f} {:6.0f}".format(*(rows[1] / rows[0])))


def fastest(call: Callable[[], object], repeats: int) -> float:
    """Shortest time of a call, us."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times) * 1e6


def time_the_rest() -> None:
    """Print the times of all functions on a typical image, and of plain loops."""
    z, _ = image(lambda rng: make.molecules(SHAPE, rng, 0.1), 2.0, 0)
    levelled = level(z)
    clean = np.abs(levelled) < 1e-11
    assert largest_clean_square(clean) == by_loops(clean)
    calls: dict[str, Callable[[], object]] = {
        "level": lambda: level(z),
        "normalise": lambda: normalise(levelled),
        "noise": lambda: noise(z),
        "diagnose": lambda: diagnose(z),
        "largest_clean_square": lambda: largest_clean_square(levelled),
        "largest_clean_square of a mask": lambda: largest_clean_square(clean),
        "the same by plain loops": lambda: by_loops(clean),
    }
    print("\nShortest times on 64x64 pixels with 10 % molecules, us")
    for name, call in calls.items():
        print(f"{name:31} {fastest(call, 300 if 'loops' not in name else 20):8.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Accuracy and speed of the imaging code.")
    parser.add_argument("--images", type=int, default=20, help="images in each row of the table")
    compare_planes(parser.parse_args().images)
    time_the_rest()
