"""The plane of the substrate, and the flat terraces parallel to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_gym.imaging.robust import heights_in
from spm_gym.imaging.terraces import FEWEST_PIXELS, first_tilt, fit_terraces
from spm_gym.jit import compiled
from spm_gym.scale import PM
from spm_gym.types import FloatImage

FloatArray = NDArray[np.float64]
Method = Literal["levels", "ransac"]

SMALLEST_SIDE = 8


class Plane(NamedTuple):
    """A plane through an image: height at pixel (0, 0), m, and slopes, m per pixel."""

    offset: float
    per_row: float
    per_col: float

    def heights(self, shape: tuple[int, ...]) -> FloatArray:
        """Heights (H, W) of the plane, m."""
        rows, cols = np.arange(shape[0])[:, None], np.arange(shape[1])
        heights: FloatArray = self.offset + self.per_row * rows + self.per_col * cols
        return heights


@dataclass(frozen=True, slots=True)
class Terraces:
    """The flat parts of a surface.

    Attributes:
        plane: Plane of the substrate.
        heights: Heights of all flat levels above the substrate, ascending, m; 0 is among them.
        noise: Noise of the image, m rms.
    """

    plane: Plane
    heights: FloatArray
    noise: float


def level(
    z: FloatImage, method: Method = "levels", rng: np.random.Generator | None = None
) -> FloatImage:
    """Subtract the plane of the substrate.

    Args:
        z: Topography (H, W), m, at least 8 pixels a side; NaN where nothing was scanned.
        method: As in `fit_plane`.
        rng: As in `fit_plane`.

    Returns:
        Heights above the substrate, m, in the floating type of ``z``; NaN where it is not finite.

    Raises:
        ValueError: The shape is wrong or hardly anything was scanned.
    """
    levelled = np.empty(z.shape)
    subtract(_checked(z), *fit_plane(z, method, rng), levelled)
    return levelled.astype(z.dtype if z.dtype.kind == "f" else np.float64, copy=False)


@compiled
def subtract(
    z: FloatArray, offset: float, per_row: float, per_col: float, above: FloatArray
) -> None:
    """Fill in the heights above a plane."""
    for row in range(z.shape[0]):
        here, there, base = z[row], above[row], offset + per_row * row
        for col in range(z.shape[1]):
            there[col] = here[col] - (base + per_col * col)


def fit_plane(
    z: FloatImage, method: Method = "levels", rng: np.random.Generator | None = None
) -> Plane:
    """Fit the plane of the substrate.

    Args:
        z: As for `level`.
        method: ``levels`` as in `find_terraces`, or ``ransac`` with the settings of the paper
            (*Preprocessing*): scikit-learn, threshold 5 pm, at most 1000 trials.
        rng: Source of the RANSAC samples; left out, they are the same every time.

    Raises:
        ValueError: The shape is wrong, hardly anything was scanned, or no such method.
    """
    if method == "levels":
        return find_terraces(z).plane
    if method == "ransac":
        return _ransac(_checked(z) / PM, rng or np.random.default_rng(0))
    raise ValueError(f"method must be 'levels' or 'ransac', not {method!r}")


def find_terraces(z: FloatImage) -> Terraces:
    """Find the substrate and all flat levels parallel to it.

    The most frequent difference of neighbouring pixels gives the tilt. Without the tilt, terraces
    and flat-topped molecules are peaks in the distribution of heights; the substrate is the lowest
    large one. Least squares for the common slope, with one offset per level, then refine it.

    Raises:
        ValueError: The shape is wrong or hardly anything was scanned.
    """
    # RANSAC locks on the molecules where they cover half of the image, and a step tilts its plane.
    # Flat ground has the same slope at every height, so here neither can happen.
    heights = _checked(z)
    per_row, per_col, noise = first_tilt(heights)
    offset, per_row, per_col, levels = fit_terraces(heights, per_row, per_col, noise)
    return Terraces(Plane(offset, per_row, per_col), levels, noise)


def check_shape(z: FloatImage) -> None:
    """Refuse arrays that are not images.

    Raises:
        ValueError: ``z`` is not (H, W) or too small.
    """
    if z.ndim != 2 or min(z.shape) < SMALLEST_SIDE:
        raise ValueError(
            f"an image is (H, W) with at least {SMALLEST_SIDE} pixels a side, not {z.shape}"
        )


def _checked(z: FloatImage) -> FloatArray:
    """Check an image and return its heights, with infinities as NaN."""
    check_shape(z)
    heights = heights_in(z)
    scanned = np.count_nonzero(np.isfinite(heights))
    if scanned < FEWEST_PIXELS:
        raise ValueError(f"a plane needs {FEWEST_PIXELS} scanned pixels, the image has {scanned}")
    return heights


def _ransac(heights: FloatArray, rng: np.random.Generator) -> Plane:
    # Imported here: it takes a second, and the default method does without.
    from sklearn.linear_model import LinearRegression, RANSACRegressor

    # The settings of the paper, but three points a sample: a plane needs no more.
    places = np.argwhere(np.isfinite(heights))
    found = heights[np.isfinite(heights)]
    regressor = RANSACRegressor(
        LinearRegression(),
        min_samples=3,
        residual_threshold=5.0,
        max_trials=1000,
        random_state=int(rng.integers(2**31)),
    ).fit(places, found)
    per_row, per_col = regressor.estimator_.coef_ * PM
    return Plane(float(regressor.estimator_.intercept_) * PM, float(per_row), float(per_col))
