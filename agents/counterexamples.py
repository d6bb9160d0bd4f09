"""Images without molecules, which carry no information on the probe and must not be called good.

Labelled images all show molecules, so a network trained on them alone is free to call a bare
terrace or a step edge good, and does; one such image would end the conditioning of a bad probe.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.imaging import level, normalise

PM = 1e-12
_Array = NDArray[np.float64]


def counterexamples(count: int, pixels: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw terraces, steps, debris and lattices with noise and tilt, levelled and normalised.

    Args:
        count: How many.
        pixels: Side of the images.
        rng: Source of everything random.

    Returns:
        Images (count, pixels, pixels).
    """
    images = [normalise(level(_topography(pixels, rng))) for _ in range(count)]
    return np.array(images, dtype=np.float32).reshape(count, pixels, pixels)


def _topography(pixels: int, rng: np.random.Generator) -> _Array:
    """Draw a topography, m: noise and tilt always, all other features with a probability each."""
    # Features are drawn in fractions of the image, so that they look alike at any pixel size.
    place = (np.mgrid[:pixels, :pixels] - (pixels - 1) / 2) / pixels
    row, col = place
    z: _Array = rng.normal(0, 300 * PM) * row + rng.normal(0, 300 * PM) * col
    for feature, probability in ((_steps, 0.5), (_debris, 0.4), (_lattice, 0.15)):
        if rng.random() < probability:
            z += feature(place, rng)
    # Noise from line to line, then jumps of the tip, which stay for all lines that follow.
    z += rng.normal(0, rng.uniform(0, 3) * PM, (pixels, 1))
    if rng.random() < 0.15:
        z += np.cumsum(rng.normal(0, 60 * PM, (pixels, 1)) * (rng.random((pixels, 1)) < 0.1), 0)
    noise: _Array = rng.normal(0, rng.uniform(0.5, 6) * PM, (pixels, pixels))
    return z + noise


def _steps(place: _Array, rng: np.random.Generator) -> _Array:
    """Draw up to four wavy step edges, sharp or blurred, up- or downward."""
    angle, phase = rng.uniform(0, 2 * np.pi, 2)
    across = np.cos(angle) * place[1] + np.sin(angle) * place[0]
    along = np.cos(angle) * place[0] - np.sin(angle) * place[1]
    bend = rng.normal(0, 0.2) * along**2 + rng.uniform(0, 0.05) * np.sin(
        2 * np.pi * rng.uniform(0.5, 4) * along + phase
    )
    # Lower and higher than the 205 pm of a step of Ag(100), for other substrates.
    height = rng.choice([-1, 1]) * rng.uniform(80, 400) * PM
    width = rng.uniform(0.002, 0.03)
    edges = rng.uniform(-0.5, 0.5, rng.integers(1, 5))
    steps = [np.tanh((across + bend - edge) / width) for edge in edges]
    z: _Array = height / 2 * np.sum(steps, axis=0)
    return z


def _debris(place: _Array, rng: np.random.Generator) -> _Array:
    """Draw round lumps and pits without structure, from a pixel to a third of the image wide."""
    z = np.zeros(place.shape[1:])
    for _ in range(rng.integers(1, 8)):
        y, x = place - rng.uniform(-0.5, 0.5, (2, 1, 1))
        stretch = rng.uniform(0.7, 1.4)
        radius = 10 ** rng.uniform(-1.9, -0.8)
        squared = (x**2 * stretch + y**2 / stretch) / radius**2
        height = rng.choice([1, 1, 1, -1]) * 10 ** rng.uniform(1.3, 3) * PM
        z += height * np.exp(-(squared ** rng.choice([1, 2, 4])))
    return z


def _lattice(place: _Array, rng: np.random.Generator) -> _Array:
    """Draw a hexagonal or square corrugation."""
    symmetry = rng.choice([2, 3])
    turns = rng.uniform(0, np.pi) + np.pi * np.arange(symmetry) / symmetry
    per_image = rng.uniform(3, 20)
    waves = [
        np.cos(2 * np.pi * per_image * (np.cos(t) * place[1] + np.sin(t) * place[0])) for t in turns
    ]
    z: _Array = rng.uniform(3, 60) * PM * np.sum(waves, axis=0)
    return z
