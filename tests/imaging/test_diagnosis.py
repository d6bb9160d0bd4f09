from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from spm_gym.imaging import Diagnosis, diagnose
from spm_gym.types import Frame, Scan
from tests.support import molecule_images as make

PM = 1e-12
SHAPE = (64, 64)
Z_RANGE = (-150e-9, 150e-9)
DATA = Path(__file__).parents[3] / "shared" / "data"


def surface(seed: int = 0, white: float = 2.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return make.molecules(SHAPE, rng, 0.3) + make.noise(SHAPE, rng, white, 1.2)


def scan(z: NDArray[np.float64]) -> Scan:
    return Scan(Frame(0, 0, 10e-9, 64), z, Z_RANGE)


def bumps(height: float, number: int, width: float = 4.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(1)
    rows, cols = np.indices(SHAPE)
    z = np.zeros(SHAPE)
    for row, col in rng.uniform(0, 64, (number, 2)):
        z += height * np.exp(-((rows - row) ** 2 + (cols - col) ** 2) / (2 * width**2))
    return z


@pytest.mark.parametrize("slope", [0.0, 3.0, 30.0])
@pytest.mark.parametrize("white", [0.0, 2.0, 10.0])
def test_molecules_on_a_tilted_plane_are_fine(slope: float, white: float) -> None:
    z = surface(white=white) + make.plane(SHAPE, slope, -slope)
    assert diagnose(z) is Diagnosis.FINE
    assert diagnose(scan(z)) is Diagnosis.FINE


@pytest.mark.parametrize("terraces", [2, 3, 5])
@pytest.mark.parametrize("tilt", [(0.0, 0.0), (4.0, -7.0)])
def test_molecules_on_terraces_are_fine(terraces: int, tilt: tuple[float, float]) -> None:
    stairs = np.repeat(np.arange(terraces), -(-64 // terraces))[:64] * 204 * PM
    z = make.molecules(SHAPE, np.random.default_rng(3), 0.1) + stairs + surface() * 0.01
    assert diagnose(z + make.plane(SHAPE, *tilt)) is Diagnosis.FINE


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (4.0, -7.0)])
def test_tall_debris_is_rough(tilt: tuple[float, float]) -> None:
    z = surface() + bumps(900 * PM, 12) + make.plane(SHAPE, *tilt)
    assert diagnose(z) is Diagnosis.ROUGH


def test_one_spike_is_not_rough() -> None:
    z = surface()
    z[30:33, 30:33] += 5e-9
    assert diagnose(z) is Diagnosis.FINE


def test_roughness_threshold_is_an_argument() -> None:
    z = surface() + bumps(900 * PM, 12)
    assert diagnose(z, rough_range=5e-9) is Diagnosis.FINE
    assert diagnose(surface(), rough_range=100 * PM) is Diagnosis.ROUGH


@pytest.mark.parametrize(("end", "diagnosis"), [(0, Diagnosis.LOST_CONTACT), (1, Diagnosis.CRASH)])
@pytest.mark.parametrize("first_line", [0, 32, 58])
def test_piezo_at_its_end(end: int, diagnosis: Diagnosis, first_line: int) -> None:
    z = surface()
    z[first_line:] = Z_RANGE[end]
    z += np.random.default_rng(0).normal(0, 2 * PM, SHAPE)
    assert diagnose(scan(z)) is diagnosis


@pytest.mark.parametrize("end", [0, 1])
def test_near_the_end_of_the_piezo_is_fine(end: int) -> None:
    assert diagnose(scan(surface() + 0.9 * Z_RANGE[end])) is Diagnosis.FINE


def test_end_goes_before_partial_and_rough() -> None:
    z = surface() + bumps(900 * PM, 12)
    z[20:40] = Z_RANGE[0]
    z[40:] = np.nan
    assert diagnose(scan(z)) is Diagnosis.LOST_CONTACT


@pytest.mark.parametrize(
    ("sign", "diagnosis"), [(-1, Diagnosis.LOST_CONTACT), (1, Diagnosis.CRASH)]
)
def test_saturation_tells_where_the_range_is_unknown(sign: int, diagnosis: Diagnosis) -> None:
    z = surface()
    z[40:] = sign * 100e-9
    assert diagnose(z) is diagnosis


def test_a_single_height_counts_as_a_crash() -> None:
    assert diagnose(np.full(SHAPE, 3e-9)) is Diagnosis.CRASH
    assert diagnose(scan(np.full(SHAPE, 3e-9))) is Diagnosis.FINE


@pytest.mark.parametrize(
    ("missing", "diagnosis"),
    [(1, Diagnosis.FINE), (6, Diagnosis.FINE), (7, Diagnosis.PARTIAL), (64, Diagnosis.PARTIAL)],
)
def test_a_few_missing_lines_are_tolerated(missing: int, diagnosis: Diagnosis) -> None:
    z = surface()
    z[64 - missing :] = np.nan
    assert diagnose(scan(z)) is diagnosis
    assert diagnose(z) is diagnosis


def test_a_missing_half_line_is_not_a_missing_line() -> None:
    z = surface()
    z[:, :20] = np.nan
    assert diagnose(z) is Diagnosis.FINE


def test_rough_is_seen_between_missing_columns() -> None:
    z = surface() + bumps(900 * PM, 12)
    z[:, ::2] = np.nan
    assert diagnose(z) is Diagnosis.ROUGH


def test_refuses_what_is_no_image() -> None:
    with pytest.raises(ValueError, match="at least 8 pixels a side"):
        diagnose(np.zeros((64, 4)))


@pytest.mark.parametrize(
    "name",
    ["stm_molecular_30nm_pos", "stm_step_20nm", "stm_terrace_109nm", "stm_close_100nm"],
)
def test_real_scans_of_terraces_are_fine(name: str) -> None:
    path = DATA / f"{name}.npy"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    z = np.load(path)
    assert diagnose(z) is Diagnosis.FINE
    assert np.ptp(z) > 600 * PM or name == "stm_step_20nm"
