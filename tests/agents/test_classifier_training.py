"""Training of a classifier from labelled images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from agents.augmentation import flipped
from agents.classifier import ClassifierError, ProbeClassifier
from agents.classifier_fit import fit
from agents.classifier_training import train_classifier
from agents.counterexamples import counterexamples
from agents.labelled import Labelled, divisions
from agents.vgg import VGG
from spm_gym.config import ClassifierConfig, NetworkConfig
from spm_gym.imaging.conditions import TrainingConditions
from tests.support.blobs import PIXELS, QUICK, TINY, classified

CONDITIONS = TrainingConditions("real", "blobs", (-1.0, -0.5), (1e-11, 2e-11), (1e-10, 1e-10))


def fitted(data: Labelled, config: ClassifierConfig, seed: int = 0) -> ProbeClassifier:
    return ProbeClassifier([fit(data, config, seed)[0]])


def test_shuffled_labels_teach_nothing(data: Labelled, others: Labelled) -> None:
    shuffled = Labelled(data.images, np.random.default_rng(0).permutation(data.good))
    classifier = fitted(shuffled, QUICK)
    assert roc_auc_score(others.good, classified(classifier, others)) == pytest.approx(0.5, abs=0.1)


def test_training_lowers_both_losses_and_reports_each_epoch(
    data: Labelled, others: Labelled
) -> None:
    _, history = fit(data, QUICK, seed=3, validation=others)
    assert len(history) == 8
    assert history[-1].loss < history[0].loss / 2
    first, last = history[0].validation_loss, history[-1].validation_loss
    assert first is not None
    assert last is not None
    assert last < first / 2


def test_the_seed_decides_and_torch_generator_is_left_alone(
    data: Labelled, others: Labelled
) -> None:
    config = QUICK.model_copy(
        update={"epochs": 1, "network": TINY.model_copy(update={"dropout": 0.3})}
    )
    torch.manual_seed(5)
    first = classified(fitted(data, config, 1), others)
    ignoring_signals = torch.rand(3)
    again = classified(fitted(data, config, 1), others)
    other = classified(fitted(data, config, 2), others)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    torch.manual_seed(5)
    VGG(config.network, 1, PIXELS, torch.Generator())
    assert torch.equal(torch.rand(3), ignoring_signals)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_a_weight_on_good_images_multiplies_the_odds(weight: float) -> None:
    alike = Labelled(np.ones((200, 8, 8), np.float32), np.arange(200) % 4 == 0)
    config = ClassifierConfig(
        network=NetworkConfig(channels=(2,), pooled_sets=1, hidden=(4,), norm="none"),
        epochs=60,
        batch_size=100,
        learning_rate=0.03,
        good_weight=weight,
    )
    classifier = fitted(alike, config)
    odds = weight * 1 / 3
    assert classified(classifier, alike) == pytest.approx(odds / (1 + odds), abs=0.02)


def test_flips_keep_the_label_and_every_value() -> None:
    rng = np.random.default_rng(0)
    images = torch.randn(200, 1, 4, 4)
    result = flipped(images, rng)
    variants = [images, images.flip(-1), images.flip(-2), images.flip(-1, -2)]
    counts = [sum(torch.equal(a, b) for a, b in zip(result, v, strict=True)) for v in variants]
    assert sum(counts) == len(images)
    assert all(30 < count < 70 for count in counts)


def test_training_that_diverges_is_said_to(data: Labelled) -> None:
    wild = QUICK.model_copy(update={"learning_rate": 1e30, "epochs": 2})
    with pytest.raises(ClassifierError, match="finite"):
        fit(data, wild, seed=0)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(4, 30), min_size=8, max_size=20),
    fraction=st.floats(0.15, 0.5),
    by=st.sampled_from(["image", "session"]),
    seed=st.integers(0, 2**32),
)
def test_a_division_is_complete_and_near_the_fraction(
    sizes: list[int], fraction: float, by: str, seed: int
) -> None:
    session = np.repeat([f"s{number}" for number in range(len(sizes))], sizes)
    good = np.arange(session.size) % 4 == 0
    config = ClassifierConfig.model_validate({"validation_fraction": fraction, "split": by})
    [(training, validation)] = divisions(good, session, config, seed)
    assert sorted([*training, *validation]) == list(range(session.size))
    for side in (training, validation):
        assert 0 < good[side].sum() < side.size
    [again] = divisions(good, session, config, seed)
    assert np.array_equal(validation, again[1])
    if by == "session":
        assert not set(session[training]) & set(session[validation])
        assert abs(validation.size - fraction * session.size) <= max(sizes)
    else:
        assert abs(good[validation].sum() - fraction * good.sum()) <= 1
        assert abs(validation.size - fraction * session.size) <= 2


def test_a_side_without_a_class_is_refused() -> None:
    good = np.arange(40) < 20
    session = np.where(good, "good night", "bad night")
    with pytest.raises(ClassifierError, match=r"split by session leaves .* in 2 sessions"):
        divisions(good, session, ClassifierConfig(split="session"), 0)


def test_one_class_cannot_be_fitted() -> None:
    images = np.zeros((8, PIXELS, PIXELS), np.float32)
    with pytest.raises(ClassifierError, match="not 8 good of 8"):
        fit(Labelled(images, np.ones(8, bool)), QUICK, seed=0)
    with pytest.raises(ClassifierError, match=r"not \(8, 24, 24\) and \(7,\)"):
        Labelled(images, np.ones(7, bool))


def test_training_leaves_classifier_report_and_picture(
    data: Labelled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session = np.full(data.good.size, "s")
    config = QUICK.model_copy(update={"epochs": 2})
    directory = tmp_path / "run"
    classifier = train_classifier(
        data, session, config, 0.7, 0, directory, CONDITIONS, progress=False
    )
    assert sorted(path.name for path in directory.iterdir()) == [
        "classifier.safetensors",
        "report.json",
        "report.png",
    ]
    assert (directory / "report.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((directory / "report.json").read_text())
    assert report["good"] + report["bad"] == round(0.24 * data.good.size)
    loaded = ProbeClassifier.load(directory / "classifier.safetensors")
    assert loaded.summary == classifier.summary
    assert loaded.summary["validation"]["auc"] == report["auc"]
    assert loaded.summary["validation"]["threshold"] == report["threshold"] == 0.7
    assert loaded.summary["training_images"] == 1140
    validated = report["good"] + report["bad"]
    assert loaded.conditions == replace(CONDITIONS, auc=report["auc"], images=validated)
    assert f"{report['tpr']:.4f}" in capsys.readouterr().out


def labelled(few: Labelled, tmp_path: Path, **settings: object) -> ProbeClassifier:
    config = ClassifierConfig.model_validate(
        {"network": TINY, "device": "cpu", "batch_size": 32, **settings}
    )
    session = np.full(few.good.size, "s")
    return train_classifier(few, session, config, 0.9, 0, tmp_path, CONDITIONS, False)


def test_a_classifier_of_guesses_is_refused_and_its_report_kept(
    data: Labelled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = data[np.arange(150)]
    guessed = Labelled(few.images, np.random.default_rng(0).permutation(few.good))
    with pytest.raises(ClassifierError, match=r"not written.*ROC curve.*at least 0\.9") as caught:
        labelled(guessed, tmp_path)
    assert "classifier.refuse_poor=false" in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.png"}
    assert "these figures are rough" in capsys.readouterr().out
    assert labelled(guessed, tmp_path, refuse_poor=False)
    assert (tmp_path / "classifier.safetensors").is_file()


def test_few_labels_are_used_often_enough_to_find_the_good_ones(
    data: Labelled, tmp_path: Path
) -> None:
    few = data[np.concatenate([np.flatnonzero(data.good)[:124], np.flatnonzero(~data.good)[:26]])]
    classifier = labelled(few, tmp_path)
    assert len(classifier.summary["history"]) * 5 >= 200  # batches of 32
    validation = classifier.summary["validation"]
    assert validation["recommended_tpr"] > 0.5
    saved = ProbeClassifier.load(tmp_path / "classifier.safetensors")
    assert saved.summary["validation"]["recommended"] == validation["recommended"]


def test_many_images_are_used_ten_times(data: Labelled) -> None:
    many = Labelled(data.images[:800], data.good[:800])
    config = QUICK.model_copy(update={"epochs": None, "batch_size": 8})
    assert len(fit(many, config, seed=0)[1]) == 10


def test_a_trunk_to_start_with_is_what_training_begins_from(
    trained: ProbeClassifier, data: Labelled, others: Labelled
) -> None:
    still = QUICK.model_copy(update={"epochs": 1, "learning_rate": 1e-12, "batch_size": 1500})
    started, _ = fit(data, still, seed=9, start=trained.network)
    fresh, _ = fit(data, still, seed=9)
    ours, theirs, other = (
        dict(each.trunk.named_parameters()) for each in (trained.network, started, fresh)
    )
    for name, weights in ours.items():
        assert torch.allclose(weights, theirs[name], atol=1e-6)
    assert any(not torch.allclose(weights, other[name]) for name, weights in ours.items())


def test_counterexamples_are_levelled_images_that_the_seed_decides() -> None:
    images = counterexamples(60, 32, np.random.default_rng(0))
    assert images.shape == (60, 32, 32)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1.5
    # A bare terrace lies at -1; here every third image is one, with or without noise and debris.
    assert (np.abs(np.median(images, axis=(1, 2)) + 1) < 0.1).mean() > 0.3
    assert np.array_equal(images, counterexamples(60, 32, np.random.default_rng(0)))
    assert len(counterexamples(0, 32, np.random.default_rng(0))) == 0


@pytest.mark.slow
def test_counterexamples_teach_that_a_bare_terrace_is_not_good(
    data: Labelled, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    bare = counterexamples(200, PIXELS, rng)[:, None]
    called_good = []
    for share in (0.0, 0.3):
        config = QUICK.model_copy(update={"counterexamples": share})
        classifier = train_classifier(
            data,
            np.full(data.good.size, "s"),
            config,
            0.9,
            0,
            tmp_path,
            CONDITIONS,
            False,
        )
        called_good.append((classifier.probability(bare) > 0.9).mean())
        assert roc_auc_score(data.good, classified(classifier, data)) > 0.98
    assert called_good[0] > 0.1
    assert called_good[1] < 0.02
