"""Getting over trouble: lost contact, crashes, broken connections, refusals, incomplete images."""

from __future__ import annotations

from spm_gym.config import OperationConfig
from spm_gym.envs.navigation import Navigator
from spm_gym.errors import LimitExceeded, OutcomeUnknown
from spm_gym.journal.writer import Journal
from spm_gym.runner.run_state import RunState

NM = 1e-9
LOST_CONTACT, CRASH, CONNECTION = "lost contact", "crash", "connection"
REFUSED, MISSING_LINES, WITHDRAWN = "refused", "missing lines", "withdrawn"
OUT_OF_CONTACT = (CRASH, LOST_CONTACT, WITHDRAWN)
"""After these the tip has to approach, whatever the instrument says of itself."""

_LONGEST_RETRY = 16


class Recovery:
    """Notes what went wrong, bounds it, and does the first thing about it.

    Args:
        survey: Of the microscope; places of repeated trouble and of crashes are blocked.
        config: How to operate.
        journal: Is told of everything.
        memory: Where the run stands.
    """

    def __init__(
        self, navigator: Navigator, config: OperationConfig, journal: Journal, memory: RunState
    ) -> None:
        self.navigator = navigator
        self.instrument = navigator.instrument
        self.config = config
        self.journal = journal
        self.memory = memory

    def note(self, kind: str, detail: str, at: tuple[float, float] | None = None) -> str:
        """Note what has happened, and where (m) if not in the frame that is being imaged.

        Returns:
            Why the run has to be given up; "" if it goes on.
        """
        m = self.memory
        place = at if m.frame is None else (m.frame[0], m.frame[1])
        m.trouble = kind
        m.troubles += 1
        m.spot_troubles += kind != CONNECTION
        m.open_recoveries.append(
            self.journal.add_recovery(
                kind,
                area=m.area,
                x=None if place is None else place[0],
                y=None if place is None else place[1],
                time=m.now,
                elapsed=m.elapsed,
                detail=detail,
            )
        )
        m.counters["recoveries"] += 1
        self.journal.add_event(m.now, "trouble", f"{kind}: {detail}")
        if m.troubles > self.config.max_recoveries:
            return f"{m.troubles} troubles in a row, the last one {kind}: {detail}"
        if kind == CRASH:
            # What comes next shows what the crash did to the tip, not what the action did.
            m.uncertain = m.uncertain or m.step is not None
            m.retract_due = True
            m.clean_at = place if self.config.clean_action is not None else None
        spoilt = kind == CRASH or m.spot_troubles >= self.config.spot_attempts
        if spoilt and place is not None:
            self.navigator.mark(*place, self.config.spot_nm * NM, kind)
            m.frame = None
        return ""

    def start(self) -> bool:
        """Do the first thing about it.

        Returns:
            Whether the tip has to approach again in any case.

        Raises:
            InstrumentError: That is trouble as well.
        """
        m = self.memory
        if m.trouble in (CONNECTION, REFUSED):
            self._pause_before_retry()
            self.instrument.reconnect()
        must_approach = m.retract_due or m.trouble in OUT_OF_CONTACT
        if m.retract_due:
            self._retract()
        if not must_approach:
            m.trouble = ""
        return must_approach

    def succeed(self) -> None:
        """Note a usable image: whatever was wrong is over."""
        m = self.memory
        self._close("recovered")
        m.troubles = m.spot_troubles = 0
        m.trouble = ""

    def give_up(self) -> None:
        """Note that it was not got over."""
        self._close("failed")

    def _close(self, result: str) -> None:
        for row in self.memory.open_recoveries:
            self.journal.end_recovery(row, result)
        self.memory.open_recoveries = []

    def _pause_before_retry(self) -> None:
        """Wait the longer the more often it went wrong; the first time not at all."""
        times = self.memory.troubles - 1
        if times > 0:
            self.instrument.wait(self.config.retry_s * min(2 ** (times - 1), _LONGEST_RETRY))

    def _retract(self) -> None:
        m = self.memory
        m.in_contact = False
        try:
            self.instrument.retract()
        except LimitExceeded as error:
            text = f"no coarse step, only withdrawn: {error}"
            self.journal.add_event(m.now, "retract", text)
            self.instrument.withdraw()
        except OutcomeUnknown:
            m.retract_due = False  # never twice
            raise
        m.retract_due = False
