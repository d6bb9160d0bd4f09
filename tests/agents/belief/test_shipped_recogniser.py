"""The recogniser that comes with the package, on images that are not in its training."""

from __future__ import annotations

import numpy as np
import pytest

from agents.belief.recogniser import Recogniser
from agents.belief.recogniser_report import score_recogniser
from agents.belief.recogniser_training import ClassedImages
from spm_gym.assembly.recogniser_images import settings_hash
from spm_gym.assembly.shipped_weights import shipped_recogniser
from spm_gym.config import Config, RecogniserConfig, load_config
from spm_gym.datasets.simulated import prepared_images
from spm_gym.instrument.sim.dynamics import STATES


def test_it_is_small_and_knows_every_class() -> None:
    assert shipped_recogniser().stat().st_size < 2_000_000
    assert Recogniser.load(shipped_recogniser()).shares.shape == (STATES,)


def test_it_was_trained_with_the_default_settings() -> None:
    found = Recogniser.load(shipped_recogniser())
    assert found.settings == settings_hash(Config())
    assert RecogniserConfig(**found.summary["settings"]) == Config().recogniser
    figures = found.summary["validation"]["16"]
    assert figures["auc"] > 0.996
    assert figures["bad_found"] > 0.978


@pytest.mark.parametrize("mode", ["current", "linear"])
@pytest.mark.parametrize("lines", [16, 64])
def test_it_recognises_unseen_images_and_previews(mode: str, lines: int) -> None:
    config = load_config(None, [f"simulator.mode={mode}"])
    images = prepared_images(config, 500, 2718281, line_steps=np.full(500, 64 // lines))
    data = ClassedImages(images.observations.astype(np.float16), images.state)
    found = score_recogniser(Recogniser.load(shipped_recogniser()), data)
    assert found.accuracy > 0.62
    assert found.cross_entropy < 0.9
    assert found.auc > 0.99
