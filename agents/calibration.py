"""Probabilities that mean what they say: temperature, and sets with a stated coverage."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

from spm_gym.types import BoolArray

_Array = NDArray[np.float64]

COVERAGE = 0.9
"""Share of the images whose set of labels has to contain the right one."""

_RANGE = math.log(0.05), math.log(20.0)


def fitted_temperature(logits: _Array, good: BoolArray) -> float:
    """Find by what logits (N,) of held-out images must be divided to be calibrated.

    Of all temperatures the one of the highest likelihood (Guo et al., ICML 2017); the order of the
    images, and so every rate, stays as it is.
    """
    signed = np.where(good, logits, -logits).astype(float)

    def loss(logarithm: float) -> float:
        return float(np.logaddexp(0, -signed * math.exp(-logarithm)).mean())

    found = minimize_scalar(loss, bounds=_RANGE, method="bounded")
    return math.exp(float(found.x))


def fitted_mixture(first: _Array, second: _Array, good: BoolArray) -> tuple[float, float]:
    """Find how the outputs (N,) of two networks for held-out images give calibrated logits.

    Args:
        first: Outputs of one network.
        second: Outputs of another one.
        good: Labels (N,).

    Returns:
        Temperature and weight of the highest likelihood, for logits
        ``(first + weight * second) / temperature``: a temperature scaling of two outputs in place
        of one. The weight is not negative: neither may contradict what it has learned.
    """
    sign = np.where(good, 1.0, -1.0)

    def loss(factors: _Array) -> float:
        logits = factors[0] * first + factors[1] * second
        return float(np.logaddexp(0, -sign * logits).mean())

    smallest, largest = (math.exp(each) for each in _RANGE)
    found = minimize(loss, (0.5, 0.5), bounds=[(smallest, largest), (0, largest)])
    one, other = (float(each) for each in found.x)
    return 1 / one, other / one


class LabelSets(NamedTuple):
    """Sets of labels from split-conformal prediction, for each label by itself.

    An image of probability p may be good if p is at least ``good_from``, and bad if it is at most
    ``bad_to``; of the images of either label the share ``coverage`` has it in its set, for images
    like those of the calibration. Between the two an image may be either, or is like neither.

    Attributes:
        coverage: Of either label.
        good_from: Least probability of a good one.
        bad_to: Largest probability of a bad one.
    """

    coverage: float
    good_from: float
    bad_to: float

    def covered(self, probability: _Array, good: BoolArray) -> float:
        """Measure the share of images whose set has their label."""
        inside = np.where(good, probability >= self.good_from, probability <= self.bad_to)
        return float(inside.mean())

    def ambiguous(self, probability: _Array) -> float:
        """Measure the share of images that may be either."""
        both = (probability >= self.good_from) & (probability <= self.bad_to)
        return float(both.mean())


def label_sets(probability: _Array, good: BoolArray, coverage: float = COVERAGE) -> LabelSets:
    """Calibrate sets of labels on held-out images, of which there are good and bad ones.

    Args:
        probability: Of a good probe, (N,).
        good: Labels (N,).
        coverage: Share of the images of either label whose set must have it.
    """
    return LabelSets(
        coverage,
        good_from=1 - _quantile(1 - probability[good], coverage),
        bad_to=_quantile(probability[~good], coverage),
    )


def _quantile(scores: _Array, coverage: float) -> float:
    # One rank more than the share itself pays for the image that is asked about (Vovk et al.).
    rank = math.ceil((len(scores) + 1) * coverage)
    return 1.0 if rank > len(scores) else float(np.sort(scores)[rank - 1])
