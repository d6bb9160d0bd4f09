"""Choice of actions from a table of transitions and a belief (QMDP)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from agents.belief.errors import BeliefError
from spm_gym.actions_to_go import actions_to_go
from spm_gym.plain_state import StateError, array_of, restored
from spm_gym.types import BoolArray

Floats = NDArray[np.float64]

LONGEST = 100.0
"""Mean number of actions that stands for all larger ones: no episode lasts longer, and in a drawn
table the good class may be out of reach."""


class MaskFrequencies:
    """How often each action mask has occurred.

    Attributes:
        allowed: The different masks, (L, A).
        counts: How often each has occurred, (L,).
    """

    def __init__(self, actions: int) -> None:
        self.allowed = np.ones((0, actions), np.bool_)
        self.counts = np.zeros(0, np.int64)

    def add(self, mask: BoolArray) -> None:
        """Count a mask (A,) of an image after which an action follows.

        Raises:
            BeliefError: It is of other actions, or allows none.
        """
        if mask.shape != self.allowed.shape[1:] or not mask.any():
            raise BeliefError(
                f"a mask of {self.allowed.shape[1]} actions that allows one is needed, "
                f"not {np.asarray(mask).tolist()}"
            )
        same = np.flatnonzero((self.allowed == mask).all(axis=1))
        if len(same):
            self.counts[same[0]] += 1
        else:
            self.allowed = np.concatenate([self.allowed, mask[None]])
            self.counts = np.append(self.counts, 1)

    def table(self) -> tuple[Floats, BoolArray]:
        """Frequencies (L,) and masks (L, A); before the first one, everything is allowed."""
        if not len(self.counts):
            return np.ones(1), np.ones((1, self.allowed.shape[1]), np.bool_)
        return self.counts / self.counts.sum(), self.allowed

    def get_state(self) -> dict[str, Any]:
        """Collect all that is needed to continue."""
        return asdict(_StoredMasks(self.allowed.copy(), self.counts.copy()))

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave.

        Raises:
            StateError: It belongs to other actions, or is damaged.
        """
        stored = restored(_StoredMasks, state)
        fits = stored.allowed.shape == (len(stored.counts), self.allowed.shape[1])
        if not (fits and stored.allowed.any(axis=1).all() and (stored.counts > 0).all()):
            raise StateError("the stored frequencies of the masks do not fit")
        self.allowed, self.counts = stored.allowed.copy(), stored.counts.copy()


@dataclass(frozen=True, slots=True)
class _StoredMasks:
    """State of `MaskFrequencies`."""

    allowed: Annotated[BoolArray, array_of(np.bool_, None, None)]
    counts: Annotated[NDArray[np.int64], array_of(np.int64, None)]


@dataclass(frozen=True, slots=True)
class Plan:
    """Mean number of actions to a good probe; good probes end an episode.

    The environment pays -1 an action and +10 for the good probe, which orders the actions alike.

    Attributes:
        to_go: Given the class and the next action, (S, A), if all later ones are the best.
    """

    to_go: Floats

    @classmethod
    def of(cls, table: Floats, masks: MaskFrequencies) -> Plan:
        """Plan with a table of transitions (A, S, S) and the frequencies of the masks."""
        frequencies, allowed = masks.table()
        levels = np.tile(frequencies, (table.shape[1], 1))
        return cls(actions_to_go(table, levels, allowed, LONGEST))

    def expected(self, belief: Floats) -> Floats:
        """Mean number of actions to go, (A,), as if the class were known after the next action."""
        return np.asarray(belief @ self.to_go)

    def choose(self, belief: Floats, mask: BoolArray) -> int:
        """Choose the allowed action with the fewest actions to go.

        Raises:
            BeliefError: The mask allows nothing.
        """
        if not mask.any():
            raise BeliefError("the action mask allows no action at all")
        return int(np.where(mask, self.expected(belief), np.inf).argmin())
