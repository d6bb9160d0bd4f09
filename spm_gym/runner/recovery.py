"""Getting over trouble: lost contact, crashes, broken connections, refusals, incomplete images."""

from __future__ import annotations

from spm_gym.errors import LimitExceeded, OutcomeUnknown
from spm_gym.imaging import Diagnosis
from spm_gym.runner.areas import Areas
from spm_gym.runner.context import RunnerContext

LOST_CONTACT, CRASH, CONNECTION = "lost contact", "crash", "connection"
REFUSED, MISSING_LINES, WITHDRAWN = "refused", "missing lines", "withdrawn"
TROUBLES = {
    Diagnosis.LOST_CONTACT: LOST_CONTACT,
    Diagnosis.CRASH: CRASH,
    Diagnosis.PARTIAL: MISSING_LINES,
}
"""Kinds of trouble that an image shows."""

_OUT_OF_CONTACT = (CRASH, LOST_CONTACT, WITHDRAWN)

# Times `retry_s`: a controller that comes back is found within minutes, however long it was away.
_LONGEST_RETRY = 16


class Trouble(Exception):
    """Something went wrong that the instrument did not report as an error.

    Attributes:
        kind: One of the kinds above.
        at: Where, m; None for the frame that is being imaged.
    """

    def __init__(self, kind: str, detail: str, at: tuple[float, float] | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.at = at


class Recovery:
    """Notes what went wrong, bounds it, and does the first thing about it."""

    def __init__(self, context: RunnerContext, areas: Areas) -> None:
        self._context = context
        self._areas = areas
        self._recovery = context.run_state.recovery
        self.instrument = context.env.instrument

    @property
    def retract_due(self) -> bool:
        """Whether the tip has crashed and has not been taken away since."""
        return self._recovery.retract_due

    @property
    def out_of_contact(self) -> bool:
        """Whether the tip has to approach, whatever the instrument says of itself."""
        return self._recovery.trouble in _OUT_OF_CONTACT

    def note(self, kind: str, detail: str, at: tuple[float, float] | None = None) -> str:
        """Note what has happened, and where (m) if not in the frame that is being imaged.

        Returns:
            Why the run has to be given up; "" if it goes on.
        """
        trouble, run_state, config = self._recovery, self._context.run_state, self._context.config
        frame = run_state.place.frame
        spot = at if frame is None else (frame.x, frame.y)
        trouble.trouble = kind
        trouble.in_a_row += 1
        # A broken connection says nothing about the place that was being imaged.
        trouble.at_frame += kind != CONNECTION
        trouble.open.append(
            self._context.journal.add_recovery(
                kind,
                area=run_state.place.area,
                x=None if spot is None else spot[0],
                y=None if spot is None else spot[1],
                time=run_state.clock.now,
                elapsed=run_state.clock.elapsed,
                detail=detail,
            )
        )
        trouble.total += 1
        self._context.add_event("trouble", f"{kind}: {detail}")
        # An instrument that is broken, or used up, would be driven for days.
        if trouble.in_a_row > config.max_recoveries:
            return f"{trouble.in_a_row} troubles in a row, the last one {kind}: {detail}"
        if kind == CRASH:
            # Only noted: it is done by the next state, so that a kill in between does not lose it.
            trouble.retract_due = True
            # Where the tip has crashed: anywhere else the cleaning would spoil fresh sample. In a
            # survey the tip stays as the crash has left it, for cleaning is a pulse.
            cleans = config.conditioning and config.clean_action is not None
            self._areas.clean_later(spot if cleans else None)
        # After a crash at once, for the surface is spoilt; else at the second trouble, since the
        # first may have been the tip's.
        if spot is not None and (kind == CRASH or trouble.at_frame >= config.spot_attempts):
            self._areas.block_spot(spot, kind)
        return ""

    def note_area_change(self) -> str:
        """Count a change of the approach area: without usable images between them they are trouble.

        Returns:
            Why the run has to be given up; "" if it goes on.
        """
        trouble = self._recovery
        trouble.in_a_row += 1
        if trouble.in_a_row <= self._context.config.max_recoveries:
            return ""
        return f"{trouble.in_a_row} troubles and changes of area without a usable image in between"

    def begin_frame(self) -> None:
        """Count the troubles of a new frame from zero."""
        self._recovery.at_frame = 0

    def reconnect(self) -> None:
        """Connect again, if the connection was the trouble.

        Raises:
            InstrumentError: That is trouble as well.
        """
        if self._recovery.trouble in (CONNECTION, REFUSED):
            self._pause_before_retry()
            self.instrument.reconnect()

    def retract(self) -> None:
        """Take a crashed tip away.

        Raises:
            InstrumentError: That is trouble as well.
        """
        try:
            self.instrument.retract()
        # No step in a direction that nobody has verified: it may lead into the sample.
        except LimitExceeded as error:
            self._context.add_event("retract", f"no coarse step, only withdrawn: {error}")
            self.instrument.withdraw()
        except OutcomeUnknown:
            # Never twice: a second step of the motor could take the tip into its other end.
            self._recovery.retract_due = False
            raise
        self._recovery.retract_due = False

    def forget_retraction(self) -> None:
        """Do not take the tip away: that was cut off in the middle, and no act is repeated."""
        self._recovery.retract_due = False

    def end_trouble(self) -> None:
        """Note that there is nothing more to be done about it, until an image shows more."""
        self._recovery.trouble = ""

    def succeed(self) -> None:
        """Note a usable image: whatever was wrong is over."""
        self._close("recovered")
        self._recovery.in_a_row = self._recovery.at_frame = 0
        self._recovery.trouble = ""

    def give_up(self) -> None:
        """Note that it was not got over."""
        self._close("failed")

    def grant_new_attempts(self) -> None:
        """Start counting again, since a person has started the run again."""
        self._recovery.in_a_row = 0

    def _close(self, result: str) -> None:
        for row in self._recovery.open:
            self._context.journal.end_recovery(row, result)
        self._recovery.open = []

    def _pause_before_retry(self) -> None:
        """Wait the longer the more often it went wrong; the first time not at all."""
        times = self._recovery.in_a_row - 1
        if times > 0:
            retry_s = self._context.config.retry_s
            self.instrument.wait(retry_s * min(2 ** (times - 1), _LONGEST_RETRY))
