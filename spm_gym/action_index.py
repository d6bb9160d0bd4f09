"""Checks of the index of an action that comes from a policy or from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.errors import brief


def action_index(action: object, count: int) -> int:
    """Check the index of an action.

    Args:
        action: A Python or NumPy integer, or a 0-dimensional array of one.
        count: How many actions there are.

    Raises:
        ValueError: It is anything else, or there is no such action.
    """
    # Python would count a negative index from the end of the table, where the strongest dips are,
    # and NumPy would cut a fraction off: such mistakes must not reach the probe.
    given: Any = action[()] if isinstance(action, np.ndarray) and action.ndim == 0 else action
    # To Python a bool is an integer, to NumPy so is a time span.
    if isinstance(given, int | np.integer) and not isinstance(given, bool | np.timedelta64):
        index = int(given)
        if 0 <= index < count:
            return index
    raise ValueError(f"an action is an integer from 0 to {count - 1}, not {brief(action)}")


def action_indices(
    actions: NDArray[np.integer[Any]] | Sequence[int], number: int, count: int
) -> list[int]:
    """Check the indices of so many actions.

    Raises:
        ValueError: There are more or fewer, or one is not an index; see `action_index`.
    """
    # NumPy would turn a bool in a list of integers into an integer; an array of objects keeps it.
    given = actions if isinstance(actions, np.ndarray) else np.array(actions, dtype=object)
    if given.shape != (number,):
        raise ValueError(
            f"actions must be {number} integers from 0 to {count - 1}, not {brief(actions)}"
        )
    return [action_index(action, count) for action in given]
