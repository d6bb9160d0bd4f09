"""Everything that may ask a run to pause, to go on or to stop: people, interlocks, quiet hours."""

from __future__ import annotations

from spm_gym.runner.control import INTERRUPTING, Control, Request
from spm_gym.runner.interlocks import Interlocks
from spm_gym.runner.quiet_hours import QuietHours
from spm_gym.runner.states import ASKED_TO_PAUSE


class Requests:
    """Combines them: whatever wants the tip withdrawn has its way.

    Args:
        control: Requests of people.
        interlocks: Limits of signals.
        quiet_hours: Times of the day.
    """

    def __init__(self, control: Control, interlocks: Interlocks, quiet_hours: QuietHours) -> None:
        self._control = control
        self._interlocks = interlocks
        self._quiet_hours = quiet_hours
        self._holds = False
        self._obeyed = control.requests

    def asked(self) -> Request | None:
        """Return what the run is asked for at present; None for nothing."""
        person = self._control.asked()
        if person is Request.STOP:
            return person
        if self._control.requests != self._obeyed:
            # Once for every request: an old one must not release what trips later.
            self._obeyed = self._control.requests
            if person is Request.RESUME:
                self._interlocks.release()
        self._interlocks.check()
        if self.failure():
            return Request.STOP
        if person is Request.PAUSE:
            return person
        if self._held():
            self._holds = True
            return Request.PAUSE
        # What was paused by itself goes on by itself; nothing is asked of a run that is at work.
        return Request.RESUME if self._holds else person

    def must_interrupt(self) -> bool:
        """Decide whether a scan, an approach or a wait under way is to be stopped."""
        return self.asked() in INTERRUPTING

    def why_paused(self) -> str:
        """Say who or what asks for a pause."""
        if self._control.asked() is Request.PAUSE:
            return ASKED_TO_PAUSE
        return self._held() or ASKED_TO_PAUSE

    def failure(self) -> str:
        """Return the interlock that ends the run; "" for none."""
        tripped = self._interlocks.tripped("stop")
        return f"interlock: {tripped}" if tripped else ""

    def _held(self) -> str:
        tripped = self._interlocks.tripped("pause")
        if tripped:
            return f"interlock: {tripped}"
        quiet = self._quiet_hours.present()
        return f"quiet hours {quiet}" if quiet else ""
