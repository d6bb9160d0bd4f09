"""Quality of a recogniser on images whose class is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, roc_auc_score

from agents.belief.errors import BeliefError
from agents.belief.recogniser import Recogniser
from agents.belief.recogniser_training import ClassedImages
from spm_gym.actions_to_go import GOOD

LOST = 0.01
"""Share of the good probes that a preview may give up, as its quality is measured."""


@dataclass(frozen=True, slots=True)
class RecogniserScore:
    """Quality on images that were not trained on.

    Attributes:
        accuracy: Share of images whose most probable class is the true one.
        bad_accuracy: The same among bad probes.
        cross_entropy: Mean negative logarithm of the probability of the true class.
        auc: Area under the ROC curve of good against bad probes.
        bad_found: Share of bad probes recognised where `LOST` of the good ones are lost.
        confusion: Number of images of each true class and most probable class, (S, S).
    """

    accuracy: float
    bad_accuracy: float
    cross_entropy: float
    auc: float
    bad_found: float
    confusion: NDArray[np.int64]

    def figures(self) -> dict[str, float]:
        """Everything but the confusion matrix, by name."""
        names = ("accuracy", "bad_accuracy", "cross_entropy", "auc", "bad_found")
        return {name: getattr(self, name) for name in names}


def score_recogniser(recogniser: Recogniser, data: ClassedImages) -> RecogniserScore:
    """Compare the answers of a recogniser with the true classes.

    Raises:
        BeliefError: There are not both good and bad probes.
    """
    good = data.states == GOOD
    if not 0 < good.sum() < good.size:
        raise BeliefError(f"a score needs good and bad probes, not {good.sum()} of {good.size}")
    logarithms = recogniser.logarithms(data.images.astype(np.float32))
    most_probable = logarithms.argmax(axis=1)
    right = most_probable == data.states
    of_good = logarithms[:, GOOD]
    return RecogniserScore(
        float(right.mean()),
        float(right[~good].mean()),
        float(-logarithms[np.arange(len(data.states)), data.states].mean()),
        float(roc_auc_score(good, of_good)),
        float((of_good[~good] < np.quantile(of_good[good], LOST)).mean()),
        confusion_matrix(data.states, most_probable, labels=range(logarithms.shape[1])),
    )


def report_table(scores: Mapping[int, RecogniserScore]) -> str:
    """Write a few lines for the terminal; the scores by number of lines."""
    rows = [
        f"{lines:5}  {s.accuracy:12.3f}  {s.bad_accuracy:12.3f}  {s.cross_entropy:13.3f}  "
        f"{s.auc:6.4f}  {s.bad_found:9.3f}"
        for lines, s in scores.items()
    ]
    head = "lines  right of all  right of bad  cross-entropy  AUC     bad found"
    foot = f"AUC: good against bad; bad found: where {LOST:.0%} of the good ones are lost"
    return "\n".join([head, *rows, foot])
