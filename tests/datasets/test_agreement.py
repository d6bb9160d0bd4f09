"""How well two people agree, and how sure that is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from spm_gym.datasets.agreement import Agreement, agreement
from spm_gym.datasets.manifest import (
    LABELS,
)

words = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1)


@given(words)
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    ones = {str(n): one for n, (one, _) in enumerate(pairs)} | {"only": "good"}
    others = {str(n): other for n, (_, other) in enumerate(pairs)}
    found = agreement("Anna", "Ben", ones, others)
    assert (found.both, found.equal) == (len(pairs), sum(a == b for a, b in pairs))
    if len({label for pair in pairs for label in pair}) == 1:
        assert found.kappa is None
    else:
        expected = cohen_kappa_score(*zip(*pairs, strict=True))
        assert found.kappa == pytest.approx(expected)


def of_table(table: list[list[int]]) -> Agreement:
    """Of two people of whom so many gave these labels, the first those of the rows."""
    pairs = [(f"{row}", f"{column}") for row, counts in enumerate(table)
             for column, count in enumerate(counts) for _ in range(count)]  # fmt: skip
    ones, others = ({str(n): pair[who] for n, pair in enumerate(pairs)} for who in (0, 1))
    return agreement("Anna", "Ben", ones, others)


def test_kappa_and_its_error_are_those_of_a_textbook() -> None:
    """Married couples on a questionnaire; A. Agresti, *Categorical Data Analysis*."""
    found = of_table([[7, 7, 2, 3], [2, 8, 3, 7], [1, 5, 4, 9], [2, 8, 9, 14]])
    assert found.kappa == pytest.approx(0.1293, abs=5e-5)
    assert found.error == pytest.approx(0.0686, abs=5e-5)


@pytest.mark.parametrize("table", [[[40, 5], [10, 45]], [[70, 12], [3, 15]],
                                   [[30, 2, 8], [5, 25, 1], [0, 9, 20]]])  # fmt: skip
def test_the_error_of_kappa_is_that_of_a_bootstrap(table: list[list[int]]) -> None:
    counts = np.array(table)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(counts.sum(), (counts / counts.sum()).ravel(), 5000)
    shares = drawn.reshape(-1, *counts.shape) / counts.sum()
    equal = np.trace(shares, axis1=1, axis2=2)
    by_accident = np.sum(shares.sum(axis=1) * shares.sum(axis=2), axis=1)
    kappas = (equal - by_accident) / (1 - by_accident)
    found = of_table(table)
    assert found.error == pytest.approx(kappas.std(), rel=0.05)
    assert found.interval == pytest.approx(tuple(np.quantile(kappas, [0.025, 0.975])), abs=0.04)


def test_kappa_in_words() -> None:
    assert of_table([[1, 0], [0, 1]]).in_words == "too few images to tell (2 of 20)"
    assert of_table([[10, 0], [0, 9]]).in_words == "too few images to tell (19 of 20)"
    assert (
        of_table([[20, 0], [0, 0]]).in_words == "cannot be calculated, for all labels are the same"
    )
    never = "no interval, for they differ never or always"
    assert of_table([[10, 0], [0, 10]]).in_words == f"1.00 ({never}), very good"
    assert of_table([[0, 10], [10, 0]]).in_words == f"-1.00 ({never}), less than by guessing"
    assert of_table([[45, 5], [5, 45]]).in_words == "0.80 (95 % interval 0.68 to 0.92), very good"
    assert of_table([[40, 10], [10, 40]]).in_words == "0.60 (95 % interval 0.44 to 0.76), good"
    assert of_table([[10, 0], [1, 9]]).interval is not None


def test_no_interval_of_kappa_leaves_its_range() -> None:
    for one in range(20):
        for other in range(one == 0, 20):
            found = of_table([[20, one], [other, 2]]).interval
            assert found is not None
            assert -1 <= found[0] < found[1] <= 1
