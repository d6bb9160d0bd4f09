"""What a run does at this moment and why, in a plain sentence."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from spm_gym.analysis.session import RunSession, last_session
from spm_gym.analysis.wording import nm, ordinal, plural, unbroken
from spm_gym.instrument.driver import SETTINGS_BEFORE
from spm_gym.journal.reader import SAFE_END, UNSAFE_END
from spm_gym.journal.run_lock import is_run_locked
from spm_gym.paths import as_typed
from spm_gym.runner.run_state import OpenEpisode, RunState, read_run_state
from spm_gym.runner.states import State


class Activity(StrEnum):
    """What a run is about, for colours and for whoever only wants to hear of changes."""

    BEGINS = "begins"
    IMAGES = "images"
    CONDITIONS = "conditions"
    RECOVERS = "recovers"
    MOVES = "moves"
    PAUSED = "paused"
    ENDED = "ended"
    FAILED = "failed"
    CUT_OFF = "cut off"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How a run stands.

    Attributes:
        activity: In a word.
        sentence: In a sentence.
        why: What it is done for, or what can be done about it; "" if there is nothing to say.
        since: When the last entry was made, or the run ended, seconds since 1970.
        late_s: An entry is late after so many seconds; None: none is to come.
        unsafe: Whether somebody has to look at the instrument.
    """

    activity: Activity
    sentence: str
    why: str
    since: float | None
    late_s: float | None
    unsafe: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more comes unless somebody goes on with it."""
        return self.late_s is None and self.activity is not Activity.PAUSED

    @property
    def failed(self) -> bool:
        """Whether it has come to an end that nobody wanted, or needs somebody."""
        return self.unsafe or self.activity is Activity.FAILED


_LATE_S = 600.0
"""Creeping piezos and patient reconnecting take minutes without an entry."""

_SLOW_IMAGES = 5
_GO_ON = "Go on with: spm-gym run --resume --run-dir {}"
_RESTORE = (
    "; or withdraw the tip and restore the operator's settings with: spm-gym restore {}. Until one "
    "of them is done, no other run is let onto the controller."
)
_LOOK = "Look at the instrument"


def stands(db: sqlite3.Connection, run: Path) -> RunStatus:
    """How the run of a directory stands at this moment."""
    return standing(db, read_run_state(db), last_session(db), is_run_locked(run), str(run))


def standing(
    db: sqlite3.Connection, m: RunState | None, session: RunSession, at_work: bool, run: str
) -> RunStatus:
    """How a run stands.

    Args:
        db: The journal.
        m: State of the run; None before its first transition.
        session: The last one.
        at_work: Whether a program is at work on it.
        run: Its directory.
    """
    since = _last_entry(db)
    end = _end(db, session)
    if end is not None and end.trouble:
        return _unsafe(end, since, _leave_well(run))
    if m is not None and m.state is State.STOP and (end is not None or not at_work):
        return _ended(m, end, since, run)
    if not at_work:
        return _cut_off(end, since, _leave_well(run), m is not None)
    if end is not None:  # somebody goes on with it, and everything is still being loaded
        return RunStatus(Activity.BEGINS, "Getting ready to go on", "", since, _late(session))
    if m is not None and m.state is State.PAUSE:
        return _paused(db, since)
    return RunStatus(*_doing(db, m, session), since, _late(session))


def _paused(db: sqlite3.Connection, since: float | None) -> RunStatus:
    last = db.execute("SELECT kind, text FROM events ORDER BY id DESC LIMIT 1").fetchone()
    why = "Somebody has asked for it."
    if last is None or last["kind"] != "pause" or not last["text"].startswith("not withdrawn"):
        return RunStatus(Activity.PAUSED, "Paused", why, since, None)
    sentence = f"{_LOOK}. Paused, but {last['text']}"
    return RunStatus(Activity.PAUSED, sentence, why, since, None, unsafe=True)


def _late(session: RunSession) -> float:
    return max(_LATE_S, _SLOW_IMAGES * session.pace.image_s if session.pace else 0.0)


@dataclass(frozen=True, slots=True)
class _End:
    """How a session ended, in its words; why the tip may still be at the surface, "" if not."""

    text: str
    trouble: str


def _end(db: sqlite3.Connection, session: RunSession) -> _End | None:
    """How the last session ended, if it said so."""
    last = db.execute("SELECT * FROM events ORDER BY id DESC LIMIT 1").fetchone()
    if last is None or last["kind"] not in (SAFE_END, UNSAFE_END) or last["wall"] < session.wall:
        return None
    text = str(last["text"])
    trouble = _not_withdrawn(db)
    if last["kind"] == UNSAFE_END or _NOT_WITHDRAWN in text:
        return _End(text, trouble or text)
    # Older programs did not note where the tip was; the acts say it.
    says_where = any(f"; {where}" in text for where in _WHERE)
    return _End(text, "" if says_where else trouble)


_NOT_WITHDRAWN = "TIP NOT WITHDRAWN"
_WHERE = ("tip withdrawn", "tip left at the surface")


def _not_withdrawn(db: sqlite3.Connection) -> str:
    """What went wrong with the withdrawal, if that was the last act and it did."""
    last = db.execute("SELECT act, result FROM acts ORDER BY id DESC LIMIT 1").fetchone()
    if last is None or last["act"] != "withdraw" or last["result"] == "done":
        return ""
    return f"the last withdrawal of the tip: {last['result'] or 'unknown'}"


def _leave_well(run: str) -> str:
    """What leaves the instrument as it is to be left, after nothing else has."""
    name = as_typed(run)
    go_on = _GO_ON.format(name)
    if not (Path(run) / SETTINGS_BEFORE).is_file():
        return go_on
    return go_on + _RESTORE.format(name)


def _unsafe(end: _End, since: float | None, go_on: str) -> RunStatus:
    said = end.text if _NOT_WITHDRAWN in end.text else f"{end.text}; {end.trouble}"
    why = f"The tip may still be at the surface. {go_on}"
    return RunStatus(Activity.FAILED, f"{_LOOK}. Ended: {said}", why, since, None, unsafe=True)


def _ended(m: RunState, end: _End | None, since: float | None, run: str) -> RunStatus:
    ending = (end.text if end else m.ending.reason) or "no reason noted"
    go_on = _GO_ON.format(as_typed(run))
    if m.ending.failed:
        return RunStatus(Activity.FAILED, f"Given up: {ending}", go_on, since, None)
    return RunStatus(Activity.ENDED, f"Ended: {ending}", go_on, since, None)


def _cut_off(end: _End | None, since: float | None, go_on: str, started: bool) -> RunStatus:
    if end is not None:  # in the middle of a transition
        sentence = f"Ended in the middle of its work: {end.text}"
        return RunStatus(Activity.CUT_OFF, sentence, go_on, since, None)
    if not started and since is None:
        sentence = "Not at work: the program was killed before it had done anything"
        return RunStatus(Activity.CUT_OFF, sentence, go_on, None, None)
    sentence = "Not at work: the program was killed, or its computer lost power"
    return RunStatus(Activity.CUT_OFF, sentence, go_on, since, None)


def _doing(
    db: sqlite3.Connection, m: RunState | None, session: RunSession
) -> tuple[Activity, str, str]:
    if m is None:
        return Activity.BEGINS, "Getting ready for the first image", ""
    state, leaving = m.state, m.place.leaving
    if state is State.STOP:
        ending = m.ending.reason or "somebody has asked for it"
        return (
            Activity.ENDED,
            f"Ending: {ending}",
            "The tip is withdrawn before the end, where the driver can.",
        )
    if m.recovery.trouble and state in (State.RECOVER, State.APPROACH, State.SETTLE, State.CLEAN):
        return _recovering(db, m, session)
    if state is State.CHANGE_AREA:
        why = f"The old area is left because of: {leaving}."
        return Activity.MOVES, "Moving to the next approach area", why if leaving else ""
    if m.conditioning.episode is not None:
        return _conditioning(db, m, m.conditioning.episode)
    return (*_routine(m), _after_trouble(m, session))


def _recovering(
    db: sqlite3.Connection, m: RunState, session: RunSession
) -> tuple[Activity, str, str]:
    last = db.execute("SELECT detail FROM recoveries ORDER BY id DESC LIMIT 1").fetchone()
    detail = last["detail"] if last else ""
    doing = {State.APPROACH: ": approaching", State.SETTLE: ": waiting for the piezos to settle"}
    sentence = f"Recovering from {m.recovery.trouble}{doing.get(m.state, '')}"
    most = "" if session.settings is None else _borne(session.settings.operation.max_recoveries)
    return Activity.RECOVERS, sentence, f"{_sentence(detail)} {_troubles(m)}{most}".strip()


def _borne(most: int) -> str:
    return f" More than {most} without a usable image in between end the run."


def _troubles(m: RunState) -> str:
    number = m.recovery.in_a_row
    return f"The {ordinal(number)} trouble since the last usable image." if number > 1 else ""


def _after_trouble(m: RunState, session: RunSession) -> str:
    trouble = m.recovery
    if not trouble.in_a_row:
        return ""
    last = f" The last one: {trouble.trouble}." if trouble.trouble else ""
    number = plural(trouble.in_a_row, "trouble")
    return f"{number} since the last usable image.{last}"


def _routine(m: RunState) -> tuple[Activity, str]:
    state, number, frame = m.state, m.imaging.images + 1, m.place.frame
    place = _place(None if frame is None else (frame.x, frame.y))
    if state == State.PARTIAL:
        return Activity.IMAGES, f"Settling{place} for image {number}"
    if state == State.IMAGE:
        return Activity.IMAGES, f"Taking image {number}{place}"
    if state in (State.DIAGNOSE, State.CLASSIFY, State.COLLECT):
        return Activity.IMAGES, f"Classifying image {number - 1}"
    if state == State.APPROACH:
        return Activity.IMAGES, "Approaching the surface"
    if state == State.SETTLE:
        return Activity.IMAGES, "Waiting for the piezos to settle"
    if state == State.CLEAN:
        return Activity.RECOVERS, f"Cleaning the tip{_place(m.place.clean_at)} after a crash"
    return Activity.IMAGES, f"Choosing the place of image {number}"


def _conditioning(
    db: sqlite3.Connection, m: RunState, episode: OpenEpisode
) -> tuple[Activity, str, str]:
    because = {0: "", 1: ", started because an image showed a bad probe"}.get(
        bad := m.imaging.bad_probe,
        f", started because {plural(bad, 'image')} in a row showed a bad probe",
    )
    why = f"Episode {episode.number}{because}."
    number = episode.steps + 1
    the_action = f"the {ordinal(number)} action of this episode"
    query = "SELECT name FROM steps WHERE episode = ? AND number = ?"
    step = db.execute(query, (episode.number, number)).fetchone()
    if m.state is State.CONDITION:
        doing = (
            f"choosing {the_action}" if step is None else f"{unbroken(step['name'])}, {the_action}"
        )
    elif step is not None:
        doing = f"{_looking(m)} to see what {unbroken(step['name'])} did, {the_action}"
    else:
        doing = f"{_looking(m)}, on which the next action is decided"
    return Activity.CONDITIONS, f"Conditioning: {doing}", why


def _looking(m: RunState) -> str:
    if m.state in (State.DIAGNOSE, State.CLASSIFY, State.COLLECT):
        return f"classifying image {m.imaging.images}"
    return f"taking image {m.imaging.images + 1}"


def _place(where: tuple[float, float] | None) -> str:
    return "" if not where else f" at {nm(where[0])}, {nm(where[1])} nm"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _last_entry(db: sqlite3.Connection) -> float | None:
    wall: float | None = db.execute(_LAST_ENTRY).fetchone()[0]
    return wall


_LAST_ENTRY = """
SELECT MAX(wall) FROM (
    SELECT wall FROM (SELECT wall FROM scans ORDER BY id DESC LIMIT 1) UNION ALL
    SELECT wall FROM (SELECT wall FROM events ORDER BY id DESC LIMIT 1) UNION ALL
    SELECT wall FROM (SELECT wall FROM sessions ORDER BY id DESC LIMIT 1) UNION ALL
    SELECT wall FROM (SELECT COALESCE(wall_result, wall) AS wall FROM acts ORDER BY id DESC LIMIT 1)
)
"""
