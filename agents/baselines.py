"""Policies to compare the agent with; all are asked like the agent (`spm_gym.types.Policy`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.types import BoolArray, Policy


class RandomPolicy:
    """Every allowed action is equally likely."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: BoolArray | None = None,
    ) -> tuple[Any, Any]:
        """Draw an action; see `spm_gym.types.Policy`, but the mask is needed.

        Raises:
            ValueError: There is no mask, or it allows nothing.
        """
        masks = _masks(action_masks)
        return _draw(np.ones(masks.shape), masks, self._rng), state


class MixturePolicy:
    """Every action has its own fixed probability, whatever the image shows.

    Weights are renormalised over the allowed actions; where all of those weigh nothing, they are
    equally likely.

    Args:
        weights: Relative probabilities, (A,), or (L, A) for L levels.
        rng: Of the draws.
        level: Which row of ``weights`` a mask (A,) calls for; needed if there are several.
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

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: BoolArray | None = None,
    ) -> tuple[Any, Any]:
        """Draw an action; see `spm_gym.types.Policy`, but the mask is needed.

        Raises:
            ValueError: There is no mask, or it allows nothing.
        """
        masks = _masks(action_masks)
        levels = [self._level(mask) for mask in masks.reshape(-1, masks.shape[-1])]
        weights = self._weights[levels].reshape(masks.shape)
        return _draw(weights, masks, self._rng), state


class CountingPolicy:
    """Has its own fixed probabilities for every step of an episode, whatever the image shows.

    Its recurrent state is the number of steps so far; None begins an episode.

    Args:
        plan: Relative probabilities (T, L, A) for L levels of masks; the last row for all steps
            from there on.
        rng: Of the draws.
        level: Which of the L levels a mask (A,) is.
    """

    def __init__(
        self,
        plan: NDArray[np.floating[Any]],
        rng: np.random.Generator,
        level: Callable[[BoolArray], int],
    ) -> None:
        self._rows = [MixturePolicy(row, rng, level) for row in plan]

    def predict(
        self,
        observation: NDArray[np.float32],
        state: int | None = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: BoolArray | None = None,
    ) -> tuple[Any, Any]:
        """Draw an action for one observation; see `spm_gym.types.Policy`, but the mask is needed.

        Raises:
            ValueError: There is no mask, or it allows nothing.
        """
        count = 0 if state is None else state
        row = self._rows[min(count, len(self._rows) - 1)]
        action, _ = row.predict(observation, action_masks=action_masks)
        return action, count + 1


class OraclePolicy:
    """Knows the hidden state and the value of every action in it: the optimum to compare with.

    Args:
        values: Value of every action in every state, (S, A).
        state: Reads the hidden state, an index below S.
    """

    def __init__(self, values: NDArray[np.floating[Any]], state: Callable[[], int]) -> None:
        self._values = np.asarray(values, float)
        self._state = state

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: BoolArray | None = None,
    ) -> tuple[Any, Any]:
        """Choose the best allowed action for one observation; see `spm_gym.types.Policy`.

        Raises:
            ValueError: There is no mask, or it allows nothing.
        """
        values = self._values[self._state()]
        return np.where(_masks(action_masks), values, -np.inf).argmax(axis=-1), state


class ShuffledPolicy:
    """Negative control: shows a policy images seen earlier in place of the present one.

    The mask stays that of the present image. What the policy still gains over random, it does not
    gain by looking. The very first image is shown as it is, for there is no other yet.

    Args:
        policy: The policy to deceive.
        rng: Of the choice of images.
        pool: Images that are remembered.
    """

    def __init__(self, policy: Policy, rng: np.random.Generator, pool: int = 1000) -> None:
        self._policy = policy
        self._rng = rng
        self._seen: deque[NDArray[np.float32]] = deque(maxlen=pool)

    def predict(
        self,
        observation: NDArray[np.float32],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: BoolArray | None = None,
    ) -> tuple[Any, Any]:
        """Ask the wrapped policy about other images; see `spm_gym.types.Policy`."""
        images = observation.reshape(-1, *observation.shape[-3:])
        shown = np.stack([self._exchange(image) for image in images]).reshape(observation.shape)
        return self._policy.predict(shown, state, episode_start, deterministic, action_masks)

    def _exchange(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        earlier = self._seen[self._rng.integers(len(self._seen))] if self._seen else image
        self._seen.append(image.copy())
        return earlier


def _masks(action_masks: BoolArray | None) -> BoolArray:
    if action_masks is None:
        raise ValueError("this policy needs action_masks: it chooses among the allowed actions")
    masks = np.asarray(action_masks, bool)
    if not masks.any(axis=-1).all():
        raise ValueError("the action mask allows no action at all")
    return masks


def _draw(
    weights: NDArray[np.float64], masks: BoolArray, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw one action per mask by inverting the cumulative weights of the allowed ones."""
    allowed = np.where(masks, weights, 0.0)
    weightless = allowed.sum(axis=-1, keepdims=True) == 0
    cumulative = np.where(weightless, masks, allowed).cumsum(axis=-1)
    total = cumulative[..., -1:]
    # A product with a tiny total may round up to it, and then no action would be reached.
    drawn = np.minimum(rng.random(total.shape) * total, np.nextafter(total, 0))
    actions: NDArray[np.int64] = np.asarray((drawn < cumulative).argmax(axis=-1))
    return actions
