"""Expected transitions of all episodes (Baum-Welch), compiled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spm_gym.jit import compiled

FIRST = -1
"""Stands for the action before the first image of an episode."""

_TINY = 2.2250738585072014e-308


@compiled
def expect(
    likelihoods: NDArray[np.float64],
    actions: NDArray[np.int64],
    table: NDArray[np.float64],
    start: NDArray[np.float64],
    counts: NDArray[np.float64],
    starts: NDArray[np.float64],
) -> float:
    """Add the expected transitions of all episodes, one after the other.

    Args:
        likelihoods: Of every image given each class, (N, S).
        actions: Before each image, (N,); `FIRST` begins an episode.
        table: Probabilities of the transitions, (A, S, S).
        start: Distribution of the first class, (S,).
        counts: Receives the expected transitions, (A, S, S).
        starts: Receives the expected first classes, (S,).

    Returns:
        Logarithm of the likelihood of all images.
    """
    number, classes = likelihoods.shape
    forward = np.empty((number, classes))
    scale = np.empty(number)
    logarithm = _filter(likelihoods, actions, table, start, forward, scale)
    backward, after = np.ones(classes), np.ones(classes)
    for n in range(number - 1, -1, -1):
        if n == number - 1 or actions[n + 1] == FIRST:
            backward[:] = 1.0
        for s in range(classes):
            factor = likelihoods[n, s] / scale[n] if scale[n] > 0 else 1.0
            after[s] = backward[s] * factor
        if actions[n] == FIRST:
            starts += start * after
        else:
            action = actions[n]
            _step_back(forward[n - 1], table[action], after, backward, counts[action])
    return logarithm


@compiled
def _filter(
    likelihoods: NDArray[np.float64],
    actions: NDArray[np.int64],
    table: NDArray[np.float64],
    start: NDArray[np.float64],
    forward: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> float:
    """Compute the belief after every image, (N, S), and the likelihood of each image, (N,)."""
    logarithm = 0.0
    for n in range(len(actions)):
        present = forward[n]
        if actions[n] == FIRST:
            present[:] = start
        else:
            _step_forward(forward[n - 1], table[actions[n]], present)
        total = (present * likelihoods[n]).sum()
        # As in the filter of the agent: an image that no believed class explains changes nothing.
        # The scale 0 marks it for the second pass.
        scale[n] = total if total >= _TINY else 0.0
        if scale[n] > 0:
            logarithm += np.log(total)
            present *= likelihoods[n] / total
    return logarithm


# Loops: of rows so short, every operation on whole arrays would mostly allocate memory.
@compiled
def _step_forward(
    before: NDArray[np.float64], step: NDArray[np.float64], after: NDArray[np.float64]
) -> None:
    """Write the belief after an action, without its image."""
    after[:] = 0.0
    for s in range(len(before)):
        for t in range(len(after)):
            after[t] += before[s] * step[s, t]


@compiled
def _step_back(
    before: NDArray[np.float64],
    step: NDArray[np.float64],
    after: NDArray[np.float64],
    backward: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> None:
    """Add the expected transitions of an action, and write the factors before it to ``backward``.

    Args:
        before: Belief before the action, (S,).
        step: Probabilities of the action, (S, S).
        after: Likelihood given the class after the action of all that follows, (S,).
        backward: Receives the same of the class before the action, (S,).
        counts: Receives the expected transitions, (S, S).
    """
    for s in range(len(before)):
        backward[s] = 0.0
        for t in range(len(after)):
            product = step[s, t] * after[t]
            counts[s, t] += before[s] * product
            backward[s] += product
