"""Files of classifiers: what was saved is loaded, and what is none is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from agents.classifier import FORMAT, ClassifierError, ProbeClassifier
from agents.labelled import Labelled
from spm_gym.imaging.conditions import TrainingConditions
from spm_gym.imaging.normalisation import HeightScale
from tests.support.blobs import PIXELS, TINY, classified

CONDITIONS = TrainingConditions("real", "blobs", (-1.0, -0.5), (1e-11, 2e-11), (1e-10, 1e-10))


ABSENT = object()
WRONG: list[tuple[dict[str, object], str]] = [
    ({"format": "another"}, "'another'"),
    ({"format": "spm-gym probe classifier 1"}, "train it again"),
    ({"format": "spm-gym probe classifier 3"}, "train it again"),
    ({"summary": "long"}, "summary is a str"),
    ({"members": 0}, "has 0 networks"),
    ({"members": 2}, "do not fit"),
    ({"members": True}, "has True networks"),
    ({"temperature": 0.0}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"temperature": "warm"}, "temperature is a str"),
    ({"statistics_members": -1}, "has -1 networks"),
    ({"statistics_members": 1}, "'layers.0.bias' is missing"),
    ({"statistics_weight": -0.5}, "0 or more, not -0.5"),
    ({"statistics_weight": float("inf")}, "0 or more, not inf"),
    ({"statistics_weight": 1}, "statistics_weight is a int"),
    ({"average_flips": 1}, "average_flips is a int"),
    ({"conditions": None}, "conditions"),
    ({"conditions": CONDITIONS.to_json() | {"bias": [1.0, -1.0]}}, "conditions.bias"),
    ({"conditions": CONDITIONS.to_json() | {"auc": float("nan")}}, "conditions.auc"),
    ({"conditions": ABSENT}, "lack 'conditions'"),
    ({"network": {"chanels": [3]}}, "chanels"),
    ({"pixels": 2}, "too small"),
    ({"pixels": 64}, "do not fit"),
    ({"pixels": "many"}, "do not fit"),
    ({"height_scale": "picture"}, "height scale is 'picture'"),
    ({"height_scale": float("nan")}, "height scale is nan"),
    ({"height_scale": -1e-10}, "height scale is -1e-10"),
    ({"height_scale": True}, "height scale is True"),
    ({"height_scale": 150}, "1 pm to 1 mm, in m"),
    ({"height_scale": 10**400}, "1 pm to 1 mm, in m"),
    ({"height_scale": None}, "height scale is None"),
]
"""Wrong statements of a file about its classifier, and why each is refused."""


def test_a_loaded_classifier_is_the_saved_one(
    trained: ProbeClassifier, others: Labelled, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    trained.summary, trained.conditions = {"seed": 0}, CONDITIONS
    trained.save(path)
    loaded = ProbeClassifier.load(path)
    assert np.array_equal(classified(loaded, others), classified(trained, others))
    assert loaded.summary == {"seed": 0}
    assert loaded.conditions == CONDITIONS
    assert loaded.network.config == TINY
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("scale", [1.5e-10, "image"])
def test_a_classifier_keeps_its_height_scale(
    trained: ProbeClassifier, tmp_path: Path, scale: HeightScale
) -> None:
    path = tmp_path / "c.safetensors"
    ProbeClassifier(trained.networks, CONDITIONS, height_scale=scale).save(path)
    assert ProbeClassifier.load(path).height_scale == scale


def saved_with(weights: dict[str, torch.Tensor], path: Path, **changes: object) -> None:
    """Save weights with what a classifier says of itself, or with other than that."""
    about: dict[str, object] = {"format": FORMAT, "pixels": PIXELS, "summary": {}, "members": 1}
    about |= {"temperature": 1.0, "average_flips": False, "height_scale": 1e-10}
    about |= {"statistics_members": 0, "statistics_weight": 0.0}
    about |= {"conditions": CONDITIONS.to_json()}
    about |= {"network": TINY.model_dump(mode="json"), **changes}
    kept = {name: value for name, value in about.items() if value is not ABSENT}
    save_file(weights, path, {"about": json.dumps(kept)})


def refused(path: Path, reason: str) -> None:
    with pytest.raises(ClassifierError, match=reason) as caught:
        ProbeClassifier.load(path)
    assert str(caught.value).startswith(f"{path} is not a classifier")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_classifier_is_one_error_that_names_it(
    trained: ProbeClassifier, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    refused(path, "No such file")
    path.write_bytes(b"")
    refused(path, "header")
    path.write_bytes(b"PK\x03\x04" * 50)
    refused(path, "header")
    trained.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "header|incomplete|buffer")


def test_weights_without_what_makes_a_classifier_are_one_error_that_names_the_file(
    trained: ProbeClassifier, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    weights = {
        f"members.0.{key}": value.contiguous()
        for key, value in trained.network.state_dict().items()
    }
    save_file(weights, path)
    refused(path, "lack 'about'")
    save_file(weights, path, {"about": "[]"})
    refused(path, "are a list")
    for changes, reason in WRONG:
        saved_with(weights, path, **changes)
        refused(path, reason)
    saved_with(weights, path)
    assert isinstance(ProbeClassifier.load(path), ProbeClassifier)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])  # of the last, sums are not finite
def test_weights_that_give_no_finite_answer_are_refused(
    trained: ProbeClassifier, tmp_path: Path, value: float
) -> None:
    path = tmp_path / "c.safetensors"
    trained.save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for broken in ([name] for name in weights) if value != value else [list(weights)]:
        changed = weights | {name: torch.full_like(weights[name], value) for name in broken}
        save_file(changed, path, metadata)
        with pytest.raises(ClassifierError, match="finite") as caught:
            ProbeClassifier.load(path)
        assert str(caught.value).startswith(f"{path} is not")
