"""Temperatures and sets of labels, on probabilities that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.calibration import fitted_mixture, fitted_temperature, label_sets
from agents.classifier_report import calibration_error
from agents.classifier_score import summarise_score


def drawn(count: int, seed: int, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are calibrated, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, count)
    return logits, rng.random(count) < 1 / (1 + np.exp(-logits))


@given(temperature=st.floats(0.2, 5), seed=st.integers(0, 10))
def test_a_temperature_is_found_again(temperature: float, seed: int) -> None:
    logits, good = drawn(20_000, seed)
    assert fitted_temperature(logits * temperature, good) == pytest.approx(temperature, rel=0.1)


def test_overconfident_answers_are_calibrated() -> None:
    logits, good = drawn(20_000, 1)
    raw = 5 * logits
    temperature = fitted_temperature(raw, good)
    before, after = (1 / (1 + np.exp(-raw / t)) for t in (1.0, temperature))
    assert calibration_error(before, good) > 0.1
    assert calibration_error(after, good) < 0.02


@given(temperature=st.floats(0.3, 3), weight=st.floats(0.3, 3), seed=st.integers(0, 10))
def test_a_mixture_is_found_again(temperature: float, weight: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0, 2, (2, 20_000))
    good = rng.random(20_000) < 1 / (1 + np.exp(-(first + weight * second) / temperature))
    assert fitted_mixture(first, second, good) == pytest.approx((temperature, weight), rel=0.15)


def test_what_contradicts_what_it_learned_gets_no_weight() -> None:
    logits, good = drawn(5000, 2)
    contrary = np.random.default_rng(3).normal(0, 2, 5000) - logits
    temperature, weight = fitted_mixture(logits, contrary, good)
    assert weight == pytest.approx(0, abs=0.05)
    assert temperature == pytest.approx(1, rel=0.1)


@given(seed=st.integers(0, 200), coverage=st.sampled_from([0.8, 0.9, 0.95]))
def test_sets_cover_what_they_state(seed: int, coverage: float) -> None:
    logits, good = drawn(4000, seed)
    probability = 1 / (1 + np.exp(-logits))
    sets = label_sets(probability[:2000], good[:2000], coverage)
    fresh, labels = probability[2000:], good[2000:]
    for kind in (labels, ~labels):
        assert sets.covered(fresh[kind], labels[kind]) > coverage - 0.08
    assert 0 <= sets.ambiguous(fresh) <= 1


def test_too_few_images_cover_by_naming_both() -> None:
    sets = label_sets(np.array([0.9, 0.1]), np.array([True, False]))
    assert (sets.good_from, sets.bad_to) == (0, 1)


def test_a_score_has_intervals_over_sessions() -> None:
    logits, good = drawn(600, 3)
    session = np.repeat([f"evening {n}" for n in range(6)], 100)
    unknown = np.arange(600) % 10 == 0
    surest = np.abs(logits) > 2
    found = summarise_score(1 / (1 + np.exp(-logits)), unknown, good, session, 0.5, surest)
    assert found["auc_agreed"] > found["auc"]
    # They are calibrated: all of the error is chance.
    assert found["ece"] == pytest.approx(found["ece_calibrated"], abs=0.02)
    assert (found["images"], found["sessions"]) == (600, 6)
    assert found["unknown_share"] == 0.1
    for name, interval in found["ci95"].items():
        assert interval[0] <= found[name] <= interval[1]
    called = (logits > 0) & ~unknown
    assert found["good_share"] == called.mean()
    assert found["false_positive_rate"] == called[~good].mean()


def test_without_labels_a_score_has_shares_only() -> None:
    probability, unknown = np.array([0.3, 0.9, 0.8, 0.1, 0.2]), np.arange(5) == 2
    found = summarise_score(probability, unknown, None, np.full(5, ""), 0.5)
    rates = ("auc", "auc_agreed", "ece", "true_positive_rate", "false_positive_rate")
    for name in ("good", "bad", "ece_calibrated", *rates):
        assert found[name] is None
    assert found["ci95"]["auc"] is None
    assert (found["unknown_share"], found["good_share"]) == (0.2, 0.2)


def test_with_labels_of_one_kind_there_is_no_area() -> None:
    found = summarise_score(
        np.full(5, 0.7), np.zeros(5, bool), np.ones(5, bool), np.full(5, ""), 0.5
    )
    assert found["auc"] is found["ece"] is found["false_positive_rate"] is None
    assert found["true_positive_rate"] == 1
