"""Effects of the actions on the probe, learned from episodes whose classes are hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from agents.belief.errors import BeliefError
from agents.belief.forward_backward import FIRST, expect
from spm_gym.plain_state import StateError, array_of, restored

Floats = NDArray[np.float64]

# Both from a search on simulated agents: with less on what is unknown, an action that did nothing
# when it was first tried is hardly drawn again.
UNKNOWN = 0.5
"""Weight of all transitions of a row together, if nothing is known of an action."""

NOTHING_HAPPENS = 0.3
"""Weight of staying in the class, if nothing is known: many acts leave the probe as it is."""

DOUBT = 0.1
"""Weight of all transitions of a row together, beside those of a table of another world."""

_ROUNDING = 1e-6

_Table = Annotated[Floats, array_of(np.float64, None, None, None)]
_Rows = Annotated[Floats, array_of(np.float64, None, None)]
_Vector = Annotated[Floats, array_of(np.float64, None)]
_Actions = Annotated[NDArray[np.int64], array_of(np.int64, None)]


@dataclass(frozen=True, slots=True)
class _StoredEpisodes:
    """State of `LearnedTransitions`."""

    prior: _Table
    counts: _Table
    starts: _Vector
    likelihoods: _Rows
    actions: _Actions


def uninformed_prior(actions: int, classes: int) -> Floats:
    """Dirichlet weights (A, S, S) without knowledge of the actions."""
    row = np.full((classes, classes), UNKNOWN / classes) + NOTHING_HAPPENS * np.eye(classes)
    return np.tile(row, (actions, 1, 1))


def table_prior(table: Floats, actions: int, classes: int, strength: float) -> Floats:
    """Dirichlet weights (A, S, S) from a table of another world.

    Args:
        table: Of transitions, (A, S, S).
        actions: A.
        classes: S.
        strength: Number of observations of each row that it is worth.

    Raises:
        BeliefError: It is of other actions or classes, or its rows are no distributions.
    """
    if table.shape != (actions, classes, classes):
        raise BeliefError(
            f"a table for {actions} actions and {classes} classes has the shape "
            f"{(actions, classes, classes)}, not {table.shape}"
        )
    # Not negated: a comparison with NaN is false.
    if not ((table >= 0).all() and (np.abs(table.sum(axis=2) - 1) <= _ROUNDING).all()):
        raise BeliefError("every row of a table of transitions must be probabilities that sum to 1")
    # A trace of doubt, or what the table calls impossible could never be learned.
    return strength * table + DOUBT / classes


def carried_over(weights: Floats, most: float) -> Floats:
    """Dirichlet weights (A, S, S) from those that were learned in an earlier run.

    A row of which little was learned stays as open as it was; of the others none weighs more than
    ``most`` observations, so that another tip can still be learned.
    """
    total = weights.sum(axis=2, keepdims=True)
    return np.asarray(weights * np.minimum(1.0, most / total))


class LearnedTransitions:
    """Posterior over the table of transitions, from a Dirichlet prior and stored episodes.

    Args:
        prior: Dirichlet weights (A, S, S), all positive.
    """

    def __init__(self, prior: Floats) -> None:
        if not (np.isfinite(prior).all() and (prior > 0).all()):
            raise BeliefError("the weights of a prior must be positive and finite")
        self._prior = prior.copy()
        self._counts = np.zeros_like(prior)
        self._starts = np.zeros(prior.shape[1])
        self._likelihoods: list[Floats] = []
        self._actions: list[int] = []

    @property
    def actions(self) -> int:
        """How many transitions are stored."""
        return sum(action != FIRST for action in self._actions)

    def begin(self, likelihoods: Floats) -> None:
        """Store the likelihood (S,) of the first image of an episode."""
        self._store(FIRST, likelihoods)

    def add(self, action: int, likelihoods: Floats) -> None:
        """Store an action and the likelihood (S,) of the image after it.

        Raises:
            BeliefError: There is no such action, or no episode has been started.
        """
        if not 0 <= action < len(self._prior):
            raise BeliefError(f"an action lies between 0 and {len(self._prior) - 1}, not {action}")
        if not self._actions:
            raise BeliefError("an episode begins with an image, not with an action")
        self._store(action, likelihoods)

    def _store(self, action: int, likelihoods: Floats) -> None:
        classes = self._prior.shape[1]
        if likelihoods.shape != (classes,) or not possible(likelihoods):
            raise BeliefError(f"likelihoods of {classes} classes are finite and not negative")
        self._actions.append(action)
        self._likelihoods.append(np.array(likelihoods, np.float64))

    def learn(self, rounds: int) -> list[float]:
        """Do rounds of expectation-maximisation, beginning with the present mean.

        Returns:
            Logarithm, before each round, of the likelihood of all images times the prior's density
            (up to a constant); it never falls.
        """
        if not self._actions:
            return []
        likelihoods = np.stack(self._likelihoods)
        actions = np.array(self._actions, np.int64)
        objective = []
        for _ in range(rounds):
            table, start = self.mean(), self.start()
            counts, starts = np.zeros_like(self._counts), np.zeros_like(self._starts)
            fit = expect(likelihoods, actions, table, start, counts, starts)
            # The mean of a posterior is the mode of one with a weight more everywhere: so the
            # prior counts as a density with these exponents.
            doubt = self._prior * np.log(table)
            first = np.log(start).sum() / len(start)
            objective.append(float(fit + doubt.sum() + first))
            self._counts, self._starts = counts, starts
        return objective

    @property
    def weights(self) -> Floats:
        """Dirichlet weights (A, S, S) of the posterior."""
        return np.asarray(self._prior + self._counts)

    @property
    def observed(self) -> Floats:
        """Expected number of times that each action was done on each class, (A, S)."""
        return np.asarray(self._counts.sum(axis=2))

    @property
    def prior_mean(self) -> Floats:
        """Mean table (A, S, S) of the prior."""
        return np.asarray(self._prior / self._prior.sum(axis=2, keepdims=True))

    def mean(self) -> Floats:
        """Mean table (A, S, S) of the posterior."""
        weights = self.weights
        return np.asarray(weights / weights.sum(axis=2, keepdims=True))

    def draw(self, rng: np.random.Generator) -> Floats:
        """Draw a table (A, S, S) from the posterior (Thompson sampling)."""
        weights = rng.standard_gamma(self.weights)
        # Tiny weights may all underflow; such a row is its mean.
        total = weights.sum(axis=2, keepdims=True)
        drawn = np.divide(weights, total, out=self.mean(), where=total > 0)
        return np.asarray(drawn)

    def start(self) -> Floats:
        """Distribution (S,) of the class of an episode's first image."""
        weights = self._starts + 1 / len(self._starts)
        return np.asarray(weights / weights.sum())

    def get_state(self) -> dict[str, Any]:
        """Collect all that is needed to continue."""
        classes = self._prior.shape[1]
        stored = _StoredEpisodes(
            self._prior.copy(),
            self._counts.copy(),
            self._starts.copy(),
            np.array(self._likelihoods, np.float64).reshape(-1, classes),
            np.array(self._actions, np.int64),
        )
        return asdict(stored)

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave.

        Raises:
            StateError: It belongs to other actions or classes, or is damaged.
        """
        stored = restored(_StoredEpisodes, state)
        self._check(stored)
        self._prior, self._counts = stored.prior.copy(), stored.counts.copy()
        self._starts = stored.starts.copy()
        self._likelihoods = list(stored.likelihoods.copy())
        self._actions = stored.actions.tolist()

    def _check(self, stored: _StoredEpisodes) -> None:
        shape = self._prior.shape
        if stored.prior.shape != shape or stored.counts.shape != shape:
            raise StateError(
                f"the stored table of transitions has the shape {stored.prior.shape}, not {shape}"
            )
        if stored.starts.shape != shape[1:2] or stored.likelihoods.shape != (
            len(stored.actions),
            shape[1],
        ):
            raise StateError("the stored episodes are of other classes or of another length")
        weights: Sequence[Floats] = (stored.counts, stored.starts, stored.likelihoods)
        if not (all(map(possible, weights)) and (stored.prior > 0).all()):
            raise StateError("the stored weights of transitions are not all possible")
        actions = stored.actions
        # Compiled code reads the table without asking whether there is such a row.
        if len(actions) and not (
            actions[0] == FIRST and (actions >= FIRST).all() and (actions < shape[0]).all()
        ):
            raise StateError("the stored episodes have impossible actions")


def possible(weights: Floats) -> bool:
    """Tell whether all are finite and not negative."""
    return bool(np.isfinite(weights).all() and (weights >= 0).all())
