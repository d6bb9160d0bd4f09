"""Probabilities of a classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.classifier import ClassifierError, ProbeClassifier
from agents.classifier_report import score
from agents.labelled import Labelled
from tests.support.blobs import PIXELS, classified


def test_it_separates_sharp_probes_from_double_ones(
    trained: ProbeClassifier, others: Labelled
) -> None:
    report = score(classified(trained, others), others.good, 0.9)
    assert report.auc > 0.98
    assert report.calibration_error < 0.08


def test_a_batch_and_single_images_are_classified_alike_without_side_effects(
    trained: ProbeClassifier, others: Labelled
) -> None:
    together = classified(trained, others)
    assert together.dtype == np.float32
    assert together.shape == (600,)
    assert ((together >= 0) & (together <= 1)).all()
    alone = np.concatenate([trained(image[None, None]) for image in others.images[:20]])
    assert alone == pytest.approx(together[:20], abs=1e-5)
    with torch.inference_mode():
        logits = trained.network.eval()(torch.from_numpy(others.images[:, None]))
    assert together == pytest.approx(torch.sigmoid(logits)[:, 0].numpy(), abs=1e-5)


@pytest.mark.parametrize("shape", [(PIXELS, PIXELS), (2, PIXELS, PIXELS), (1, 1, 64, 64)])
def test_other_shapes_are_refused(trained: ProbeClassifier, shape: tuple[int, ...]) -> None:
    with pytest.raises(ClassifierError, match=r"images \(N, 1, 24, 24\), not"):
        trained(np.zeros(shape, np.float32))
