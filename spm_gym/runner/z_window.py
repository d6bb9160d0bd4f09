"""The surface that drifts towards an end of the z piezo's range: approached again before that."""

from __future__ import annotations

import math

from spm_gym.errors import UnsafeToContinue
from spm_gym.instrument.z_window import described, end_near, extension_in, in_danger
from spm_gym.runner.context import RunnerContext
from spm_gym.types import Scan

_MOST_IN_A_ROW = 3


class ZWindow:
    """Decides between images whether the tip has to approach again.

    Nothing follows from it in the middle of a step of conditioning: the image that shows what an
    action did comes first.
    """

    def __init__(self, context: RunnerContext) -> None:
        self._context = context
        self._state = context.run_state.z_window

    def observe(self, scan: Scan) -> None:
        """Note how far the z piezo was extended in an image; nothing if its range is unknown."""
        extended = extension_in(scan)
        self._state.extension = extended if math.isfinite(extended) else None

    def adjustment_due(self) -> bool:
        """Decide whether the tip is to be withdrawn and to approach again, before anything else.

        Raises:
            UnsafeToContinue: That has not helped, and the piezo is at its retracted end soon.
        """
        state, window = self._state, self._context.z_window
        extended, state.extension = state.extension, None  # every image is decided upon once
        if window is None or extended is None:
            return state.due
        if end_near(extended, window) is None:
            state.in_a_row, state.due = 0, False
            return False
        state.in_a_row += 1
        state.due = state.in_a_row <= _MOST_IN_A_ROW
        text = described(extended, window)
        if state.due:
            self._add_event(f"{text}: the tip approaches again")
        elif in_danger(extended, window):
            raise UnsafeToContinue(
                f"{text}, also after {_MOST_IN_A_ROW} further approaches, and a surface that comes "
                "nearer crashes the tip at the end of the range: let the coarse motor step away "
                "(real.nanonis.coarse.retract), or step by hand, and resume"
            )
        elif state.in_a_row == _MOST_IN_A_ROW + 1:
            # Near the extended end nothing can break: when contact is lost, it is found again.
            self._add_event(f"{text}, also after {_MOST_IN_A_ROW} further approaches: left so")
        return state.due

    @property
    def due(self) -> bool:
        """Whether the tip has to approach again before the next image."""
        return self._state.due

    def forget(self) -> None:
        """Forget the height of before an approach: the next image shows the new one."""
        self._state.extension, self._state.due = None, False

    def grant_new_attempts(self) -> None:
        """Start counting again, since a person has started the run again."""
        self._state.in_a_row = 0

    def _add_event(self, text: str) -> None:
        self._context.add_event("z window", text)
