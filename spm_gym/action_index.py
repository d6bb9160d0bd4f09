"""The number of an action, as it comes from outside: an integer in range, or nothing is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.errors import brief


def action_index(action: object, count: int) -> int:
    """Read the number of an action.

    A negative one would be counted from the end, where the strongest dips are, and a fraction be
    cut: both are somebody's mistake, and a mistake must not reach the probe.

    Args:
        action: A Python or NumPy integer, or a 0-dimensional array of one.
        count: How many actions there are.

    Raises:
        ValueError: It is anything else, or there is no such action.
    """
    given: Any = action[()] if isinstance(action, np.ndarray) and action.ndim == 0 else action
    # Python and NumPy take a bool and a span of time for integers, each.
    if isinstance(given, int | np.integer) and not isinstance(given, bool | np.timedelta64):
        index = int(given)
        if 0 <= index < count:
            return index
    raise ValueError(f"an action is an integer from 0 to {count - 1}, not {brief(action)}")


def action_indices(
    actions: NDArray[np.integer[Any]] | Sequence[int], number: int, count: int
) -> list[int]:
    """Read the numbers of so many actions.

    Raises:
        ValueError: There are more or less of them, or one is none; see `action_index`.
    """
    # As an array of integers, a list that has a bool among its integers would hide it.
    given = actions if isinstance(actions, np.ndarray) else np.array(actions, dtype=object)
    if given.shape != (number,):
        raise ValueError(
            f"actions must be {number} integers from 0 to {count - 1}, not {brief(actions)}"
        )
    return [action_index(action, count) for action in given]
