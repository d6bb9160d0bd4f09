"""Policies to compare the agent with; all are asked like the agent (`spm_gym.types.Policy`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spm_gym.types import BoolArray, Policy


class _ImagelessPolicy(ABC):
    """Chooses among the allowed actions without the image."""

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: BoolArray | None = None,
    ) -> tuple[Any, Any]:
        """Choose an action; see `spm_gym.types.Policy`, but the mask is needed.

        Raises:
            ValueError: There is no mask, or it allows nothing.
        """
        if action_masks is None:
            raise ValueError("this policy needs action_masks: it chooses among the allowed actions")
        masks = np.asarray(action_masks, bool)
        if not masks.any(axis=-1).all():
            raise ValueError("the action mask allows no action at all")
        return self.choose(masks, state)

    @abstractmethod
    def choose(self, masks: BoolArray, state: Any) -> tuple[Any, Any]:
        """Choose for each mask, (A,) or (N, A); gives the actions and the next state."""


class RandomPolicy(_ImagelessPolicy):
    """Every allowed action is equally likely."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def choose(self, masks: BoolArray, state: Any) -> tuple[Any, Any]:
        """Draw an allowed action."""
        return _draw(np.ones(masks.shape), masks, self._rng), state


class MixturePolicy(_ImagelessPolicy):
    """Every action has its own fixed probability.

    Weights are renormalised over the allowed actions; where all of those weigh nothing, they are
    equally likely.

    Args:
        weights: Relative probabilities, (A,), or (L, A) for L levels of masks.
        rng: Of the draws.
        level: Gives the row of ``weights`` for a mask (A,); needed if there are several.
    """

    def __init__(
        self,
        weights: NDArray[np.floating[Any]],
        rng: np.random.Generator,
        level: Callable[[BoolArray], int] | None = None,
    ) -> None:
        self._weights = np.atleast_2d(np.asarray(weights, float))
        if len(self._weights) > 1 and level is None:
            raise ValueError(f"{len(self._weights)} rows of weights need a level function")
        if not (np.isfinite(self._weights).all() and (self._weights >= 0).all()):
            raise ValueError("weights must be finite and not negative")
        self._rng = rng
        self._level = level or (lambda mask: 0)

    def choose(self, masks: BoolArray, state: Any) -> tuple[Any, Any]:
        """Draw an allowed action by the weights."""
        levels = [self._level(mask) for mask in masks.reshape(-1, masks.shape[-1])]
        weights = self._weights[levels].reshape(masks.shape)
        return _draw(weights, masks, self._rng), state


class CountingPolicy(_ImagelessPolicy):
    """Every step of an episode has its own fixed probabilities; for one observation at a time.

    Its recurrent state is the number of steps so far; None begins an episode.

    Args:
        plan: Relative probabilities (T, L, A) for L levels of masks; the last row for all steps
            from there on.
        rng: Of the draws.
        level: Gives the level of a mask (A,).
    """

    def __init__(
        self,
        plan: NDArray[np.floating[Any]],
        rng: np.random.Generator,
        level: Callable[[BoolArray], int],
    ) -> None:
        self._rows = [MixturePolicy(row, rng, level) for row in plan]

    def choose(self, masks: BoolArray, state: int | None) -> tuple[Any, Any]:
        """Draw an allowed action by the weights of the step."""
        count = 0 if state is None else state
        action, _ = self._rows[min(count, len(self._rows) - 1)].choose(masks, None)
        return action, count + 1


class OraclePolicy(_ImagelessPolicy):
    """Knows the hidden state and the value of every action in it: the optimum to compare with.

    Args:
        values: Value of every action in every state, (S, A).
        state: Reads the hidden state, an index below S.
    """

    def __init__(self, values: NDArray[np.floating[Any]], state: Callable[[], int]) -> None:
        self._values = np.asarray(values, float)
        self._state = state

    def choose(self, masks: BoolArray, state: Any) -> tuple[Any, Any]:
        """Choose the best allowed action in the hidden state."""
        # The state after the image was taken: the tip may have changed during the scan.
        values = self._values[self._state()]
        return np.where(masks, values, -np.inf).argmax(axis=-1), state


class _ShuffledState(NamedTuple):
    """Memory of a `ShuffledPolicy`: that of the policy it deceives, which may be None."""

    inner: Any


class ShuffledPolicy:
    """Negative control: gives a policy images of earlier episodes in place of the present ones.

    Mask, memory and the actions that a policy remembers are those of the present episode: an
    advantage over random choice that remains does not come from the images. In the very first
    episode there is no other, and earlier images of it are given, at first the present one.

    Args:
        policy: The policy to deceive.
        rng: Of the choice of images.
        pool: Number of images that are remembered.
    """

    def __init__(self, policy: Policy, rng: np.random.Generator, pool: int = 1000) -> None:
        self._policy = policy
        self._rng = rng
        self._earlier: deque[NDArray[np.float32]] = deque(maxlen=pool)
        self._episode: list[NDArray[np.float32]] = []

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: BoolArray | None = None,
    ) -> tuple[Any, Any]:
        """Ask the wrapped policy about another image; see `spm_gym.types.Policy`."""
        if state is None:
            # Not before: after a stall an earlier image of the episode has the same probe, and a
            # policy with a memory would go on with what that image has taught it.
            self._earlier.extend(self._episode)
            self._episode = []
            state = _ShuffledState(None)
        images = self._earlier or self._episode or [observation]
        other = images[self._rng.integers(len(images))]
        self._episode.append(observation.copy())
        action, inner = self._policy.predict(
            other, state.inner, episode_start, deterministic, action_masks
        )
        return action, _ShuffledState(inner)


def _draw(
    weights: NDArray[np.float64], masks: BoolArray, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw one action per mask by inverting the cumulative weights of the allowed ones."""
    # One uniform number per mask, whatever it allows: what follows does not depend on the masks.
    allowed = np.where(masks, weights, 0.0)
    weightless = allowed.sum(axis=-1, keepdims=True) == 0
    cumulative = np.where(weightless, masks, allowed).cumsum(axis=-1)
    total = cumulative[..., -1:]
    # A product with a tiny total may round up to it, and then no action would be reached.
    drawn = np.minimum(rng.random(total.shape) * total, np.nextafter(total, 0))
    actions: NDArray[np.int64] = np.asarray((drawn < cumulative).argmax(axis=-1))
    return actions
