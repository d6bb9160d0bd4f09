"""Score of a classifier on labelled images that it was not trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from agents.classifier_report import calibration_error
from spm_gym.types import BoolArray

_RESAMPLES = 1000
_ENDS = (0.025, 0.975)

_SIMULATED = 200

Figure = Callable[[NDArray[np.intp]], float]


def summarise_score(
    probability: NDArray[np.float64],
    unknown: BoolArray,
    good: BoolArray | None,
    session: NDArray[np.str_],
    threshold: float,
    agreed: BoolArray | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute all figures with 95 % intervals, by a bootstrap over sessions.

    Images of a session are much alike: drawn one by one they would make the intervals far too
    narrow. With a single session images are drawn.

    Args:
        probability: Of a good probe, (N,), also of unknown images.
        unknown: Whether each image is unlike the training, (N,); it then is called neither.
        good: Labels (N,); None if nobody has labelled the images.
        session: Of each image, (N,).
        threshold: An image is called good where the probability is greater.
        agreed: Which images several people call the same, (N,); None if there are none.
        seed: Of the bootstrap.

    Returns:
        JSON values: ``images``, ``good``, ``bad``, ``sessions``, ``threshold`` (the numbers of good
        and bad ones are None without labels); the figures ``auc``, ``auc_agreed``, ``ece``,
        ``true_positive_rate``, ``false_positive_rate``, ``good_share``, ``unknown_share``, each
        None where it is not defined; ``ci95``, their intervals; and ``ece_calibrated``, the
        calibration error that calibrated probabilities would show on as many images.
    """
    labels = np.zeros(len(probability), np.bool_) if good is None else good
    by_label, shares = _figures(probability, unknown, labels, threshold, agreed)
    figures = shares if good is None else by_label | shares
    rng = np.random.default_rng(seed)
    names, of_image = np.unique(session, return_inverse=True)
    units = [np.flatnonzero(of_image == n) for n in range(len(names))]
    if len(units) == 1:
        units = [np.array([n]) for n in range(len(labels))]
    drawn: dict[str, list[float]] = {name: [] for name in figures}
    for _ in range(_RESAMPLES):
        index = np.concatenate([units[n] for n in rng.integers(len(units), size=len(units))])
        for name, figure in figures.items():
            drawn[name].append(figure(index))
    everything = np.arange(len(labels))
    values = {name: figure(everything) for name, figure in figures.items()}
    missing = dict.fromkeys(by_label.keys() - figures.keys())
    return {
        "images": len(labels),
        "good": None if good is None else int(good.sum()),
        "bad": None if good is None else int((~good).sum()),
        "sessions": len(names),
        "threshold": threshold,
        **{name: None if np.isnan(value) else value for name, value in values.items()},
        **missing,
        "ece_calibrated": None if good is None else _least_error(probability, rng),
        "ci95": {name: _interval(each) for name, each in drawn.items()} | missing,
    }


def _figures(
    probability: NDArray[np.float64],
    unknown: BoolArray,
    labels: BoolArray,
    threshold: float,
    agreed: BoolArray | None,
) -> tuple[dict[str, Figure], dict[str, Figure]]:
    """Give the figures of some of the images by name: those that need labels, and the others."""
    called = (probability > threshold) & ~unknown

    def area(index: NDArray[np.intp]) -> float:
        some = labels[index]
        defined = 0 < some.sum() < some.size
        return float(roc_auc_score(some, probability[index])) if defined else np.nan

    def error(index: NDArray[np.intp]) -> float:
        some = labels[index]
        defined = 0 < some.sum() < some.size
        return calibration_error(probability[index], some) if defined else np.nan

    return {
        "auc": area,
        "auc_agreed": lambda index: np.nan if agreed is None else area(index[agreed[index]]),
        "ece": error,
        "true_positive_rate": lambda index: _mean(called[index][labels[index]]),
        "false_positive_rate": lambda index: _mean(called[index][~labels[index]]),
    }, {
        "good_share": lambda index: _mean(called[index]),
        "unknown_share": lambda index: _mean(unknown[index]),
    }


def _least_error(probability: NDArray[np.float64], rng: np.random.Generator) -> float:
    # Chance alone makes the share of good images differ from the probability in every bin.
    labels = rng.random((_SIMULATED, len(probability))) < probability
    return float(np.mean([calibration_error(probability, each) for each in labels]))


def _mean(values: BoolArray) -> float:
    return float(values.mean()) if values.size else np.nan


def _interval(values: list[float]) -> list[float] | None:
    # A resample without one of the classes says nothing.
    defined = np.array(values)[~np.isnan(values)]
    return np.quantile(defined, _ENDS).tolist() if defined.size else None
