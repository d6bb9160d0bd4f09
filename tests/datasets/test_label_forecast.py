"""Forecasts of more labels come true on images whose learning curve is known."""

from __future__ import annotations

import numpy as np
import pytest

from spm_gym.datasets.label_forecast import (
    FEWEST_LABELS,
    MORE,
    LabelForecast,
    forecast_labels,
    quick_scores,
)

SIZE = 20


def labelled(
    count: int, seed: int, sessions: int = 10, spread: float = 0.4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Statistics that tell good from bad in a few of their directions; sessions differ."""
    rng = np.random.default_rng(seed)
    good = rng.random(count) < 0.4
    session = rng.integers(sessions, size=count)
    points = rng.normal(size=(count, SIZE))
    points[:, :4] += 0.45 * np.where(good, 1, -1)[:, None]
    points += spread * rng.normal(size=(sessions, SIZE))[session]
    return points, good, session.astype(str)


def true_auc(points: np.ndarray, good: np.ndarray) -> float:
    """AUC of the quick model on very many images of other sessions."""
    others, truth, _ = labelled(2000, 999, sessions=400)
    score = quick_scores(points, good, others)
    return float((score[truth][:, None] > score[~truth]).mean())


def forecast(count: int, seed: int, **options: float) -> LabelForecast:
    found = forecast_labels(*labelled(count, seed, **options))  # type: ignore[arg-type]
    assert found is not None
    return found


def test_forecasts_come_true() -> None:
    hits, gains, true_gains = 0, [], []
    for seed in range(16):
        points, good, session = labelled(90 + MORE, seed)
        now, then = true_auc(points[:90], good[:90]), true_auc(points, good)
        found = forecast_labels(points[:90], good[:90], session[:90])
        assert found is not None
        assert found.by_session
        gains.append(found.gain.value)
        true_gains.append(then - now)
        for estimate, truth in ((found.now, now), (found.then, then), (found.gain, then - now)):
            low, high = estimate.interval
            assert low <= estimate.value <= high
            hits += low <= truth <= high
    assert hits >= 0.85 * 3 * 16
    assert np.mean(true_gains) > 0.01
    assert np.mean(gains) == pytest.approx(np.mean(true_gains), rel=0.5)


def test_the_more_labels_there_are_the_less_the_next_bring() -> None:
    few, many = forecast(60, 0), forecast(1000, 0)
    assert few.gain.value > 5 * many.gain.value >= 0
    assert np.diff(many.now.interval) < np.diff(few.now.interval)
    assert many.sizes[-1] > 700
    assert np.all(np.diff(few.curve) >= 0)


def test_labels_that_say_nothing_promise_nothing() -> None:
    points, good, session = labelled(200, 1)
    found = forecast_labels(np.random.default_rng(0).normal(size=points.shape), good, session)
    assert found is not None
    low, high = found.then.interval
    assert low < 0.5 < high
    assert found.gain.value < 0.03


def test_nothing_is_better_than_perfect() -> None:
    points, good, session = labelled(60, 7)
    found = forecast_labels(points + 0.4 * good[:, None], good, session)
    assert found is not None
    assert not found.faultless
    assert found.then.interval[1] <= 1


def test_labels_without_a_mistake_promise_nothing_either() -> None:
    _, good, session = labelled(120, 2)
    found = forecast_labels(np.where(good, 1.0, 0.0)[:, None], good, session)
    assert found is not None
    assert found.faultless
    assert "makes no mistake on the others, so they cannot show" in found.in_words
    assert "AUC" not in found.in_words


@pytest.mark.parametrize("kinds", [(0, 0), (0, 300), (300, 0), (FEWEST_LABELS - 1, 300)])
def test_too_few_labels_of_a_kind_give_none(kinds: tuple[int, int]) -> None:
    good = np.repeat([True, False], kinds)
    statistics = np.zeros((len(good), SIZE))
    assert forecast_labels(statistics, good, np.full(len(good), "")) is None


def test_where_sessions_are_too_few_it_is_scored_on_other_images() -> None:
    assert not forecast(80, 3, sessions=1).by_session
    assert not forecast(80, 3, sessions=4).by_session
    points, good, _ = labelled(80, 4)
    # Nor are names that every image has for itself.
    single = forecast_labels(points, good, np.arange(80).astype(str))
    assert single is not None
    assert not single.by_session
    # Five evenings are too few if the good images are all of one.
    session = np.where(good, "a", np.array(list("bcde" * 20)))
    found = forecast_labels(points, good, session)
    assert found is not None
    assert not found.by_session


def test_the_same_labels_give_the_same_forecast_even_with_damaged_statistics() -> None:
    points, good, session = labelled(80, 5)
    points[0], points[1, 3], points[:, 7] = np.nan, np.inf, np.nan
    first, second = (forecast_labels(points, good, session) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.in_words == second.in_words
    assert np.isfinite(first.curve_intervals).all()
    assert np.array_equal(first.curve, second.curve)
    other = forecast_labels(points, good, session, seed=1)
    assert other is not None
    assert other.gain != first.gain


def test_words() -> None:
    assert forecast(80, 6).in_words.startswith("AUC 0.")
    assert f"with {MORE} more about 0." in forecast(80, 6).in_words
