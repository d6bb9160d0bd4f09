"""The figures of a run, for scripts and for people."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spm_gym.analysis.consistency import find_inconsistencies, scan_files
from spm_gym.analysis.ending import RunEnd, run_ending
from spm_gym.analysis.policies import PolicyEpisodes, policy_episodes
from spm_gym.analysis.queries import count_rows
from spm_gym.journal.conditions import FINISHED, IMAGE, UNCERTAIN, UNDECIDED
from spm_gym.journal.reader import JournalError, Label, reading
from spm_gym.journal.run_lock import is_run_locked
from spm_gym.runner.run_state import read_run_state

UNDER_WAY = "under_way"


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in figures; ``spm-gym journal --json`` prints these attributes by their names.

    Attributes:
        state: What the run does next; empty before its first step.
        finished: Whether it has come to its end by itself or by request.
        failed: Whether its end is a failure, or one after which the instrument needs somebody.
        ending: Why it has ended, and where the tip is; empty if it has noted no end.
        ending_kind: How it ended, or that it has not.
        ending_sentence: The same as every view shows it.
        safe: Whether nobody has to look at the instrument.
        hours: Time of operation, on the instrument's clock.
        sessions: Starts of the program.
        resumes: How many of these continued the run.
        scans: Of all kinds, partial ones too.
        images: Whole ones that were not discarded, previews not counted.
        labels: Scans by label; "undecided" are those that have none yet.
        share_good: good / (good + bad probe); None without either.
        good_per_hour: Good images per hour of operation; None at the very start.
        episodes: Of conditioning: "total", "good", "limit", "under_way", in a training or an
            evaluation "cut off", and "mean_actions" of the good ones and those that reached the
            limit (None without any).
        policies: Of the episodes that are over, by who chose the actions ("agent", "random"):
            "episodes", "good", "mean_actions" and its "ci95" (None if too few to tell), and
            "mean_seconds" on the instrument's clock with "seconds_ci95".
        actions: Decisions in them: "total", "refused", "uncertain", and "by_name".
        acts: Physical acts by kind and result.
        unknown_outcomes: Acts of which nobody knows whether they were carried out.
        acts_under_way: Acts without a result so far, 0 or 1.
        recoveries: "total", "by_trouble" and "by_result".
        areas: Approach areas used.
        blocked_places: In all areas.
        consistent: Whether journal and files agree.
        inconsistencies: Sentences that say where they do not.
    """

    state: str
    finished: bool
    failed: bool
    ending: str
    ending_kind: RunEnd
    ending_sentence: str
    safe: bool
    hours: float
    sessions: int
    resumes: int
    scans: int
    images: int
    labels: dict[str, int]
    share_good: float | None
    good_per_hour: float | None
    episodes: dict[str, Any]
    policies: dict[str, dict[str, Any]]
    actions: dict[str, Any]
    acts: dict[str, dict[str, int]]
    unknown_outcomes: int
    acts_under_way: int
    recoveries: dict[str, Any]
    areas: int
    blocked_places: int
    consistent: bool
    inconsistencies: tuple[str, ...]


def summarise(run: Path) -> Summary:
    """Count what a run has done and check that its journal is consistent; it may be at work.

    Raises:
        JournalError: There is no journal, or it is too damaged to be read.
    """
    # Files are listed before the journal is opened: one that is newer has no row in it.
    files = scan_files(run)
    try:
        # All figures of one moment, or they would not add up.
        with reading(run) as db:
            return _summarise(run, db, files, is_run_locked(run))
    except sqlite3.DatabaseError as error:
        raise JournalError(f"the journal of {run} is damaged: {error}") from error


def _summarise(run: Path, db: sqlite3.Connection, files: set[str], at_work: bool) -> Summary:
    run_state = read_run_state(db)
    ending = run_ending(db, at_work)
    labels = _labels(db)
    acts = _acts(db)
    hours = 0.0 if run_state is None else run_state.clock.elapsed / 3600
    good, classified = labels[Label.GOOD], labels[Label.GOOD] + labels[Label.BAD_PROBE]
    found = tuple(find_inconsistencies(run, db, run_state, files))
    return Summary(
        state="" if run_state is None else run_state.state,
        finished=ending.kind.finished,
        failed=ending.failed,
        ending=ending.reason,
        ending_kind=ending.kind,
        ending_sentence=ending.sentence,
        safe=ending.safe,
        hours=hours,
        sessions=count_rows(db, "SELECT COUNT(*) FROM sessions"),
        resumes=count_rows(db, "SELECT COUNT(*) FROM sessions WHERE resumed"),
        scans=sum(labels.values()),
        images=count_rows(db, f"SELECT COUNT(*) FROM scans WHERE {IMAGE}"),
        labels=labels,
        share_good=good / classified if classified else None,
        good_per_hour=good / hours if hours else None,
        episodes=_episodes(db),
        policies={name: _policy_figures(each) for name, each in policy_episodes(db).items()},
        actions=_actions(db),
        acts=acts,
        unknown_outcomes=sum(results.get("unknown", 0) for results in acts.values()),
        acts_under_way=sum(results.get(UNDER_WAY, 0) for results in acts.values()),
        recoveries={
            "total": count_rows(db, "SELECT COUNT(*) FROM recoveries"),
            "by_trouble": _counts(db, "trouble", "recoveries"),
            "by_result": _counts(db, "result", "recoveries"),
        },
        areas=count_rows(db, "SELECT COUNT(*) FROM areas"),
        blocked_places=count_rows(db, "SELECT COUNT(*) FROM marks"),
        consistent=not found,
        inconsistencies=found,
    )


def _labels(db: sqlite3.Connection) -> dict[str, int]:
    known = dict.fromkeys([*map(str, Label), UNDECIDED], 0)
    return known | _counts(db, "label", "scans", UNDECIDED)


def _episodes(db: sqlite3.Connection) -> dict[str, Any]:
    outcomes = {"good": 0, "limit": 0, UNDER_WAY: 0} | _counts(db, "outcome", "episodes")
    mean = db.execute(f"SELECT AVG(actions) FROM episodes WHERE {FINISHED}").fetchone()[0]
    return {"total": sum(outcomes.values()), **outcomes, "mean_actions": mean}


def _policy_figures(policy: PolicyEpisodes) -> dict[str, Any]:
    return {
        "episodes": len(policy.lengths),
        "good": policy.good,
        "mean_actions": policy.mean,
        "ci95": policy.interval,
        "mean_seconds": policy.mean_seconds,
        "seconds_ci95": policy.seconds_interval,
    }


def _actions(db: sqlite3.Connection) -> dict[str, Any]:
    return {
        "total": count_rows(db, "SELECT COUNT(*) FROM steps"),
        "refused": count_rows(db, "SELECT COUNT(*) FROM steps WHERE refused"),
        "uncertain": count_rows(db, f"SELECT COUNT(*) FROM steps WHERE {UNCERTAIN}"),
        "by_name": _counts(db, "name", "steps"),
    }


def _acts(db: sqlite3.Connection) -> dict[str, dict[str, int]]:
    acts: dict[str, dict[str, int]] = {}
    query = "SELECT act, result, COUNT(*) FROM acts GROUP BY act, result ORDER BY act, result"
    for act, result, count in db.execute(query):
        acts.setdefault(act, {})[result or UNDER_WAY] = count
    return acts


def _counts(
    db: sqlite3.Connection, column: str, table: str, missing: str = UNDER_WAY
) -> dict[str, int]:
    """Count rows by the value of a column, the most frequent first."""
    query = f"SELECT {column}, COUNT(*) AS n FROM {table} GROUP BY {column} ORDER BY n DESC"
    # NULL is what has no result yet.
    return {value or missing: count for value, count in db.execute(query)}
