"""Larger images, averaged to those that the classifier takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.datasets.labelled_folder import load_folder
from spm_gym.imaging import normalise
from spm_gym.imaging.averaging import box_averaged
from spm_gym.imaging.files import FileFormatError, read_topography

DATA = Path(__file__).parents[3] / "shared" / "data"


sides = st.integers(1, 12)


@given(st.data(), sides, sides, sides)
def test_averages_are_those_over_areas(
    data: st.DataObject, rows: int, cols: int, pixels: int
) -> None:
    if pixels > min(rows, cols):
        with pytest.raises(ValueError, match="cannot be averaged"):
            box_averaged(np.zeros((rows, cols)), pixels)
        return
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    z = 1e-7 + 1e-10 * rng.normal(size=(rows, cols))
    z[rng.random(z.shape) < 0.2] = np.nan
    # Every pixel divided into so many that each belongs to one larger pixel.
    fine = np.kron(z, np.ones((pixels, pixels))).reshape(pixels, rows, pixels, cols)
    share = np.isfinite(fine).mean(axis=(1, 3))
    with np.errstate(invalid="ignore"):
        expected = np.nansum(fine, axis=(1, 3)) / (rows * cols * share)
    clear = abs(share - 0.5) > 1e-6  # rounding decides at exactly a half
    found = box_averaged(z, pixels)
    np.testing.assert_allclose(
        found[clear], np.where(share > 0.5, expected, np.nan)[clear], rtol=0, atol=1e-18
    )


def test_larger_images_are_averaged_for_training(tmp_path: Path) -> None:
    y, x = np.mgrid[:96, :96] / 96
    z = 2e-10 * (np.hypot(y - 0.5, x - 0.3) < 0.2) + 1e-10 * x
    for name, side in (("good_1", 96), ("good_2", 48), ("bad_1", 32)):
        np.save(tmp_path / f"{name}.npy", box_averaged(z, side))
    loaded = load_folder(tmp_path, pixels=32)
    assert loaded.averaged == {48: 1, 96: 1}
    # The same surface, scanned more finely, is the same image.
    images = normalise(loaded.heights)
    differences = abs(images - images[0])
    assert differences.mean() < 0.01
    assert differences.max() < 0.3  # at the edges
    np.save(tmp_path / "bad_2.npy", z[:80])
    with pytest.raises(FileFormatError, match=r"bad_2.npy: the image has 80 x 96 px, .* 32 x 32"):
        load_folder(tmp_path, pixels=32)


def real_scans() -> Iterator[tuple[str, int]]:
    for name, about in json.loads((DATA / "scans.json").read_text()).items():
        rows, cols = about["pixels"]
        if rows == cols:
            yield name, rows


@pytest.mark.skipif(not DATA.is_dir(), reason="no real scans here")
def test_real_scans_are_averaged(tmp_path: Path) -> None:
    for n, (name, _) in enumerate(real_scans()):
        label = "good" if n % 2 else "bad"
        (tmp_path / f"{label}_{name}").write_bytes((DATA / name).read_bytes())
    loaded = load_folder(tmp_path)
    assert loaded.heights.shape == (4, 64, 64)
    assert np.isfinite(loaded.heights).all()
    assert loaded.averaged == {160: 1, 256: 1, 512: 2}
    z = read_topography(DATA / "moire_10nm.sxm").z
    assert box_averaged(z, 64).mean() == pytest.approx(z.mean(), rel=1e-12)
