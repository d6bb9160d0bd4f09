"""A new belief agent takes the rates of the classifier of its settings, if they are rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.classifier import ProbeClassifier
from spm_gym.assembly.belief import verdict_rates
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import Config, ConfigError, load_config


def with_validation(folder: Path, validation: Any) -> Config:
    """Settings with the included classifier, which says this of its validation."""
    classifier = ProbeClassifier.load(shipped_classifier())
    classifier.summary["validation"] = validation
    path = folder / "classifier.safetensors"
    classifier.save(path)
    return load_config(None, [f"env.classifier={path}"])


def test_the_rates_are_those_of_the_validation_and_never_certain(tmp_path: Path) -> None:
    known = verdict_rates(with_validation(tmp_path, {"tpr": 0.9, "fpr": 0.1}))
    assert (known.true_positive, known.false_positive) == (0.9, 0.1)
    perfect = verdict_rates(with_validation(tmp_path, {"tpr": 1.0, "fpr": 0.0}))
    assert 0 < perfect.false_positive < perfect.true_positive < 1
    silent = verdict_rates(with_validation(tmp_path, None))
    assert silent.false_positive < silent.true_positive


@pytest.mark.parametrize(
    "validation",
    [[], "good", {"tpr": 0.9}, {"tpr": "many", "fpr": 0.1}, {"tpr": 1.5, "fpr": 0.1}],
)
def test_rates_that_are_none_are_refused(tmp_path: Path, validation: Any) -> None:
    with pytest.raises(ConfigError, match=r"env\.classifier.*tpr and fpr"):
        verdict_rates(with_validation(tmp_path, validation))
