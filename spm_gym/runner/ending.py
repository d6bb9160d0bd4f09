"""When a run ends, and why."""

from __future__ import annotations

from spm_gym.journal.reader import GIVEN_UP
from spm_gym.runner.context import RunnerContext
from spm_gym.runner.states import State

GOOD_PROBE = "the probe is good"


class Ending:
    """The end that the settings, somebody outside, or a failure sets to a run."""

    def __init__(self, context: RunnerContext) -> None:
        self._context = context
        self._ending = context.run_state.ending

    def is_due(self) -> bool:
        """Check whether the run has lasted as long as it is to."""
        config, run_state = self._context.config, self._context.run_state
        hours, scans, programs = config.hours, config.scans, config.hand_overs
        # Time of operation, not of the wall: a pause costs nothing of it.
        if hours is not None and run_state.clock.elapsed >= hours * 3600:
            self._ending.reason = f"{hours:g} hours are over"
        elif programs is not None and run_state.hand_overs.programs >= programs:
            self._ending.reason = f"{programs} programs have had the tip"
        elif scans is not None and run_state.imaging.images >= scans:
            self._ending.reason = f"{scans} images are taken"
        return bool(self._ending.reason)

    def stop(self, reason: str) -> State:
        """End because somebody asks for it."""
        self._ending.reason = reason
        return State.STOP

    def leave_good(self) -> State:
        """End because the probe is good: the tip stays at the surface."""
        # Kept with the run, for whether the tip may stay is decided after the last transition.
        self._ending.reason, self._ending.good = GOOD_PROBE, True
        return State.STOP

    def fail(self, reason: str) -> State:
        """Give up."""
        self._ending.reason, self._ending.failed = reason, True
        self._context.add_event(GIVEN_UP, reason)
        return State.STOP

    def clear(self) -> None:
        """Go on after the end."""
        self._ending.reason, self._ending.failed, self._ending.good = "", False, False
