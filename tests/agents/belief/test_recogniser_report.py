"""The score of a recogniser is that of its answers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.belief.errors import BeliefError
from agents.belief.recogniser import Recogniser
from agents.belief.recogniser_report import report_table, score_recogniser
from agents.belief.recogniser_training import ClassedImages
from agents.vgg import VGG
from tests.support.blobs import PIXELS, TINY


class Answering(Recogniser):
    """Gives these probabilities, whatever the images."""

    def __init__(self, probabilities: NDArray[np.float64]) -> None:
        classes = probabilities.shape[1]
        super().__init__(VGG(TINY, classes, PIXELS), np.full(classes, 1 / classes), "")
        self.probabilities = probabilities

    def logarithms(self, images: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.log(self.probabilities)


def of_states(states: list[int]) -> ClassedImages:
    return ClassedImages(
        np.zeros((len(states), 1, PIXELS, PIXELS), np.float16), np.array(states, np.int64)
    )


def test_figures_are_those_of_four_answers() -> None:
    answers = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.4, 0.5, 0.1], [0.8, 0.1, 0.1]])
    score = score_recogniser(Answering(answers), of_states([0, 1, 2, 1]))
    assert score.accuracy == 0.5
    assert score.bad_accuracy == pytest.approx(1 / 3)
    assert score.cross_entropy == pytest.approx(-np.log([0.7, 0.6, 0.1, 0.1]).mean())
    # Of the three bad ones two are less probably good than the good one.
    assert score.auc == pytest.approx(2 / 3)
    assert score.bad_found == pytest.approx(2 / 3)
    assert score.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert set(score.figures()) == {
        "accuracy", "bad_accuracy", "cross_entropy", "auc", "bad_found",
    }  # fmt: skip


def test_one_good_probe_in_a_hundred_may_be_lost() -> None:
    of_good = np.concatenate([np.linspace(0.9, 1 - 1e-9, 199), [1e-6], np.full(200, 0.5)])
    states = [0] * 200 + [1] * 200
    score = score_recogniser(Answering(np.stack([of_good, 1 - of_good], axis=1)), of_states(states))
    assert score.bad_found == 1
    assert score.auc == pytest.approx(199 / 200)


@pytest.mark.parametrize("states", [[0, 0], [1, 2]])
def test_one_kind_alone_has_no_score(states: list[int]) -> None:
    with pytest.raises(BeliefError, match="good and bad"):
        score_recogniser(Answering(np.full((2, 3), 1 / 3)), of_states(states))


def test_the_table_has_a_line_for_each_number_of_lines() -> None:
    score = score_recogniser(Answering(np.full((2, 2), 0.5)), of_states([0, 1]))
    table = report_table({16: score, 64: score}).splitlines()
    assert [line.split()[0] for line in table[1:3]] == ["16", "64"]
    assert max(map(len, table)) <= 80
