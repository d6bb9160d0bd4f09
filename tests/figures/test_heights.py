"""Scans as pictures: the same ones on all pages."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from spm_gym.assembly.simulator import build_microscope
from spm_gym.colours import HEIGHTS
from spm_gym.config import EnvConfig, load_config
from spm_gym.figures.heights import (
    ScanRendering,
    grey_values,
    height_scale,
    height_scales,
    limits,
    picture,
    png,
    with_span,
)
from spm_gym.figures.tiles import Painter
from spm_gym.imaging import level, normalise
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.reader import Label
from spm_gym.scale import length_text
from spm_gym.types import FloatImage, Frame
from spm_gym.web.report import render_report
from tests.support.invented_runs import InventedRun
from tests.support.waiting import wait_until

NM = 1e-9
SVG = "{http://www.w3.org/2000/svg}"


def steps(rng: np.random.Generator) -> np.ndarray:
    """A tilted terrace with a step and a little noise."""
    z = np.add.outer(np.arange(64), np.zeros(64)) * 0.01 * NM
    z[:, 40:] += 0.2 * NM
    return z + rng.normal(0, 1e-12, z.shape)


def rgba(image: Image.Image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png(image))).convert("RGBA")).astype(int)


@pytest.mark.parametrize("kind", [ScanRendering.RAW, ScanRendering.LEVELLED])
def test_heights_have_the_colours_of_all_other_pictures(kind: ScanRendering) -> None:
    z = steps(np.random.default_rng(1))
    heights = z if kind is ScanRendering.RAW else level(z)
    low, high = limits(heights)
    expected = 255 * colormaps[HEIGHTS](np.clip((heights - low) / (high - low), 0, 1))
    assert np.abs(rgba(picture(z, kind, Preprocessing())) - expected).max() <= 5


def test_the_network_sees_grey_substrate_where_nothing_was_scanned() -> None:
    z = steps(np.random.default_rng(2))
    z[50:] = np.nan
    painted = rgba(picture(z, ScanRendering.NETWORK, Preprocessing()))
    assert (painted[..., :1] == painted[..., :3]).all()
    assert (painted[..., 3] == 255).all()
    assert np.allclose(painted[..., 0], (normalise(level(z)) + 1.5) * 85, atol=0.51)
    black = grey_values(z, Preprocessing()) == 0
    assert np.array_equal(black, np.isnan(z))


def test_what_was_not_scanned_is_transparent_and_the_rest_is_not() -> None:
    z = steps(np.random.default_rng(3))
    z[50:] = np.nan
    for kind in (ScanRendering.RAW, ScanRendering.LEVELLED):
        assert np.array_equal(rgba(picture(z, kind, Preprocessing()))[..., 3] == 0, np.isnan(z))


def test_colours_do_not_blow_up_noise_nor_follow_single_pixels() -> None:
    rng = np.random.default_rng(4)
    low, high = limits(rng.normal(0, 1e-13, (64, 64)))
    assert high - low == pytest.approx(2e-11)
    z = steps(rng)
    spike = z.copy()
    spike[3, 3] = 1.0
    assert limits(spike) == pytest.approx(limits(z), abs=0.01 * NM)
    assert limits(np.full((4, 4), np.nan)) == pytest.approx((0, 2e-11))


def molecules_on(terrace: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Put molecules of 4 x 4 pixels, 0.17 nm high, on a terrace; returns where they are."""
    mask = np.zeros(terrace.shape, bool)
    for row, col in rng.integers(2, len(terrace) - 6, (number, 2)):
        mask[row : row + 4, col : col + 4] = True
    terrace[mask] += 0.17 * NM
    return mask


@pytest.mark.parametrize("number", [1, 3, 60, 300])
def test_molecules_do_not_saturate_be_they_few_or_many(number: int) -> None:
    rng = np.random.default_rng(number)
    z = rng.normal(0, 3e-12, (128, 128))
    mask = molecules_on(z, number, rng)
    low, high = limits(z)
    share = (z[mask] - low) / (high - low)
    assert (share >= 1).mean() < 0.01
    # Neither do they drown: most of the colours lie between them and the substrate.
    assert np.median(share) > 0.5


@pytest.mark.parametrize("height", [5 * NM, -5 * NM, 1.0])
def test_a_spike_or_a_line_does_not_change_the_colours(height: float) -> None:
    rng = np.random.default_rng(8)
    z = rng.normal(0, 3e-12, (128, 128))
    molecules_on(z, 40, rng)
    spike, line = z.copy(), z.copy()
    spike[40, 70] += height
    line[77] += height
    assert limits(spike) == pytest.approx(limits(z), abs=1e-12)
    assert limits(line) == pytest.approx(limits(z), abs=2e-12)


@pytest.mark.parametrize("depth", [50 * NM, -50 * NM])
def test_a_crash_does_not_flatten_the_molecules(depth: float) -> None:
    rng = np.random.default_rng(9)
    z = rng.normal(0, 3e-12, (128, 128))
    mask = molecules_on(z, 120, rng)
    z[60:90, 20:50] += depth  # 5 % of the image
    mask[60:90, 20:50] = False
    low, high = limits(z)
    share = (z - low) / (high - low)
    assert (share[mask] >= 1).mean() < 0.01
    assert np.median(share[mask]) - np.median(share) > 0.12  # 30 of 255 colours


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_images_of_a_line_or_a_few_pixels_have_limits(shape: tuple[int, int]) -> None:
    low, high = limits(np.linspace(0, 1 * NM, shape[0] * shape[1]).reshape(shape))
    assert low < high


def test_molecules_are_not_white_to_the_eye_and_keep_their_structure() -> None:
    microscope = build_microscope(load_config(None, ["simulator.rough_fraction=0"]), 4)
    z = microscope.scan(Frame(0.0, 0.0, 10 * NM, 64)).z
    heights, painted = (
        level(z, "levels"),
        rgba(picture(z, ScanRendering.LEVELLED, Preprocessing()))[..., :3],
    )
    molecules = heights > 0.1 * NM
    assert molecules.mean() > 0.05
    white = (painted.min(axis=-1) > 200) & molecules
    assert white.sum() < 0.01 * molecules.sum()
    blue = painted[molecules][:, 2]
    assert np.percentile(blue, 90) - np.percentile(blue, 10) > 60


@pytest.mark.parametrize("kind", ScanRendering)
def test_a_scale_says_how_many_metres_the_colours_span(kind: ScanRendering) -> None:
    z = steps(np.random.default_rng(6))
    image, span = with_span(z, kind, Preprocessing())
    assert np.array_equal(rgba(image), rgba(picture(z, kind, Preprocessing())))
    drawn = ElementTree.fromstring(height_scale(span, kind))
    assert drawn.get("aria-label") == f"dark to bright: {length_text(span)}"
    if kind is ScanRendering.NETWORK:
        assert span == pytest.approx(0.3 * NM)  # from -1.5 to 1.5 halves of a molecule
    else:
        low, high = limits(z if kind is ScanRendering.RAW else level(z, "levels"))
        assert span == pytest.approx(high - low)


def test_what_was_hardly_scanned_has_scales_all_the_same() -> None:
    z = np.full((64, 64), np.nan)
    z[0, 0] = 1 * NM
    assert height_scales(z, Preprocessing()).keys() == {*ScanRendering}
    z = steps(np.random.default_rng(7))
    for kind, scale in height_scales(z, Preprocessing()).items():
        assert scale == height_scale(with_span(z, kind, Preprocessing())[1], kind)


def test_the_colours_of_a_scale_are_those_of_the_pictures() -> None:
    ends = ElementTree.fromstring(height_scale(1 * NM, ScanRendering.LEVELLED)).iter(f"{SVG}stop")
    for stop in ends:
        expected = [round(255 * part) for part in colormaps[HEIGHTS](float(stop.get("offset")))[:3]]
        digits = stop.get("stop-color", "").removeprefix("#")
        digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
        assert [int(digits[n : n + 2], 16) for n in (0, 2, 4)] == pytest.approx(expected, abs=2)


def test_levelling_is_the_one_that_is_asked_for() -> None:
    rng = np.random.default_rng(5)
    z = steps(rng)
    z[:, :40] += rng.normal(0, 5e-11, (64, 40))
    by_levels, by_ransac = (
        grey_values(z, Preprocessing(method)) for method in ("levels", "ransac")
    )
    assert np.array_equal(by_ransac, (np.rint((normalise(level(z, "ransac")) + 1.5) * 85)))
    assert (by_levels != by_ransac).any()
    assert not grey_values(np.full((64, 64), np.nan), Preprocessing("ransac")).any()


@pytest.mark.parametrize("pm", [40, 100, 150, "image"])
def test_the_networks_image_and_its_scale_are_those_of_the_settings(pm: Any) -> None:
    z = steps(np.random.default_rng(5))
    preprocessing = Preprocessing.of(EnvConfig(height_scale_pm=pm))
    image, span = with_span(z, ScanRendering.NETWORK, preprocessing)
    normalised = preprocessing.image(z)
    grey = np.rint(85 * (normalised + 1.5))
    assert np.array_equal(rgba(image)[..., 0], grey)
    assert np.array_equal(grey_values(z, preprocessing), grey)
    # Between two pixels that are not clipped, the heights differ as the scale says.
    within = np.abs(normalised) < 1.5
    low = np.argmin(np.where(within, normalised, 9))
    high = np.argmax(np.where(within, normalised, -9))
    apart = level(z).flat[high] - level(z).flat[low]
    share = (normalised.flat[high] - normalised.flat[low]) / 3
    assert share * span == pytest.approx(apart, rel=1e-4)
    assert height_scales(z, preprocessing)[ScanRendering.NETWORK] == height_scale(
        span, ScanRendering.NETWORK
    )


@pytest.mark.parametrize("pm", [None, 150, "image"])
def test_an_image_without_heights_still_has_a_scale(pm: Any) -> None:
    preprocessing = Preprocessing.of(EnvConfig(height_scale_pm=pm))
    for z in (np.full((64, 64), np.nan), np.zeros((64, 64))):
        assert height_scales(z, preprocessing).keys() == {*ScanRendering}


@pytest.mark.parametrize("method", ["levels", "ransac"])
def test_maps_are_levelled_as_the_run_has_levelled(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = set()

    def greys(z: FloatImage, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        methods.add(preprocessing.method)
        return np.zeros(z.shape, np.uint8)

    monkeypatch.setattr("spm_gym.figures.mosaic.grey_values", greys)
    with InventedRun(tmp_path, f"env: {{plane: {method}}}") as run:
        run.enter_area()
        run.scan(Label.GOOD, 0.99)
        run.commit()
        render_report(tmp_path)
        painter = Painter(tmp_path)
        painter.request(0)
        wait_until(lambda: painter.tiles(0)[1] and not painter.waiting(0))
    assert methods == {method}


def test_the_live_page_is_served_without_matplotlib() -> None:
    program = "import sys, spm_gym.web.monitor; print('matplotlib' in sys.modules)"
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False"]
