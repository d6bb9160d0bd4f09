"""The plane of the substrate, and the flat terraces parallel to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_gym.imaging.robust import core, noise_of_differences
from spm_gym.types import BoolArray, FloatImage

FloatArray = NDArray[np.float64]
Method = Literal["levels", "ransac"]

PM = 1e-12
SMALLEST_SIDE = 8
FEWEST_PIXELS = 16

SUBSTRATE_SHARE = 0.15
"""Share of the flat pixels that the substrate has at least."""

LEVEL_SHARE = 0.02
"""Share of the flat pixels that makes a level; all levels help to find the slope."""

VALLEY = 0.5
"""Density of pixels between two levels, in that of the lesser one, at most."""

STEEP = 3.0
"""Difference to a neighbour, in that of two noisy pixels, from which on neither is flat."""

FINEST_PM = 1.0
"""What is taken for that at least, pm."""

LEAST_NOISE_PM = 5 / 3
"""Noise that is assumed at least, pm: with it `WIDE` is the paper's threshold."""

WIDE, NARROW = 3.0, 1.5
"""Half-widths of a level in its noise: to catch all of it, then to leave out molecules' feet."""

GAIN = 1.8
"""Over-relaxation for `NARROW`: 1 / (1 - 2 k phi(k) / (2 Phi(k) - 1)) with k = 1.5."""

SETTLED = 0.1
"""Change of the plane across the image, in the noise, that ends the iteration."""

MAX_ITERATIONS = 10
MOST_LEVELS = 12
MOST_BINS = 2**14
MOST_POINTS = 2**15
FEW_POINTS = 2**10


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
        Heights above the substrate, m, in the floating type of ``z``; NaN where ``z`` is no number.

    Raises:
        ValueError: The shape is wrong or hardly anything was scanned.
    """
    levelled = z - fit_plane(z, method, rng).heights(z.shape)
    levelled[~np.isfinite(levelled)] = np.nan
    return levelled.astype(z.dtype if z.dtype.kind == "f" else np.float64, copy=False)


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
        return _ransac(_checked(z), rng or np.random.default_rng(0))
    raise ValueError(f"method must be 'levels' or 'ransac', not {method!r}")


def find_terraces(z: FloatImage) -> Terraces:
    """Find the substrate and all flat levels parallel to it.

    Flat ground has the same slope at every height, so the most frequent difference of neighbouring
    pixels gives the tilt. Without it, terraces and flat-topped molecules are peaks in the
    distribution of heights; the substrate is the lowest large one. Least squares for the common
    slope with one offset per level then make it exact, so a step does not tilt the plane.

    Raises:
        ValueError: The shape is wrong or hardly anything was scanned.
    """
    heights = _checked(z)
    return _terraces(heights, _start(heights))


class Start(NamedTuple):
    """First estimate of tilt and noise, pm, and the pixels whose neighbours fit the tilt."""

    slopes: tuple[float, float]
    noise: float
    flat: BoolArray


def _start(heights: FloatArray) -> Start:
    between_rows, between_cols = np.diff(heights, axis=0), np.diff(heights, axis=1)
    per_row, row_spread = core(between_rows)
    per_col, _ = core(between_cols)
    noise = noise_of_differences(between_rows, row_spread)
    steep = STEEP * max(float(np.sqrt(2)) * noise, FINEST_PM)
    level_rows = np.abs(between_rows - per_row) <= steep
    level_cols = np.abs(between_cols - per_col) <= steep
    # Both neighbours in the line, but only one line: telegraph noise moves parts of lines.
    flat = np.zeros(heights.shape, dtype=bool)
    flat[1:] = level_rows
    flat[:-1] |= level_rows
    flat[:, 1:] &= level_cols
    flat[:, :-1] &= level_cols
    return Start((per_row, per_col), noise, flat)


def _terraces(heights: FloatArray, start: Start) -> Terraces:
    flat = start.flat if np.count_nonzero(start.flat) >= FEWEST_PIXELS else np.isfinite(heights)
    points = _at_most(MOST_POINTS, np.stack((*np.nonzero(flat), heights[flat])))
    extent = np.array(heights.shape)
    noise = max(start.noise, LEAST_NOISE_PM)
    slopes, levels, counts = _fit_levels(points, np.array(start.slopes), noise, extent)
    if np.abs(slopes - start.slopes) @ extent > WIDE * noise:
        # A poor first tilt smears the peaks, and the small ones are lost.
        slopes, levels, counts = _fit_levels(points, slopes, noise, extent)
    large = counts >= min(SUBSTRATE_SHARE * counts.sum(), counts.max())
    substrate = levels[np.argmax(large)]
    plane = Plane(substrate * PM, slopes[0] * PM, slopes[1] * PM)
    return Terraces(plane, (levels - substrate) * PM, start.noise * PM)


def _fit_levels(
    points: FloatArray, slopes: FloatArray, noise: float, extent: NDArray[np.intp]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Slopes, heights of the levels and their numbers of pixels, from points (row, col, height)."""
    levels = _peaks(points[2] - slopes @ points[:2], noise)
    few = _at_most(FEW_POINTS, points)
    for some, width, gain, settled in ((few, WIDE, 1.0, 0.3), (points, NARROW, GAIN, SETTLED)):
        for _ in range(MAX_ITERATIONS):
            change, shifts, counts = _common_slope(some, slopes, levels, width * noise)
            slopes = slopes + gain * change
            levels = levels + gain * shifts
            if np.abs(change) @ extent < settled * noise:
                break
    return slopes, levels, counts


def _at_most(number: int, points: FloatArray) -> FloatArray:
    return np.ascontiguousarray(points[:, :: -(-points.shape[1] // number)])


def _peaks(heights: FloatArray, noise: float) -> FloatArray:
    """Heights, ascending, of the peaks in the distribution of heights."""
    lowest = float(heights.min())
    bin_width = max(noise, float(np.ptp(heights)) / MOST_BINS)
    counts = np.bincount(((heights - lowest) / bin_width).astype(np.intp))
    # Three bins are all of a level; beyond the ends there is nothing.
    near = np.convolve(counts, np.ones(3))
    inner = near[1:-1]
    summits = 1 + np.flatnonzero(
        (inner >= near[:-2]) & (inner > near[2:]) & (inner >= LEVEL_SHARE * heights.size)
    )
    peaks = [int(near.argmax())]
    for summit in summits[np.argsort(-near[summits])][:MOST_LEVELS]:
        valleys = (near[min(summit, peak) : max(summit, peak) + 1].min() for peak in peaks)
        if max(valleys) < VALLEY * near[summit]:
            peaks.append(int(summit))
    return lowest + (np.sort(peaks) - 0.5) * bin_width


def _common_slope(
    points: FloatArray, slopes: FloatArray, levels: FloatArray, width: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Least squares for one slope and an offset per level over the pixels near the levels.

    Returns:
        Change of the slopes, new levels, and their numbers of pixels.
    """
    left = points.copy()
    left[2] -= slopes @ points[:2]
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, left[2])
    left[2] -= levels.take(nearest)
    near = np.abs(left[2]) <= width
    member = ((nearest == np.arange(len(levels))[:, None]) & near).astype(np.float64)
    counts = member.sum(axis=1)
    means = (member @ left.T) / np.maximum(counts, 1)[:, None]
    moments = (left * near) @ left.T - (means.T * counts) @ means
    (rr, rc, rz), (_, cc, cz), _ = moments.tolist()
    determinant = rr * cc - rc * rc
    if determinant < 1e-9 * rr * cc or determinant == 0:
        return np.zeros(2), means[:, 2], counts
    change = np.array([rz * cc - cz * rc, cz * rr - rz * rc]) / determinant
    return change, means[:, 2] - means[:, :2] @ change, counts


def check_shape(z: FloatImage) -> None:
    """Refuse what is no image of a surface.

    Raises:
        ValueError: ``z`` is not (H, W) or too small.
    """
    if z.ndim != 2 or min(z.shape) < SMALLEST_SIDE:
        raise ValueError(
            f"an image is (H, W) with at least {SMALLEST_SIDE} pixels a side, not {z.shape}"
        )


def _checked(z: FloatImage) -> FloatArray:
    """The image in pm; what is no number is NaN."""
    check_shape(z)
    heights: FloatArray = z.astype(np.float64) / PM
    finite = np.isfinite(heights)
    scanned = np.count_nonzero(finite)
    if scanned < FEWEST_PIXELS:
        raise ValueError(f"a plane needs {FEWEST_PIXELS} scanned pixels, the image has {scanned}")
    if scanned < heights.size:
        heights[~finite] = np.nan
    return heights


def _ransac(heights: FloatArray, rng: np.random.Generator) -> Plane:
    # Here, because importing it takes a second and the default method does without.
    from sklearn.linear_model import LinearRegression, RANSACRegressor

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
