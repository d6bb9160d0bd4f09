"""Scores, thresholds and pictures of a classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.classifier_report import plot, score
from agents.classifier_training import train_classifier
from agents.labelled import Labelled
from spm_gym.imaging.conditions import TrainingConditions
from tests.support.blobs import QUICK

CONDITIONS = TrainingConditions("real", "blobs", (-1.0, -0.5), (1e-11, 2e-11), (1e-10, 1e-10))


def test_a_score_worked_out_by_hand() -> None:
    probability = np.array([0.95, 0.85, 0.92, 0.9, 0.05], np.float32)
    good = np.array([True, True, False, False, False])
    report = score(probability, good, 0.9)
    counts = (report.true_positives, report.false_negatives, report.false_positives)
    assert counts == (1, 1, 1)
    assert report.true_negatives == 2
    assert (report.tpr, report.fpr, report.accuracy) == (0.5, 1 / 3, 0.6)
    # Of the six pairs of a good and a bad image, (0.85, 0.92) and (0.85, 0.9) stand wrong.
    assert report.auc == pytest.approx(4 / 6)
    bins = [(b.count, round(b.good, 6)) for b in report.reliability]
    assert bins == [(1, 0), (1, 1), (3, round(1 / 3, 6))]
    assert report.roc[0][0] == report.roc[1][0] == 0
    assert report.roc[0][-1] == report.roc[1][-1] == 1


def test_the_threshold_is_strict() -> None:
    report = score(np.array([0.9, 0.9], np.float64), np.array([True, False]), 0.9)
    assert report.tpr == 0


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_probabilities_that_mean_what_they_say_have_no_calibration_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probability = rng.random(20_000).astype(np.float32)
    honest = rng.random(20_000) < probability
    assert score(probability, honest, 0.9).calibration_error < 0.02
    assert score(probability**3, honest, 0.9).calibration_error > 0.1


def test_threshold_and_refusal_are_measured_where_people_agree() -> None:
    rng = np.random.default_rng(0)
    probability = np.concatenate(
        [np.linspace(0, 0.5, 100), np.linspace(0.6, 1, 100), rng.random(200)]
    )
    good = np.concatenate([np.arange(200) >= 100, rng.random(200) < 0.5])
    agreed = np.arange(400) < 200
    report = score(probability.astype(np.float32), good, 0.9, agreed)
    assert report.auc < 0.9
    assert (report.agreed, report.agreed_auc, report.surest_auc) == ((100, 100), 1.0, 1.0)
    assert report.recommended_tpr == 1
    assert report.surest_images == 200
    # What nobody agrees on passes half of the time, and that is said, too.
    assert report.recommended_on_all[1] > 0.1
    assert "there, of all images" in report.table()
    assert "where people agree    100 good, 100 bad" in report.table()
    # A few images say too little.
    few = score(probability.astype(np.float32), good, 0.9, agreed & (np.arange(400) % 4 == 0))
    assert (few.agreed, few.surest_auc, few.surest_images) == (None, few.auc, 400)
    assert "people agree" not in few.table()


def test_one_class_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="0 good of 3"):
        score(np.zeros(3, np.float32), np.zeros(3, bool), 0.9)


@pytest.mark.parametrize(
    ("bad", "good", "threshold"),
    [
        ([0.1, 0.2], [0.95, 0.99], 0.9),  # the usual one does
        ([0.1, 0.2], [0.5, 0.99], 0.3),  # it would miss half
        ([0.1, 0.97], [0.98, 0.99], 0.97),  # it would pass a bad one
        ([0.1] * 150 + [0.97], [0.98, 0.99], 0.9),  # one of a hundred may pass
        ([0.1, 1.0], [0.98, 0.99], 1.0),  # nothing passes, and nothing is found
    ],
)
def test_the_recommended_threshold_passes_few_bad_images_and_finds_what_it_can(
    bad: list[float], good: list[float], threshold: float
) -> None:
    probability = np.array(bad + good)
    labels = np.arange(probability.size) >= len(bad)
    report = score(probability, labels, 0.9)
    assert report.recommended == pytest.approx(threshold)
    assert (np.array(bad) > report.recommended).mean() <= 0.01
    assert report.recommended_tpr == (np.array(good) > report.recommended).mean()


def test_tensorboard_gets_losses_and_the_precision_recall_curve(
    data: Labelled, tmp_path: Path
) -> None:
    class Writer:
        tags: set[str] = set()  # noqa: RUF012

        def add_scalar(self, tag: str, *_: object) -> None:
            self.tags.add(tag)

        def add_pr_curve(self, tag: str, labels: np.ndarray, p: np.ndarray, _: int) -> None:
            assert labels.shape == p.shape
            self.tags.add(tag)

        def add_image(self, tag: str, pixels: np.ndarray, _: int, dataformats: str) -> None:
            assert dataformats == "HWC"
            assert pixels.shape[2] == 3
            self.tags.add(tag)

    few = data[np.arange(200)]
    train_classifier(
        few,
        np.full(200, "s"),
        QUICK.model_copy(update={"epochs": 1}),
        0.9,
        0,
        tmp_path,
        CONDITIONS,
        progress=False,
        writer=Writer(),  # type: ignore[arg-type]
    )
    assert Writer.tags == {
        "classifier/loss",
        "classifier/validation_loss",
        "classifier/auc",
        "classifier/accuracy",
        "classifier/tpr",
        "classifier/fpr",
        "classifier/calibration_error",
        "classifier/precision_recall",
        "classifier/report",
    }


def test_the_picture_is_drawn_for_certain_probabilities(tmp_path: Path) -> None:
    good = np.array([True, False, True])
    probability = good.astype(np.float32)
    plot(score(probability, good, 0.9), probability, probability, good, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
