"""Episodes of a known hidden process, and observers that are more or less sure."""

from __future__ import annotations

import numpy as np

from agents.belief.transitions import LearnedTransitions, uninformed_prior

ACTIONS, CLASSES = 2, 3
TABLE = np.array(
    [
        [[0.8, 0.1, 0.1], [0.0, 0.7, 0.3], [0.4, 0.0, 0.6]],
        [[0.1, 0.9, 0.0], [0.5, 0.5, 0.0], [0.0, 0.2, 0.8]],
    ]
)
START = np.array([0.0, 0.25, 0.75])


def observed(
    right: float, episodes: int, seed: int = 0, length: int = 20, prior: np.ndarray | None = None
) -> LearnedTransitions:
    """Store episodes whose observer names the right class with probability ``right``."""
    rng = np.random.default_rng(seed)
    names = np.full((CLASSES, CLASSES), (1 - right) / (CLASSES - 1))
    np.fill_diagonal(names, right)
    learned = LearnedTransitions(uninformed_prior(ACTIONS, CLASSES) if prior is None else prior)
    for _ in range(episodes):
        state = rng.choice(CLASSES, p=START)
        learned.begin(names[:, rng.choice(CLASSES, p=names[state])])
        for _ in range(length):
            action = int(rng.integers(ACTIONS))
            state = rng.choice(CLASSES, p=TABLE[action, state])
            learned.add(action, names[:, rng.choice(CLASSES, p=names[state])])
    return learned
