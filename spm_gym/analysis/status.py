"""The present activity of a run and its reason, in a plain sentence."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from spm_gym.analysis.ending import RunEnd, RunEnding, ending_of
from spm_gym.analysis.queries import single
from spm_gym.analysis.session import RunSession, last_session
from spm_gym.analysis.wording import nm, ordinal, plural, unbroken
from spm_gym.instrument.driver import SETTINGS_BEFORE
from spm_gym.journal.run_lock import is_run_locked
from spm_gym.paths import as_typed
from spm_gym.runner.run_state import OpenEpisode, RunState, read_run_state
from spm_gym.runner.states import ASKED_TO_PAUSE, State
from spm_gym.scale import duration_text


class Activity(StrEnum):
    """Kind of activity, for colours and for views that only report changes."""

    STARTS = "starts"
    IMAGES = "images"
    CONDITIONS = "conditions"
    RECOVERS = "recovers"
    MOVES = "moves"
    HANDS_OVER = "hands over"
    PAUSED = "paused"
    ENDED = "ended"
    FAILED = "failed"
    CUT_OFF = "cut off"


@dataclass(frozen=True, slots=True)
class RunStatus:
    """The present activity of a run.

    Attributes:
        activity: In a word.
        sentence: In a sentence.
        why: Its reason, or what can be done about it; "" for neither.
        since: When the last entry was made, or the run ended, seconds since 1970.
        late_s: An entry is late after so many seconds; None: none is to come.
        ending: How the run ended, or that it has not.
    """

    activity: Activity
    sentence: str
    why: str
    since: float | None
    late_s: float | None
    ending: RunEnding

    @property
    def over(self) -> bool:
        """Whether nothing more comes unless somebody resumes it."""
        return self.ending.kind.over

    @property
    def unsafe(self) -> bool:
        """Whether somebody has to look at the instrument."""
        return not self.ending.safe

    @property
    def failed(self) -> bool:
        """Whether it has come to an end that nobody wanted, or needs somebody."""
        return self.ending.failed


_LATE_S = 600.0
"""Creeping piezos and patient reconnecting take minutes without an entry."""

_SLOW_IMAGES = 5
_RESUME = {
    "run": "Go on with: spm-gym run --resume --run-dir {}",
    "train": "Go on with: python train.py --resume --run-dir {}",
    "evaluate": "An evaluation is not resumed: repeat it with python evaluate.py",
}
_RESTORE = (
    "; or withdraw the tip and restore the operator's settings with: spm-gym restore {}. Until one "
    "of them is done, no other run is let onto the controller."
)

_RECOVERING = (State.RECOVER, State.APPROACH, State.SETTLE, State.CLEAN)

_ACTIVITIES = {
    RunEnd.RESUMING: Activity.STARTS,
    RunEnd.PAUSED: Activity.PAUSED,
    RunEnd.COMPLETED: Activity.ENDED,
    RunEnd.STOPPED: Activity.ENDED,
    RunEnd.GIVEN_UP: Activity.FAILED,
    RunEnd.INTERRUPTED: Activity.CUT_OFF,
    RunEnd.PROGRAM_ERROR: Activity.FAILED,
    RunEnd.KILLED: Activity.CUT_OFF,
    RunEnd.KILLED_AT_ONCE: Activity.CUT_OFF,
}


def run_status(db: sqlite3.Connection, run: Path) -> RunStatus:
    """Describe the present activity of the run in a directory."""
    return status_of(db, read_run_state(db), last_session(db), is_run_locked(run), str(run))


def status_of(
    db: sqlite3.Connection, run_state: RunState | None, session: RunSession, at_work: bool, run: str
) -> RunStatus:
    """Describe the activity of a run, from what has been read of its journal already.

    Args:
        db: The journal.
        run_state: State of the run; None before its first transition.
        session: The last one.
        at_work: Whether a program is at work on it.
        run: Its directory.
    """
    ending = ending_of(db, run_state, session, at_work)
    since, late = single(db, _LAST_ENTRY), _late(run_state, session)
    if ending.kind is RunEnd.RUNNING:
        activity, sentence, why = _doing(db, run_state, session)
        why = f"{why} {ending.earlier}{'.' * bool(ending.earlier)}".strip()
        return RunStatus(activity, sentence, why, since, late, ending)
    activity = _ACTIVITIES[ending.kind]
    if ending.kind.over:
        activity = activity if ending.safe else Activity.FAILED
        why = how_to_go_on(session, ending, run)
        return RunStatus(activity, ending.sentence, why, since, None, ending)
    # A pause may last for days: it has no entry that could be late.
    if ending.kind is RunEnd.PAUSED:
        why = _why_paused(db)
        return RunStatus(activity, ending.sentence, why, since, None, ending)
    return RunStatus(activity, ending.sentence, "", since, late, ending)


def _why_paused(db: sqlite3.Connection) -> str:
    query = "SELECT text FROM events WHERE kind = 'pause' ORDER BY id DESC LIMIT 5"
    texts = [text.removesuffix(": withdrawing") for (text,) in db.execute(query)]
    # The newest may be that the tip could not be withdrawn, which the sentence says already.
    why = next((text for text in texts if not text.startswith("not withdrawn")), ASKED_TO_PAUSE)
    return "Somebody has asked for it." if why == ASKED_TO_PAUSE else _sentence(why)


def _late(run_state: RunState | None, session: RunSession) -> float:
    # Large images of many pixels take longer than any fixed time.
    late = max(_LATE_S, _SLOW_IMAGES * session.pace.image_s if session.pace else 0.0)
    if run_state is None or run_state.state is not State.HAND_OVER or session.settings is None:
        return late
    return late + session.settings.operation.program_s


def how_to_go_on(session: RunSession, ending: RunEnding, run: str) -> str:
    """Name what goes on, or leaves the instrument as it is to be left after nothing else has."""
    name = as_typed(run)
    text = _RESUME.get(session.command, _RESUME["run"]).format(name)
    # A driver keeps the operator's settings in this file until they are restored.
    if (Path(run) / SETTINGS_BEFORE).is_file():
        text += _RESTORE.format(name)
    return text if ending.safe else f"The tip may still be at the surface. {text}"


def _doing(
    db: sqlite3.Connection, run_state: RunState | None, session: RunSession
) -> tuple[Activity, str, str]:
    if run_state is None:
        return Activity.STARTS, "Getting ready for the first image", ""
    state, leaving = run_state.state, run_state.place.leaving
    if state is State.STOP:
        ending = run_state.ending.reason or "somebody has asked for it"
        return (
            Activity.ENDED,
            f"Ending: {ending}",
            "The tip is withdrawn before the end, where the driver can.",
        )
    if session.command != "run":
        return _training(db, run_state, session)
    # Before conditioning, which a trouble interrupts: people want to know of the trouble.
    if run_state.recovery.trouble and state in _RECOVERING:
        return _recovering(db, run_state, session)
    if state is State.HAND_OVER:
        return Activity.HANDS_OVER, "A program has the tip", _program(session)
    if state is State.CHANGE_AREA:
        why = f"The old area is left because of: {leaving}."
        return Activity.MOVES, "Moving to the next approach area", why if leaving else ""
    if run_state.conditioning.episode is not None:
        activity, sentence, why = _conditioning(db, run_state, run_state.conditioning.episode)
    else:
        activity, sentence = _routine(run_state, session)
        why = _after_trouble(run_state, session)
    return activity, sentence, f"{why} {_unknown(run_state, session)}".strip()


def _training(
    db: sqlite3.Connection, run_state: RunState, session: RunSession
) -> tuple[Activity, str, str]:
    """Describe a training or an evaluation, which does one thing only: episode after episode."""
    done, state, trouble = run_state.training.steps, run_state.state, run_state.recovery.trouble
    what = "Training" if session.command == "train" else "Evaluation"
    most = ""
    if session.command == "train" and session.settings is not None:
        most = f" of {session.settings.agent.steps}"
    if (episode := run_state.conditioning.episode) is None:
        number = run_state.conditioning.episodes + 1
        sentence = f"{what}: {done}{most} steps done, preparing episode {number}"
    else:
        sentence = f"{what}: step {done + 1}{most}, episode {episode.number}"
    if trouble:
        return Activity.RECOVERS, f"{sentence}: recovering from {trouble}", _troubles(run_state)
    step = db.execute("SELECT name FROM steps ORDER BY id DESC LIMIT 1").fetchone()
    if state is State.CONDITION and step is not None:
        return Activity.CONDITIONS, f"{sentence}: {unbroken(step['name'])}", ""
    frame = run_state.place.frame
    if state is State.IMAGE and frame is not None:
        return Activity.IMAGES, f"{sentence}: taking an image{_place((frame.x, frame.y))}", ""
    return Activity.IMAGES, sentence, ""


def _program(session: RunSession) -> str:
    if session.settings is None:
        return ""
    settings = session.settings.operation
    return f"{settings.when_good}, for {duration_text(settings.program_s)} at most."


def _recovering(
    db: sqlite3.Connection, run_state: RunState, session: RunSession
) -> tuple[Activity, str, str]:
    last = db.execute("SELECT detail FROM recoveries ORDER BY id DESC LIMIT 1").fetchone()
    detail = last["detail"] if last else ""
    doing = {State.APPROACH: ": approaching", State.SETTLE: ": waiting for the piezos to settle"}
    sentence = f"Recovering from {run_state.recovery.trouble}{doing.get(run_state.state, '')}"
    most = ""
    if session.settings is not None:
        bound = session.settings.operation.max_recoveries
        most = f" More than {bound} without a usable image in between end the run."
    return Activity.RECOVERS, sentence, f"{_sentence(detail)} {_troubles(run_state)}{most}".strip()


def _troubles(run_state: RunState) -> str:
    number = run_state.recovery.in_a_row
    return f"The {ordinal(number)} trouble since the last usable image." if number > 1 else ""


def _after_trouble(run_state: RunState, session: RunSession) -> str:
    trouble = run_state.recovery
    if not trouble.in_a_row:
        return ""
    last = f" The last one: {trouble.trouble}." if trouble.trouble else ""
    number = plural(trouble.in_a_row, "trouble")
    return f"{number} since the last usable image.{last}"


def _unknown(run_state: RunState, session: RunSession) -> str:
    number = run_state.imaging.unknown
    if not number:
        return ""
    most = ""
    if session.settings is not None:
        most = f"; {session.settings.operation.unknown_after} end the run"
    return f"Images in a row that the classifier does not know: {number}{most}."


def _routine(run_state: RunState, session: RunSession) -> tuple[Activity, str]:
    state, number, frame = run_state.state, run_state.imaging.images + 1, run_state.place.frame
    place = _place(None if frame is None else (frame.x, frame.y))
    if state == State.PARTIAL:
        return Activity.IMAGES, f"Settling{place} for image {number}"
    if state == State.IMAGE:
        return Activity.IMAGES, f"Taking image {number}{place}"
    if state in (State.DIAGNOSE, State.CLASSIFY, State.COLLECT):
        doing = "Examining" if session.survey else "Classifying"
        return Activity.IMAGES, f"{doing} image {number - 1}"
    if state == State.APPROACH:
        return Activity.IMAGES, "Approaching the surface"
    if state == State.SETTLE:
        return Activity.IMAGES, "Waiting for the piezos to settle"
    if state == State.CLEAN:
        return (
            Activity.RECOVERS,
            f"Cleaning the tip{_place(run_state.place.clean_at)} after a crash",
        )
    return Activity.IMAGES, f"Choosing the place of image {number}"


def _conditioning(
    db: sqlite3.Connection, run_state: RunState, episode: OpenEpisode
) -> tuple[Activity, str, str]:
    because = {0: "", 1: ", started because an image showed a bad probe"}.get(
        bad := run_state.imaging.bad_probe,
        f", started because {plural(bad, 'image')} in a row showed a bad probe",
    )
    why = f"Episode {episode.number}{because}."
    number = episode.steps + 1
    the_action = f"the {ordinal(number)} action of this episode"
    query = "SELECT name FROM steps WHERE episode = ? AND number = ?"
    step = db.execute(query, (episode.number, number)).fetchone()
    if run_state.state is State.CONDITION:
        doing = (
            f"choosing {the_action}" if step is None else f"{unbroken(step['name'])}, {the_action}"
        )
    elif step is not None:
        doing = f"{_imaging(run_state)} to see what {unbroken(step['name'])} did, {the_action}"
    else:
        doing = f"{_imaging(run_state)}, on which the next action is decided"
    return Activity.CONDITIONS, f"Conditioning: {doing}", why


def _imaging(run_state: RunState) -> str:
    if run_state.state in (State.DIAGNOSE, State.CLASSIFY, State.COLLECT):
        return f"classifying image {run_state.imaging.images}"
    return f"taking image {run_state.imaging.images + 1}"


def _place(where: tuple[float, float] | None) -> str:
    return "" if not where else f" at {nm(where[0])}, {nm(where[1])} nm"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


# Each table by its primary key: MAX(wall) over whole tables would read all of a long run.
_LAST_ENTRY = """
SELECT MAX(wall) FROM (
    SELECT wall FROM (SELECT wall FROM scans ORDER BY id DESC LIMIT 1) UNION ALL
    SELECT wall FROM (SELECT wall FROM events ORDER BY id DESC LIMIT 1) UNION ALL
    SELECT wall FROM (SELECT wall FROM sessions ORDER BY id DESC LIMIT 1) UNION ALL
    SELECT wall FROM (SELECT COALESCE(wall_result, wall) AS wall FROM acts ORDER BY id DESC LIMIT 1)
)
"""
