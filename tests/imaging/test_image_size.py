"""Which part of an image a network takes, and the words for images of which it takes none."""

from __future__ import annotations

import re

import numpy as np
import pytest

from spm_gym.config import ConfigError, EnvConfig, load_config
from spm_gym.imaging.conditions import TrainingConditions
from spm_gym.imaging.fitting import fitted
from spm_gym.imaging.image_size import (
    TakenImages,
    fitting_part,
    fitting_sizes,
    observed_pixel,
    reduction_text,
)
from spm_gym.scale import NM

USUAL = TakenImages(64, (10 / 64 * NM, 10 / 64 * NM))


class Network:
    """A classifier of so many pixels, of images of so many nm; None: nobody knows of how many."""

    def __init__(self, pixels: int, image_nm: float | None = 10.0) -> None:
        self.pixels = pixels
        size = None if image_nm is None else image_nm / pixels * NM
        pixel = None if size is None else (size, size)
        self.conditions = TrainingConditions("simulated", pixel=pixel)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return np.zeros(len(images), np.float32)


@pytest.mark.parametrize(
    ("image_nm", "pixels", "part"),
    [
        (10, 64, 64),
        (10, 128, 128),
        (10, 100, 100),
        (11.4, 128, 128),  # within the tolerance: all of it
        (11.6, 128, 110),  # the middle 10 nm of it
        (20, 128, 64),
        (20, 256, 128),
        (20, 112, 64),  # as coarse as it is trusted for
        (20, 100, None),
        (10, 32, None),
        (5, 32, None),
        (5, 256, None),
        (8.8, 64, 64),
        (8.6, 64, None),
        (14, 64, None),
        (100, 1024, 102),
    ],
)
def test_nm_per_pixel_decides(image_nm: float, pixels: int, part: int | None) -> None:
    assert fitting_part(image_nm * NM, pixels, USUAL) == part


@pytest.mark.parametrize(
    ("image_nm", "pixels"),
    [(20, 100), (20, 64), (10, 32), (5, 32), (5, 256), (14, 64), (200, 1024), (3.3, 65), (12, 63)],
)
def test_the_sizes_that_are_said_to_fit_do_fit(image_nm: float, pixels: int) -> None:
    text = fitting_sizes(EnvConfig(image_nm=image_nm, pixels=pixels), USUAL)
    found = re.findall(r"env.pixels of (\d+) or more with env.image_nm = ([\d.]+)", text)
    sizes = [(float(nm), int(least) + more) for least, nm in found for more in (0, 1, 37)]
    for low, high, fixed in re.findall(
        r"env.image_nm of ([\d.]+) to ([\d.]+) with env.pixels = (\d+)", text
    ):
        sizes += [(float(nm), int(fixed)) for nm in (low, high, (float(low) + float(high)) / 2)]
    assert sizes, text
    assert all(fitting_part(nm * NM, count, USUAL) is not None for nm, count in sizes), text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("pixels=100 image_nm=20", "env.pixels = 100 with env.image_nm = 20.*env.pixels of 128 or"),
        ("pixels=32", "env.pixels = 32 .*64 x 64 px at 0.1562 nm per pixel.*env.pixels of 64 or"),
        ("image_nm=5 pixels=128", "env.image_nm of 8.7 to 23 with env.pixels = 128"),
        ("pixels=128 observation_pixels=32", "env.observation_pixels = 32.*64 x 64 px"),
        ("pixels=128 image_nm=20 preview_lines=8", "env.preview_lines = 8.*16, 32, 64 are allowed"),
        ("pixels=256 preview_lines=128", "env.preview_lines = 128.* 8, 16, 32 are allowed"),
        ("pixels=32 observation_nm=5 accept_mismatch=[pixel]", "observation_nm = 5: .*, not of 16"),
        ("pixels=128 observation_nm=4", "env.pixels = 128, env.observation_nm = 4: .*64 x 64 px"),
        ("pixels=64 observation_pixels=65", "65 pixels cannot be made of the 64 x 64"),
        ("pixels=64 observation_nm=1", "allowed: 8 to 6|6 pixels cannot be made"),
        ("image_nm=9 observation_nm=10", "observation_nm = 10 is more than image_nm = 9"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(settings: str, words: str) -> None:
    overrides = [f"env.{each}" for each in settings.split()]
    with pytest.raises(ConfigError, match=words) as caught:
        fitted(load_config(None, overrides).env, Network(64))
    assert len(str(caught.value).splitlines()) == 1


def test_a_lab_uses_its_classifier_at_its_own_pixels() -> None:
    own = EnvConfig(pixels=96)
    assert fitted(own, Network(96)) == own
    finer = fitted(EnvConfig(pixels=192), Network(96))
    assert finer.observed == (192, 96)
    assert observed_pixel(finer) == pytest.approx(observed_pixel(own))
    with pytest.raises(ConfigError, match=r"env\.pixels of 96 or more"):
        fitted(EnvConfig(), Network(96))


def test_a_pixel_of_another_size_can_be_accepted_by_name() -> None:
    accepting = EnvConfig(image_nm=5, pixels=128, accept_mismatch=("pixel",))
    assert fitted(accepting, Network(64)).observed == (128, 64)
    with pytest.raises(ConfigError):
        fitted(accepting.model_copy(update={"pixels": 32}), Network(64))
    # Where it is not known, another check asks for it.
    assert fitted(EnvConfig(pixels=128), Network(64, None)).observed == (128, 64)


def test_the_settings_may_choose_another_part_themselves() -> None:
    chosen = EnvConfig(pixels=128, image_nm=20, observation_nm=11)
    env = fitted(chosen, Network(64))
    assert (env.observation_nm, env.observed) == (11, (70, 64))
    assert fitted(env, Network(64)) == env
    # Where they give the pixels alone, as much of the image is taken as without.
    given = EnvConfig(pixels=128, image_nm=20, observation_pixels=64)
    assert fitted(given, Network(64)).observation_nm == 10
    assert reduction_text(env) == "the middle 11 nm, averages over 64 x 64 px"
    assert reduction_text(EnvConfig()) == ""
