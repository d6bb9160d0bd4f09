"""Previews of the settings: who classifies them, and which drivers refuse them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spm_gym.assembly.classifier import build_classifier
from spm_gym.assembly.environment import make_env, make_vector_env
from spm_gym.assembly.previews import build_preview_classifier
from spm_gym.assembly.simulator import build_microscope
from spm_gym.cli import main, train
from spm_gym.config import Config, ConfigError, load_config
from spm_gym.imaging.conditions import conditions_of

PREVIEWS = "env.preview_lines=16"
DEEPSPM = ["real.driver=deepspm", PREVIEWS]


def test_without_previews_nothing_classifies_them() -> None:
    config = Config()
    assert build_preview_classifier(config, build_classifier(config)) is None
    assert make_env().preview_classifier is None


def test_the_recogniser_classifies_previews_of_the_classifiers_kind_alone() -> None:
    config = load_config(None, [PREVIEWS])
    classifier = build_classifier(config)
    previews = build_preview_classifier(config, classifier)
    assert previews is not None
    assert conditions_of(previews) == conditions_of(classifier)
    images = np.random.default_rng(0).uniform(-1, 1, (5, 1, 64, 64)).astype(np.float32)
    probabilities = previews(images)
    assert (probabilities.shape, probabilities.dtype) == ((5,), np.float32)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_the_truth_classifies_previews_too() -> None:
    config = load_config(None, [PREVIEWS, "env.ground_truth=true"])
    classifier = build_classifier(config, build_microscope(config))
    assert build_preview_classifier(config, classifier) is classifier
    envs = make_vector_env(2, config)
    _, infos = envs.reset(seed=0)
    assert infos["preview"].any()


def test_a_recogniser_of_other_pixels_is_refused() -> None:
    config = load_config(None, [PREVIEWS, "env.pixels=32"])
    with pytest.raises(ConfigError, match=r"agent\.belief\.recogniser.*64 x 64.*env\.pixels = 32"):
        build_preview_classifier(config, lambda images: images[:, 0, 0, 0])


def test_a_driver_that_cannot_is_refused_before_anything_is_asked_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(None, [*DEEPSPM, "env.accept_mismatch=[origin,bias,setpoint]"])
    message = "env.preview_lines = 16: the driver deepspm cannot scan fewer lines than pixels"
    with pytest.raises(ConfigError, match=message):
        make_env(config, instrument=object())  # type: ignore[arg-type]
    for command in (["run", "--scans", "2"], ["train"]):
        run = [*command, "--env", "real", "--run-dir", command[0], "--set", *DEEPSPM]
        assert main(run) == 2 if command[0] == "run" else train.main(run[1:]) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert message in error
        assert "env.preview_lines=null" in error
