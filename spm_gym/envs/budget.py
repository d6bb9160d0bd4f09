"""Limits of conditioning without success, after which a person has to look.

An agent whose classifier calls every tip bad does what it was made for: it conditions, for ever.
The classifier may be right; or it cannot classify this sample, bias or image size at all. The
images alone do not show which, but both lead to the same: many actions and no good image. So that
is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from spm_gym.config import BudgetConfig
from spm_gym.errors import LimitExceeded
from spm_gym.plain_state import restored

_NIGHT_S = 12 * 3600.0
_ADVICE = (
    "Look at the last images: does the sample show what the classifier was trained on, at its "
    "bias, setpoint and image size? If so, the tip needs a person"
)


class BudgetSpent(LimitExceeded):
    """So much was tried without success that a person has to look before anything else is done."""


class Budget:
    """Counts actions and episodes that did not help.

    Args:
        config: The limits.
        clock: Gives the seconds of operation, for the limit on failures per night.
    """

    def __init__(self, config: BudgetConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._clock = clock
        self._actions = 0
        self._proven = False
        self._failed_in_a_row = 0
        self._failures: list[float] = []
        self._undamaged = 0

    def spend(self) -> None:
        """Count an action on the probe, before it is done.

        Raises:
            BudgetSpent: A limit is reached; the action must not be done.
        """
        # Counted before it is done: an action that a kill cuts off has still hurt the tip.
        self.check_actions()
        self.check_episodes()
        self.count_action()

    def count_action(self) -> None:
        """Count an action that was started, also one that a kill has cut off."""
        self._actions += 1

    def check_actions(self) -> None:
        """Check that another action may be done.

        Raises:
            BudgetSpent: Too many had no success.
        """
        limits = self.config
        # Stricter until the first good image: the settings or the classifier may not fit at all.
        if not self._proven and _spent(limits.unproven_actions, self._actions):
            raise BudgetSpent(
                f"conditioning does not help: {self._actions} actions, and not one image was "
                f"called good (budget.unproven_actions = {limits.unproven_actions}). {_ADVICE}"
            )
        if _spent(limits.fruitless_actions, self._actions):
            raise BudgetSpent(
                f"conditioning does not help any more: {self._actions} actions without a good "
                f"image (budget.fruitless_actions = {limits.fruitless_actions}). {_ADVICE}"
            )

    def check_episodes(self) -> None:
        """Check that another episode of conditioning may be started.

        Raises:
            BudgetSpent: Too many have failed.
        """
        limits, now = self.config, self._clock()
        self._failures = [then for then in self._failures if now - then < _NIGHT_S]
        if _spent(limits.failed_in_a_row, self._failed_in_a_row):
            raise BudgetSpent(
                f"{self._failed_in_a_row} conditionings in a row have failed "
                f"(budget.failed_in_a_row = {limits.failed_in_a_row}). {_ADVICE}"
            )
        if _spent(limits.failed_per_night, len(self._failures)):
            raise BudgetSpent(
                f"{len(self._failures)} conditionings have failed within 12 hours "
                f"(budget.failed_per_night = {limits.failed_per_night}). {_ADVICE}"
            )

    def observe_image(self, good: bool) -> None:
        """Take in how an image was classified."""
        # One good image proves that the classifier can call this sample good at all. Failures per
        # night stay counted: a success in between does not excuse them.
        if good:
            self._actions, self._failed_in_a_row, self._proven = 0, 0, True

    def fail_episode(self) -> None:
        """Count an episode that has ended without a good image."""
        self._failed_in_a_row += 1
        self._failures.append(self._clock())

    def observe_damage(self, bad: bool, attempts: int) -> None:
        """Take in whether damaging on purpose has made the probe bad, after so many attempts.

        Raises:
            BudgetSpent: It failed to, too many times in a row.
        """
        self._undamaged = 0 if bad else self._undamaged + 1
        limit = self.config.failed_damage
        if _spent(limit, self._undamaged):
            raise BudgetSpent(
                f"the classifier does not call the tip bad after {attempts} attempts to damage it, "
                f"{self._undamaged} times in a row (budget.failed_damage = {limit}): it calls good "
                "what it cannot classify, does not know such images, or the actions do nothing. "
                f"{_ADVICE}"
            )

    def get_state(self) -> dict[str, Any]:
        """Collect what `set_state` needs to go on counting; JSON values."""
        # Ages, not times: the clock of another process starts elsewhere.
        now = self._clock()
        ago = [now - then for then in self._failures]
        return asdict(
            _BudgetState(self._actions, self._proven, self._failed_in_a_row, ago, self._undamaged)
        )

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on counting from the state that `get_state` gave.

        Raises:
            StateError: The state is not valid.
        """
        kept, now = restored(_BudgetState, state), self._clock()
        self._actions = kept.actions
        self._proven = kept.proven
        self._failed_in_a_row = kept.failed_in_a_row
        self._failures = [now - ago for ago in kept.failed_ago]
        self._undamaged = kept.undamaged


@dataclass(frozen=True, slots=True)
class _BudgetState:
    """State of a `Budget`; ``failed_ago`` has the seconds since each failed episode."""

    actions: Annotated[int, Field(ge=0)]
    proven: bool
    failed_in_a_row: Annotated[int, Field(ge=0)]
    failed_ago: list[float]
    undamaged: Annotated[int, Field(ge=0)]


def _spent(limit: int | None, count: int) -> bool:
    return limit is not None and count >= limit
