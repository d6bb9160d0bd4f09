"""How a run ended, and whether somebody has to look at the instrument: the only place to ask."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace
from enum import StrEnum

from spm_gym.analysis.session import RunSession, last_session
from spm_gym.journal.reader import GIVEN_UP, SAFE_END, UNSAFE_END
from spm_gym.runner.run_state import RunState, read_run_state
from spm_gym.runner.states import ASKED_TO_STOP, INTERRUPTED, State


class RunEnd(StrEnum):
    """Kinds of end of a run, and of not being over."""

    RUNNING = "running"
    RESUMING = "resuming"
    """A program has taken up a run that had ended, and still loads everything."""
    PAUSED = "paused"
    COMPLETED = "completed"
    STOPPED = "stopped"
    GIVEN_UP = "given up"
    INTERRUPTED = "interrupted"
    PROGRAM_ERROR = "program error"
    KILLED = "killed"
    KILLED_AT_ONCE = "killed at once"
    """Before it had done anything."""

    @property
    def over(self) -> bool:
        """Whether nothing more comes unless somebody resumes the run."""
        return self not in _UNDER_WAY

    @property
    def finished(self) -> bool:
        """Whether the run came to its end by itself or by request, not in the middle of work."""
        return self in (RunEnd.COMPLETED, RunEnd.STOPPED, RunEnd.GIVEN_UP)


_UNDER_WAY = (RunEnd.RUNNING, RunEnd.RESUMING, RunEnd.PAUSED)

INSPECT = "Look at the instrument"
"""The first words about every run after which the tip may still be at the surface."""

UNSAFE_MARK = "!!"
"""Stands before such a sentence in a terminal, which has no red."""

_SENTENCES = {
    RunEnd.RUNNING: "At work",
    RunEnd.RESUMING: "Getting ready to go on",
    RunEnd.PAUSED: "Paused",
    RunEnd.COMPLETED: "Ended",
    RunEnd.STOPPED: "Ended",
    RunEnd.GIVEN_UP: "Given up",
    RunEnd.INTERRUPTED: "Ended in the middle of its work",
    RunEnd.PROGRAM_ERROR: "Ended in the middle of its work",
    RunEnd.KILLED: "Not at work: the program was killed, or its computer lost power",
    RunEnd.KILLED_AT_ONCE: "Not at work: the program was killed before it had done anything",
}

_NOT_WITHDRAWN = "not withdrawn"
"""Begins the event of a pause in which the tip could not be withdrawn."""


@dataclass(frozen=True, slots=True)
class RunEnding:
    """How a run ended, or that it has not.

    Attributes:
        kind: Of the end.
        reason: As the run has noted it, and where the tip is; "" if it has not ended.
        safe: Whether the tip is where it is to be, by the journal.
        wall: When the run noted its end, seconds since 1970; None if it has not.
        earlier: That it had given up before somebody resumed it, in a sentence; "" if it had not.
    """

    kind: RunEnd
    reason: str = ""
    safe: bool = True
    wall: float | None = None
    earlier: str = ""

    @property
    def failed(self) -> bool:
        """Whether it is an end that nobody wanted, or one that needs somebody."""
        return not self.safe or self.kind in (RunEnd.GIVEN_UP, RunEnd.PROGRAM_ERROR)

    @property
    def sentence(self) -> str:
        """The end as every view shows it."""
        text = _SENTENCES[self.kind]
        if self.reason:
            text = f"{text}{', but' if self.kind is RunEnd.PAUSED else ':'} {self.reason}"
        # A run that gave up and was resumed shall not read as one that went through.
        if self.earlier and self.kind.over:
            text = f"{text}. {self.earlier}"
        return text if self.safe else f"{INSPECT}. {text}"

    @property
    def terminal_line(self) -> str:
        """The sentence for a terminal."""
        return self.sentence if self.safe else f"{UNSAFE_MARK} {self.sentence}"


def run_ending(db: sqlite3.Connection, at_work: bool, after_event: int = 0) -> RunEnding:
    """Determine how the run of a journal ended.

    Args:
        db: The journal.
        at_work: Whether a program is at work on it.
        after_event: An end that was noted up to this event is not the one that is asked for.
    """
    return ending_of(db, read_run_state(db), last_session(db), at_work, after_event)


def ending_of(
    db: sqlite3.Connection,
    run_state: RunState | None,
    session: RunSession,
    at_work: bool,
    after_event: int = 0,
) -> RunEnding:
    """Determine how a run ended, as `run_ending`, from what has been read of its journal already.

    Args:
        db: The journal.
        run_state: State of the run; None before its first transition.
        session: The last one.
        at_work: Whether a program is at work on it.
        after_event: As for `run_ending`.
    """
    ending = _last_ending(db, run_state, session, at_work, after_event)
    return replace(ending, earlier=_given_up_before(db, session))


def _given_up_before(db: sqlite3.Connection, session: RunSession) -> str:
    """Name the last time that the run gave up before its last session, and how often it did."""
    # Noted as it gives up; the session that goes on after it is younger.
    rows = db.execute(
        "SELECT text FROM events WHERE kind = ? AND wall < ? ORDER BY id", (GIVEN_UP, session.wall)
    ).fetchall()
    if not rows:
        return ""
    times = "" if len(rows) == 1 else f" {len(rows)} times, the last time"
    return f"Before it was resumed it had given up{times}: {rows[-1]['text']}"


def _last_ending(
    db: sqlite3.Connection,
    run_state: RunState | None,
    session: RunSession,
    at_work: bool,
    after_event: int,
) -> RunEnding:
    state = None if run_state is None else run_state.state
    # The last event of a session is its end: the runner notes nothing after it.
    event = db.execute("SELECT * FROM events ORDER BY id DESC LIMIT 1").fetchone()
    noted = event is not None and event["kind"] in (SAFE_END, UNSAFE_END)
    noted = noted and event["id"] > after_event
    # An end counts until the next session begins: that of a resumed run is older than its session.
    if noted and event["wall"] >= session.wall:
        text, safe = str(event["text"]), event["kind"] == SAFE_END
        # A program that holds the run after such an end has taken it up again, and writes its own
        # session only when everything is loaded. An unsafe end stays in view until then.
        if at_work and safe and state is not State.STOP:
            return RunEnding(RunEnd.RESUMING)
        return RunEnding(_kind(run_state, text), text, safe, event["wall"])
    if at_work:
        return _paused(event) if state is State.PAUSE else RunEnding(RunEnd.RUNNING)
    if run_state is None and not session.number and event is None:
        return RunEnding(RunEnd.KILLED_AT_ONCE)
    # Nobody has withdrawn the tip of a killed run, and a real one is still at the surface.
    return RunEnding(RunEnd.KILLED, safe=_is_simulated(session) or _is_withdrawn(db))


def _kind(run_state: RunState | None, text: str) -> RunEnd:
    # In the middle of a transition the state is that before it, and only the event has the reason.
    if run_state is None or run_state.state is not State.STOP:
        interrupted = text.partition(";")[0] == INTERRUPTED
        return RunEnd.INTERRUPTED if interrupted else RunEnd.PROGRAM_ERROR
    # Given up comes first: also a run that was asked to stop can fail on its way.
    if run_state.ending.failed:
        return RunEnd.GIVEN_UP
    return RunEnd.STOPPED if run_state.ending.reason == ASKED_TO_STOP else RunEnd.COMPLETED


def _paused(event: sqlite3.Row | None) -> RunEnding:
    if event is None or event["kind"] != "pause" or not event["text"].startswith(_NOT_WITHDRAWN):
        return RunEnding(RunEnd.PAUSED)
    return RunEnding(RunEnd.PAUSED, str(event["text"]), safe=False)


def _is_simulated(session: RunSession) -> bool:
    # Settings that cannot be read may be those of a real microscope: the safe side is to look.
    return session.settings is not None and session.settings.run.microscope != "real"


def _is_withdrawn(db: sqlite3.Connection) -> bool:
    """Tell whether the last act was a withdrawal that succeeded."""
    # Its result as well: a withdrawal that was intended may never have been sent.
    last = db.execute("SELECT act, result FROM acts ORDER BY id DESC LIMIT 1").fetchone()
    return last is not None and (last["act"], last["result"]) == ("withdraw", "done")
