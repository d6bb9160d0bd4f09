"""Exact values of policies in the hidden-state process, without learning.

The process has finitely many states, so the mean number of actions of a policy follows from linear
algebra and the optimum from value iteration. Every action is followed by an image, in which the tip
may change by itself. The clean square of each image allows some of the actions; its distribution,
given the state, is measured elsewhere and taken as independent from image to image. The time limit
is left out: a policy hardly ever reaches it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from spm_gym.actions_to_go import GOOD, actions_to_go, cheapest, onward_steps
from spm_gym.config import ActionConfig
from spm_gym.instrument.sim.dynamics import STATES, ProbeDynamics
from spm_gym.types import BoolArray

_RESTARTS = 4


@dataclass(frozen=True)
class HiddenProcess:
    """The decision process behind the images: A actions, 16 states, L mask levels.

    Attributes:
        steps: Probabilities of an action and the image after it, (A, 16, 16).
        imaging: Probabilities of an image alone, (16, 16).
        levels: Probability of each mask level given the state, (16, L).
        allowed: Actions that each level allows, (L, A).
        damaging: Actions that the damaging reset chooses from, (A,).
        damage_actions: Most of them in one reset.
    """

    steps: NDArray[np.float64]
    imaging: NDArray[np.float64]
    levels: NDArray[np.float64]
    allowed: BoolArray
    damaging: BoolArray
    damage_actions: int

    @cached_property
    def start(self) -> NDArray[np.float64]:
        """Distribution (16,) of the state in which an episode begins, after a good probe."""
        # As the reset does: random damaging actions until the probe is bad; where no damaging
        # action is allowed, only an image is taken.
        masked = self.allowed & self.damaging
        mean = np.tensordot(_rows(masked.astype(float)), self.steps, axes=1)
        mean[~masked.any(axis=1)] = self.imaging
        step = np.einsum("sl,lst->st", self.levels, mean)
        present = np.eye(STATES)[GOOD]
        done = np.zeros(STATES)
        for _ in range(self.damage_actions):
            present = present @ step
            done += np.where(np.arange(STATES) == GOOD, 0, present)
            present = np.where(np.arange(STATES) == GOOD, present, 0)
        return np.asarray(done + present)

    def length(self, weights: NDArray[np.float64]) -> float:
        """Compute the mean number of actions of a mixture that ignores the image.

        Args:
            weights: Relative probabilities of the actions, (A,) or (L, A); renormalised over the
                allowed ones, which are equally likely where none of them has any weight.
        """
        # The expected visits to the states before absorption, (1 - Q)^-1, summed over all states.
        onward = self.onward(self.policy(weights))
        return float(self.start @ np.linalg.solve(np.eye(STATES) - onward, np.ones(STATES)))

    def policy(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities (..., L, A) of the actions at every mask level; weights as in `length`."""
        masked = weights * self.allowed
        return _rows(np.where(masked.any(axis=-1, keepdims=True), masked, self.allowed))

    def onward(self, policy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities (16, 16) of one step that does not end the episode.

        Args:
            policy: Probabilities (L, A) of the actions.
        """
        return onward_steps(
            np.einsum("sl,la,ast->st", self.levels, policy, self.steps, optimize=True)
        )

    @property
    def random_length(self) -> float:
        """Mean number of actions of uniform choice among the allowed ones."""
        return self.length(np.ones(len(self.steps)))

    @cached_property
    def single(self) -> NDArray[np.float64]:
        """The best single action, as a mixture (A,) that has no other."""
        return min(np.eye(len(self.steps)), key=self._length_alone)

    @cached_property
    def blind(self) -> NDArray[np.float64]:
        """The best mixture (A,) that ignores both the image and its mask."""
        (mixture,) = self._best_mixture((1, len(self.steps)))
        return np.asarray(mixture)

    @cached_property
    def mask_only(self) -> NDArray[np.float64]:
        """The best mixture for every mask level, (L, A), which ignores the image."""
        return self._best_mixture(self.allowed.shape)

    @cached_property
    def oracle(self) -> NDArray[np.float64]:
        """Negative mean number of actions to go, (16, A), if the policy then is optimal."""
        return -actions_to_go(self.steps, self.levels, self.allowed)

    @property
    def oracle_length(self) -> float:
        """Mean number of actions of the optimal policy, which knows the hidden state."""
        return float(self.start @ cheapest(-self.oracle, self.levels, self.allowed))

    def _length_alone(self, weights: NDArray[np.float64]) -> float:
        # One action may never repair some probes: then there is no mean, and what the solver makes
        # of a matrix that is singular but for rounding may even be negative.
        try:
            length = self.length(weights)
        except np.linalg.LinAlgError:
            return np.inf
        return length if length >= 1 else np.inf

    def _best_mixture(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        # Logits make a constrained problem free: probabilities stay positive and sum to 1.
        def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
            return _rows(np.exp(logits - logits.max()).reshape(shape))

        # The length has local minima; the starts are always the same, so the result is, too.
        rng = np.random.default_rng(0)
        results = [
            minimize(lambda logits: self.length(softmax(logits)), rng.normal(size=np.prod(shape)))
            for _ in range(_RESTARTS)
        ]
        best: NDArray[np.float64] = min(results, key=lambda result: float(result.fun)).x
        return softmax(best)


def hidden_process(
    actions: Sequence[ActionConfig],
    dynamics: ProbeDynamics,
    tip_change_rates: Sequence[float],
    levels: NDArray[np.float64],
    allowed: BoolArray,
    damage_actions: int,
) -> HiddenProcess:
    """Build the process from the dynamics of the probe.

    Args:
        actions: The A actions.
        dynamics: Their effects.
        tip_change_rates: Probability of a tip change in each of the scans of one image.
        levels: Probability of each mask level given the state, (16, L).
        allowed: Actions that each level allows, (L, A).
        damage_actions: Most actions of a damaging reset.
    """
    imaging = np.linalg.multi_dot(
        [np.eye(STATES), *(dynamics.scan_matrix(rate) for rate in tip_change_rates), np.eye(STATES)]
    )
    return HiddenProcess(
        steps=np.stack([dynamics.action_matrix(a.conditioning) @ imaging for a in actions]),
        imaging=imaging,
        levels=levels,
        allowed=allowed,
        damaging=np.array([action.damaging for action in actions]),
        damage_actions=damage_actions,
    )


def _rows(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normalise rows to 1; rows without weight stay empty."""
    total = weights.sum(axis=-1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(
        weights, total, out=np.zeros(weights.shape), where=total > 0
    )
    return shares
