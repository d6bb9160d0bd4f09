"""The second opinion of a classifier: small networks on statistics of the image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from agents.classifier import ClassifierError, ProbeClassifier
from agents.classifier_training import train_classifier
from agents.labelled import Labelled
from agents.statistics_network import StatisticsNetwork, fit_statistics
from spm_gym.imaging.conditions import TrainingConditions
from spm_gym.imaging.statistics import STATISTICS, image_statistics
from tests.support.blobs import QUICK


def test_it_tells_images_apart(data: Labelled, others: Labelled) -> None:
    network = fit_statistics(data, good_weight=1.0, seed=0)
    outputs = network.answer(image_statistics(others.images[:, None]))
    assert roc_auc_score(others.good, outputs) > 0.9


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_alone(data: Labelled) -> None:
    torch.manual_seed(5)
    first, again = (fit_statistics(data, 1.0, seed).state_dict() for seed in (3, 3))
    other = fit_statistics(data, 1.0, 4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    left = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), left)


def test_a_statistic_that_never_varies_and_one_far_outside_give_finite_answers() -> None:
    flat = Labelled(np.full((40, 16, 16), -1, np.float32), np.arange(40) % 2 == 0)
    network = fit_statistics(flat, 1.0, 0)
    assert np.isfinite(network.answer(np.full((2, STATISTICS), 1e30))).all()


def test_a_classifier_with_it_is_the_same_from_its_file(
    data: Labelled, others: Labelled, tmp_path: Path
) -> None:
    config = QUICK.model_copy(update={"statistics": True, "folds": 2, "epochs": 2})
    session = np.full(data.good.size, "")
    classifier = train_classifier(
        data, session, config, 0.9, 0, tmp_path, TrainingConditions("real"), progress=False
    )
    assert len(classifier.networks) == len(classifier.statistics_networks) == 2
    assert classifier.statistics_weight > 0
    images = others.images[:, None]
    loaded = ProbeClassifier.load(tmp_path / "classifier.safetensors")
    assert np.array_equal(loaded(images), classifier(images), equal_nan=True)
    statistics = image_statistics(images)
    second = np.mean([each.answer(statistics) for each in classifier.statistics_networks], axis=0)
    logits = classifier.outputs(images) + classifier.statistics_weight * second
    by_hand = 1 / (1 + np.exp(-logits / classifier.temperature))
    assert classifier.probability(images) == pytest.approx(by_hand, abs=1e-6)
    alone = ProbeClassifier(classifier.networks, temperature=classifier.temperature)
    assert np.abs(classifier.probability(images) - alone.probability(images)).max() > 0.01


def test_an_image_that_is_no_number_has_no_probability(trained: ProbeClassifier) -> None:
    network = StatisticsNetwork(torch.zeros(STATISTICS), torch.ones(STATISTICS))
    both = ProbeClassifier(trained.networks, statistics_networks=[network], statistics_weight=1.0)
    nothing = np.full((1, 1, trained.pixels, trained.pixels), np.nan, np.float32)
    assert np.isnan(both(nothing)).all()


def test_weights_whose_answer_overflows_are_refused(trained: ProbeClassifier) -> None:
    network = StatisticsNetwork(torch.zeros(STATISTICS), torch.ones(STATISTICS))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(3e38)
    with pytest.raises(ClassifierError, match="not finite"):
        ProbeClassifier(trained.networks, statistics_networks=[network], statistics_weight=1.0)


def test_a_weight_of_images_counts(data: Labelled) -> None:
    heavy = replace(data, weight=np.where(data.good, 100, 1).astype(np.float32))
    usual, weighted = (fit_statistics(each, 1.0, 0) for each in (data, heavy))
    statistics = image_statistics(data.images[:, None])
    assert weighted.answer(statistics).mean() > usual.answer(statistics).mean() + 1
