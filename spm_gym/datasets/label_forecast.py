"""Forecasts of more labels: a learning curve of a quick model, and how it goes on.

The model is a linear one on statistics of the images. It is fitted to random parts of the labels,
each within the next larger one, and scored on the others; an inverse power law, fitted to that,
forecasts the score with more labels (R. L. Figueroa et al., *BMC Med. Inform. Decis. Mak.* 12, 8
(2012)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_gym.intervals import Interval
from spm_gym.types import BoolArray

FEWEST_LABELS = 20
"""Of either kind: with fewer, the interval of an AUC is as wide as the range that matters."""

MORE = 50
"""Further labels that are forecast."""

_FEWEST_SESSIONS = 5
_FOLDS = 5
_REPEATS = 20
_SIZES = 8
_SMALLEST = 12
_MOST_COMPARED = 400
"""Labels of either kind that are scored: their pairs are kept."""

_RIDGE = 10.0
"""Of the scaled statistics. On H:Si(100) the best from 30 to 1000 labels, or close to it."""

_DRAWS = 400
_ENDS = (0.025, 0.975)
_EXPONENTS = np.array([0.25, 0.5, 0.75, 1.0, 1.5])
"""Of learning curves, most of which decay by one of 0.5 to 1; a free one fits noise."""

_Array = NDArray[np.float64]
_Indices = NDArray[np.intp]


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class LabelForecast:
    """A learning curve and its continuation. AUC is the area under the ROC curve.

    Attributes:
        labels: How many labels there are.
        by_session: Whether it is scored on other sessions than those that it has learned from;
            otherwise on other images.
        sizes: Of the parts that it has learned from, (S,).
        measured: AUC after learning from them, (S,).
        measured_intervals: 95 %, (S, 2).
        curve_sizes: Numbers of labels, up to `MORE` more than there are, (C,).
        curve: AUC by the power law, (C,).
        curve_intervals: 95 %, (C, 2).
        now: AUC with all labels.
        then: AUC with `MORE` more.
        gain: The difference: on average, and where it will lie, depending on which labels come.
            Narrower than the intervals of the two, which have the same images.
    """

    labels: int
    by_session: bool
    sizes: NDArray[np.int64]
    measured: _Array
    measured_intervals: _Array
    curve_sizes: _Array
    curve: _Array
    curve_intervals: _Array
    now: Estimate
    then: Estimate
    gain: Estimate

    @property
    def faultless(self) -> bool:
        """Whether the model makes no mistake on these labels: then they show nothing of others.

        Draws of them have none either, and an interval without width would promise certainty.
        """
        return bool(self.measured[-1] == 1)

    @property
    def in_words(self) -> str:
        """The score now and with more labels."""
        if self.faultless:
            return (
                f"after {self.sizes[-1]} of them it makes no mistake on the others, so they cannot "
                "show what more would bring"
            )
        now, then, gain = self.now, self.then, self.gain
        return (
            f"AUC {now.value:.2f} now ({_range(now, '.2f')}); with {MORE} more about "
            f"{then.value:.2f} ({_range(then, '.2f')}). The change is {gain.value:+.3f} on "
            f"average and {_range(gain, '+.3f')} in 95 of 100 cases"
        )


def _range(estimate: Estimate, digits: str) -> str:
    return " to ".join(_signed(end, digits) for end in estimate.interval)


def _signed(value: float, digits: str) -> str:
    return format(value, digits).replace("-", "\N{MINUS SIGN}")


def forecast_labels(
    statistics: _Array, good: BoolArray, session: NDArray[np.str_], seed: int = 0
) -> LabelForecast | None:
    """Estimate what `MORE` labels would bring.

    Scored are images of sessions that the model has not learned from: those of one session are much
    alike. Where too few sessions have good or bad images, it is other images.

    Args:
        statistics: Of the labelled images, by `spm_gym.imaging.statistics.image_statistics`,
            (N, K); what is not finite counts as the mean.
        good: Their labels, (N,).
        session: Their measurement sessions, (N,).
        seed: Of what is drawn.

    Returns:
        None if fewer than `FEWEST_LABELS` are good, or bad.
    """
    if min(good.sum(), (~good).sum()) < FEWEST_LABELS:
        return None
    finite = np.isfinite(statistics)
    points = np.where(finite, statistics, 0)
    points = np.where(finite, points, points.sum(axis=0) / np.maximum(finite.sum(axis=0), 1))
    group = np.unique(session, return_inverse=True)[1]
    by_session = _sessions_suffice(good, group)
    if not by_session:
        group = np.arange(len(good))
    rng = np.random.default_rng(seed)
    tables = _compare(points, good, group, rng)
    return _forecast(tables, len(good), by_session, rng)


def _sessions_suffice(good: BoolArray, group: _Indices) -> bool:
    """Tell whether both kinds are in several sessions, and not mostly in one."""
    # Sessions of single images are probably the names of files, and hide what belongs together.
    if 2 * len(np.unique(group)) > len(group):
        return False
    counts = [np.bincount(group, good == kind) for kind in (True, False)]
    return all(
        (each > 0).sum() >= _FEWEST_SESSIONS and each.max() <= each.sum() / 2 for each in counts
    )


class _Tables(NamedTuple):
    """Comparisons of every good image with every bad one.

    Attributes:
        sizes: Of the parts that were learned from, (S,).
        won: How often the good one had the higher score, (S, G, B); half where they were equal.
        compared: How often a model has scored both, (G, B).
        by_repeat: AUC of each repeat after each size, (R, S).
        good_groups: Group of each good image, (G,).
        bad_groups: Group of each bad image, (B,).
    """

    sizes: NDArray[np.int64]
    won: NDArray[np.float32]
    compared: NDArray[np.float32]
    by_repeat: _Array
    good_groups: _Indices
    bad_groups: _Indices


def _compare(points: _Array, good: BoolArray, group: _Indices, rng: np.random.Generator) -> _Tables:
    scored = [rng.permutation(np.flatnonzero(good == kind))[:_MOST_COMPARED] for kind in (1, 0)]
    divisions = [_divide(good, group, rng) for _ in range(_REPEATS)]
    smallest = min((fold != n).sum() for fold in divisions for n in range(fold.max() + 1))
    sizes = np.unique(np.geomspace(_SMALLEST, smallest, _SIZES).astype(np.int64))
    shape = len(scored[0]), len(scored[1])
    won = np.zeros((len(sizes), *shape), np.float32)
    compared = np.zeros(shape, np.float32)
    by_repeat = []
    for fold in divisions:
        before = won.sum(axis=(1, 2), dtype=np.float64), compared.sum(dtype=np.float64)
        for number in range(fold.max() + 1):
            order = _mixed(np.flatnonzero(fold != number), good, rng)
            # Only pairs within a fold: the scores of two models cannot be compared.
            rows, columns = (np.flatnonzero(fold[each] == number) for each in scored)
            pairs = np.ix_(rows, columns)
            compared[pairs] += 1
            for place, size in enumerate(sizes):
                part = order[:size]
                score = quick_scores(points[part], good[part], points)
                more = score[scored[0][rows], None] - score[scored[1][columns]]
                won[place][pairs] += (np.sign(more) + 1) / 2
        wins = won.sum(axis=(1, 2), dtype=np.float64) - before[0]
        by_repeat.append(wins / (compared.sum(dtype=np.float64) - before[1]))
    return _Tables(sizes, won, compared, np.array(by_repeat), group[scored[0]], group[scored[1]])


def _divide(good: BoolArray, group: _Indices, rng: np.random.Generator) -> _Indices:
    """Divide images into folds of whole groups, each with about as many of either kind."""
    counts = np.stack([np.bincount(group, good == kind) for kind in (True, False)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    load = np.zeros((2, _FOLDS))
    fold = np.empty(counts.shape[1], np.intp)
    order = rng.permutation(counts.shape[1])
    # The largest first: small ones can level what they leave.
    for number in order[np.argsort(-shares[:, order].sum(axis=0), kind="stable")]:
        fold[number] = ((load + shares[:, [number]]) ** 2 - load**2).sum(axis=0).argmin()
        load[:, fold[number]] += shares[:, number]
    return fold[group]


def _mixed(members: _Indices, good: BoolArray, rng: np.random.Generator) -> _Indices:
    """Put images in a random order of which every beginning has both kinds in proportion."""
    places = np.empty(len(members))
    for kind in (True, False):
        of_kind = np.flatnonzero(good[members] == kind)
        places[rng.permutation(of_kind)] = (np.arange(len(of_kind)) + rng.random()) / len(of_kind)
    return members[np.argsort(places, kind="stable")]


def quick_scores(points: _Array, good: BoolArray, others: _Array) -> _Array:
    """Fit a ridge regression to labels, with the two kinds in balance, and apply it to others."""
    mean, spread = points.mean(axis=0), points.std(axis=0) + 1e-9
    scaled = (points - mean) / spread
    weight = np.where(good, 0.5 / max(good.sum(), 1), 0.5 / max((~good).sum(), 1)) * len(good)
    target = np.where(good, 1.0, -1.0)
    matrix = (scaled * weight[:, None]).T @ scaled + _RIDGE * np.eye(scaled.shape[1])
    slope = np.linalg.solve(matrix, scaled.T @ (weight * target))
    return np.asarray(((others - mean) / spread) @ slope)


def _forecast(
    tables: _Tables, labels: int, by_session: bool, rng: np.random.Generator
) -> LabelForecast:
    curve_sizes = np.unique(
        np.r_[np.geomspace(tables.sizes[0], labels + MORE, 40), labels, labels + MORE]
    )
    # The first of the draws is what was drawn: everything once.
    measured = _draws(tables, rng)
    curves = _power_law(tables.sizes, measured, curve_sizes)
    now, then = (curves[:, np.searchsorted(curve_sizes, n)] for n in (labels, labels + MORE))
    luck = _luck(tables, labels) * np.r_[0, rng.standard_normal(len(then) - 1)]
    then = np.clip(then + luck, 0, 1)
    return LabelForecast(
        labels=labels,
        by_session=by_session,
        sizes=tables.sizes,
        measured=measured[0],
        measured_intervals=np.quantile(measured, _ENDS, axis=0).T,
        curve_sizes=curve_sizes,
        curve=curves[0],
        curve_intervals=np.quantile(curves, _ENDS, axis=0).T,
        now=_estimate(now),
        then=_estimate(then),
        gain=_estimate(then - now),
    )


def _luck(tables: _Tables, labels: int) -> float:
    """Estimate how far the gain with other `MORE` labels would differ, as a standard deviation.

    By that of the repeats after learning from half of the labels, which have few of these in
    common. On H:Si(100) it is 1.1 to 1.3 times that of the model of all labels. Of two models the
    larger of which has all labels of the smaller the difference varies less, by about the root.
    """
    half = int(np.abs(tables.sizes - labels / 2).argmin())
    return float(tables.by_repeat[:, half].std() * np.sqrt(1 - (labels / (labels + MORE)) ** 2))


def _estimate(values: _Array) -> Estimate:
    low, high = np.quantile(values, _ENDS)
    return Estimate(float(values[0]), (float(low), float(high)))


def _draws(tables: _Tables, rng: np.random.Generator) -> _Array:
    """Compute the AUC after each size, (1 + D, S), as measured and with groups drawn again."""
    groups = 1 + max(tables.good_groups.max(), tables.bad_groups.max())
    times = np.vstack(
        [np.ones(groups), rng.multinomial(groups, np.full(groups, 1 / groups), _DRAWS)]
    )
    good, bad = times[:, tables.good_groups], times[:, tables.bad_groups]
    pairs = np.einsum("dg,gb,db->d", good, tables.compared, bad, optimize=True)
    found = [np.einsum("dg,gb,db->d", good, won, bad, optimize=True) for won in tables.won]
    # A draw may have no pair at all, of few sessions.
    kept = pairs > 0
    return np.asarray((np.stack(found)[:, kept] / pairs[kept]).T)


def _power_law(sizes: NDArray[np.int64], auc: _Array, other_sizes: _Array) -> _Array:
    """Fit ``1 - auc = a + b size^-c`` to each curve (D, S), with a and b not below zero.

    Returns:
        Its AUC at other sizes, (D, C).
    """
    error = 1 - auc
    # Larger parts count more (Figueroa et al.): what comes is closer to them.
    weight = sizes / sizes.sum()
    least = np.full(len(auc), np.inf)
    best = np.empty((len(auc), len(other_sizes)))
    for exponent in _EXPONENTS:
        decay = sizes**-exponent
        centre, mean = weight @ decay, error @ weight
        spread = weight @ (decay - centre) ** 2
        slope = np.maximum((error - mean[:, None]) @ (weight * (decay - centre)) / spread, 0)
        floor = mean - slope * centre
        # Through the origin where the best floor would be an error below zero.
        steep = floor < 0
        slope[steep] = error[steep] @ (weight * decay) / (weight @ decay**2)
        floor[steep] = 0
        misfit = (error - floor[:, None] - slope[:, None] * decay) ** 2 @ weight
        better = misfit < least
        least[better] = misfit[better]
        fitted = 1 - floor[:, None] - slope[:, None] * other_sizes**-exponent
        best[better] = fitted[better]
    return best
