"""Bayes filter over the hidden class of the probe; all in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.belief.errors import BeliefError
from spm_gym.actions_to_go import GOOD

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VerdictRates:
    """How often the good/bad classifier calls a probe good.

    Attributes:
        true_positive: Of good probes.
        false_positive: Of bad probes.
    """

    true_positive: float
    false_positive: float

    def __post_init__(self) -> None:
        for rate in (self.true_positive, self.false_positive):
            # A verdict without exception would make one image outweigh all others.
            if not 0 < rate < 1:
                raise BeliefError(f"rates of the classifier lie between 0 and 1, not {rate}")

    def probabilities(self, called_good: bool, classes: int) -> Vector:
        """Probability (S,) of a verdict, given each class."""
        good = np.where(np.arange(classes) == GOOD, self.true_positive, self.false_positive)
        return np.asarray(good if called_good else 1 - good)


def likelihood(logarithms: Vector, shares: Vector, verdict: Vector) -> Vector:
    """Compute the likelihood (S,) of an image and its verdict, up to a factor; the largest is 1.

    Args:
        logarithms: Of the probability of each class given the image, up to a constant.
        shares: Of the classes in the recogniser's training, all positive.
        verdict: Probability of the verdict given each class.

    Raises:
        BeliefError: A logarithm is NaN, or infinitely large: there is no answer to act upon.
    """
    if not (logarithms < np.inf).all():  # fails for NaN, too
        raise BeliefError(f"the recogniser's answer is no probabilities: {logarithms.tolist()}")
    # By Bayes' rule P(image | s) is proportional to q(s | image) / share(s).
    with np.errstate(divide="ignore"):
        exponents = logarithms - np.log(shares) + np.log(verdict)
    highest = exponents.max()
    if not np.isfinite(highest):
        return np.ones(len(exponents))
    return np.asarray(np.exp(exponents - highest))


def correct(predicted: Vector, likelihoods: Vector) -> Vector:
    """Update a belief (S,) by an image; one that no believed class explains changes nothing.

    Raises:
        BeliefError: A likelihood is NaN, infinite or negative.
    """
    if not (np.isfinite(likelihoods) & (likelihoods >= 0)).all():
        raise BeliefError(f"likelihoods are finite and not negative, not {likelihoods.tolist()}")
    # Scaled first: products of two tiny numbers would underflow.
    highest = likelihoods.max()
    if highest == 0:
        return predicted.copy()
    joint = predicted * (likelihoods / highest)
    total = joint.sum()
    # Below the smallest normal number a quotient loses its digits, and at 0 there is none.
    if total < np.finfo(np.float64).tiny:
        return predicted.copy()
    return np.asarray(joint / total)


def update(
    belief: Vector, step: NDArray[np.float64], likelihoods: Vector
) -> tuple[Vector, NDArray[np.float64]]:
    """Predict the classes after an action, then correct by the image that follows it.

    Args:
        belief: Before the action, (S,).
        step: Probabilities of the action and the image after it, (S, S).
        likelihoods: Of the image, (S,), see `likelihood`.

    Returns:
        Belief after the image, (S,), and the expected transitions, (S, S), which sum to 1.
    """
    joint = belief[:, None] * step
    predicted = joint.sum(axis=0)
    after = correct(predicted, likelihoods)
    factors = np.divide(after, predicted, out=np.zeros(len(after)), where=predicted > 0)
    return after, np.asarray(joint * factors)
