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

Figure = Callable[[NDArray[np.float64], BoolArray, BoolArray], float]


def summarise_score(
    probability: NDArray[np.float64],
    unknown: BoolArray,
    good: BoolArray | None,
    session: NDArray[np.str_],
    threshold: float,
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
        seed: Of the bootstrap.

    Returns:
        JSON values: ``images``, ``good``, ``bad``, ``sessions``, ``threshold`` (the numbers of good
        and bad ones are None without labels); the figures
        ``auc``, ``ece``, ``true_positive_rate``, ``false_positive_rate``, ``good_share``,
        ``unknown_share``, each None where it is not defined; and ``ci95``, their intervals.
    """

    def called(p: NDArray[np.float64], u: BoolArray) -> BoolArray:
        return np.asarray((p > threshold) & ~u)

    by_label: dict[str, Figure] = {
        "auc": lambda p, u, g: float(roc_auc_score(g, p)) if 0 < g.sum() < g.size else np.nan,
        "ece": lambda p, u, g: calibration_error(p, g) if 0 < g.sum() < g.size else np.nan,
        "true_positive_rate": lambda p, u, g: _mean(called(p, u)[g]),
        "false_positive_rate": lambda p, u, g: _mean(called(p, u)[~g]),
    }
    shares: dict[str, Figure] = {
        "good_share": lambda p, u, g: _mean(called(p, u)),
        "unknown_share": lambda p, u, g: _mean(u),
    }
    labels = np.zeros(len(probability), np.bool_) if good is None else good
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
            drawn[name].append(figure(probability[index], unknown[index], labels[index]))
    values = {name: figure(probability, unknown, labels) for name, figure in figures.items()}
    missing = dict.fromkeys(by_label.keys() - figures.keys())
    return {
        "images": len(labels),
        "good": None if good is None else int(good.sum()),
        "bad": None if good is None else int((~good).sum()),
        "sessions": len(names),
        "threshold": threshold,
        **{name: None if np.isnan(value) else value for name, value in values.items()},
        **missing,
        "ci95": {name: _interval(each) for name, each in drawn.items()} | missing,
    }


def _mean(values: BoolArray) -> float:
    return float(values.mean()) if values.size else np.nan


def _interval(values: list[float]) -> list[float] | None:
    # A resample without one of the classes says nothing.
    defined = np.array(values)[~np.isnan(values)]
    return np.quantile(defined, _ENDS).tolist() if defined.size else None
