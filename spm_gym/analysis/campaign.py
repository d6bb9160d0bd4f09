"""A run as one of several campaigns: its figures with 95 % intervals, and its settings."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from spm_gym.analysis.ending import RunEnd, RunEnding, run_ending
from spm_gym.analysis.policies import PolicyEpisodes, policy_episodes
from spm_gym.analysis.queries import count_rows
from spm_gym.analysis.report import (
    HOUR,
    Overview,
    Yield,
    good_over_time,
    moments,
    overview,
    unknown_acts,
)
from spm_gym.analysis.session import last_session
from spm_gym.intervals import (
    FEWEST,
    Interval,
    blocks_interval,
    length_interval,
    poisson_interval,
    price_interval,
)
from spm_gym.journal.reader import JournalError, Label, columns, reading
from spm_gym.journal.run_lock import is_run_locked

GOOD, ACTIONS, SECONDS = "good_per_hour", "actions_per_conditioning", "seconds_per_conditioning"
TROUBLES = "troubles_per_day"
"""Names of figures; those of conditioning by one policy end with its name."""

FEWEST_CONDITIONINGS = 5
"""That an interval of good images per hour takes. Its width is that of how often the tip fails: of
two failures in a run it would have the true rate in less than 90 % of cases, of ten in 95 %."""

ACTION_SET = "env.actions"
"""Setting whose value here are the names of the actions; each of them is a setting below it."""

_DAY = 24 * HOUR


class NoInterval(StrEnum):
    """Reasons for a figure without an interval, in a word or two."""

    NOTHING = "none"
    FEW = "too few"
    SHORT = "too short"
    ALIKE = "too alike"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its uncertainty.

    Attributes:
        value: NaN if there is nothing to take it of.
        interval: 95 % interval, or why there is none.
    """

    value: float
    interval: Interval | NoInterval


@dataclass(frozen=True, slots=True)
class Campaign:
    """A run in figures that can be compared with those of another one.

    Attributes:
        run: Its directory.
        started: Seconds since 1970; None if the journal has lost it.
        ending: How the run ended, or that it has not.
        overview: Its counts.
        figures: With intervals, by name.
        troubles: By kind.
        unknown_acts: Acts of which nobody knows whether they were carried out.
        good: Good images over time; None before any time of operation.
        settings: In force in its last session, by key, as JSON has them; also the hashes of
            classifier and agent, and the version of the program. None if they cannot be read.
        remarks: Sentences on what limits the comparison.
    """

    run: Path
    started: float | None
    ending: RunEnding
    overview: Overview
    figures: dict[str, Figure]
    troubles: dict[str, int]
    unknown_acts: int
    good: Yield | None
    settings: dict[str, Any] | None
    remarks: tuple[str, ...]

    @property
    def conditionings(self) -> int:
        """Episodes of conditioning, the one under way included."""
        return sum(self.overview.episodes.values())


def read_campaign(run: Path) -> Campaign:
    """Read the figures of a run, which may be at work.

    Raises:
        JournalError: There is no journal, or it is too damaged to be read.
    """
    try:
        with reading(run) as db:
            _refuse_other_values(run, db)
            return _campaign(run, db)
    except sqlite3.DatabaseError as error:
        raise JournalError(f"the journal of {run} is damaged: {error}") from error


def _refuse_other_values(run: Path, db: sqlite3.Connection) -> None:
    # SQLite keeps text in columns of numbers, and compares it with them.
    for table, column, kind, *_ in sorted(columns(db)):
        wrong = f"SELECT COUNT(*) FROM {table} WHERE typeof({column}) IN ('text', 'blob')"
        if kind in ("REAL", "INTEGER") and count_rows(db, wrong):
            raise JournalError(f"the journal of {run} is damaged: {table}.{column} is no number")


_SESSIONS = """
SELECT wall, config_sha256, classifier_sha256, agent_sha256,
       CASE WHEN json_valid(versions) THEN json_extract(versions, '$."spm-gym"') END AS program
FROM sessions ORDER BY id
"""


def _campaign(run: Path, db: sqlite3.Connection) -> Campaign:
    counts = overview(db)
    troubles = {kind: len(at) for kind, at in moments(db, counts.elapsed).recoveries.items()}
    ending = run_ending(db, is_run_locked(run))
    sessions = db.execute(_SESSIONS).fetchall()
    settings = _settings(db, sessions)
    return Campaign(
        run=run,
        started=sessions[0]["wall"] if sessions else None,
        ending=ending,
        overview=counts,
        figures={
            GOOD: _good_rate(db, counts),
            **_prices(policy_episodes(db)),
            TROUBLES: _per_day(sum(troubles.values()), counts.elapsed),
        },
        troubles=troubles,
        unknown_acts=sum(unknown_acts(db)[0].values()),
        good=good_over_time(db, counts.elapsed) if counts.elapsed else None,
        settings=settings,
        remarks=tuple(_remarks(ending, counts, settings, sessions)),
    )


def _good_rate(db: sqlite3.Connection, counts: Overview) -> Figure:
    if not counts.elapsed:
        return Figure(math.nan, NoInterval.NOTHING)
    value = HOUR * counts.good / counts.elapsed
    if sum(counts.episodes.values()) < FEWEST_CONDITIONINGS:
        return Figure(value, NoInterval.FEW)
    # A damaged row has no time within the run.
    query = "SELECT elapsed FROM scans WHERE label = ? AND elapsed BETWEEN 0 AND ? ORDER BY elapsed"
    times = [at / HOUR for (at,) in db.execute(query, (Label.GOOD, counts.elapsed))]
    return Figure(value, blocks_interval(times, counts.elapsed / HOUR) or NoInterval.SHORT)


def _per_day(events: int, elapsed: float) -> Figure:
    if not elapsed:
        return Figure(math.nan, NoInterval.NOTHING)
    return Figure(_DAY * events / elapsed, poisson_interval(events, elapsed / _DAY))


def _prices(policies: dict[str, PolicyEpisodes]) -> dict[str, Figure]:
    """Give the mean prices of conditionings, of all and by policy."""
    lengths = [length for policy in policies.values() for length in policy.lengths]
    seconds = [each for policy in policies.values() for each in policy.seconds]
    figures = {
        ACTIONS: _mean(lengths, length_interval(lengths)),
        SECONDS: _mean(seconds, price_interval(seconds)),
    }
    for name, policy in policies.items():
        figures[f"{ACTIONS}_{name}"] = _mean(policy.lengths, policy.interval)
        figures[f"{SECONDS}_{name}"] = _mean(policy.seconds, policy.seconds_interval)
    return figures


def _mean(prices: list[Any] | tuple[Any, ...], interval: Interval | None) -> Figure:
    if not prices:
        return Figure(math.nan, NoInterval.NOTHING)
    missing = NoInterval.FEW if len(prices) < FEWEST else NoInterval.ALIKE
    return Figure(sum(prices) / len(prices), interval or missing)


def _settings(db: sqlite3.Connection, sessions: list[sqlite3.Row]) -> dict[str, Any] | None:
    in_force = last_session(db).settings
    if in_force is None:
        return None
    last = sessions[-1]
    return (
        {
            "classifier_sha256": last["classifier_sha256"],
            # Of the weights that the run began with: after a resume they would be its own.
            "agent_sha256": sessions[0]["agent_sha256"],
            "spm-gym": last["program"],
        }
        | _flat(in_force.model_dump(mode="json", exclude={"faults"}))
        | {
            # As a whole: where there are none, there are no rates either.
            "faults": in_force.faults and in_force.faults.model_dump(mode="json")
        }
    )


def _flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{above}{key}.")
        elif f"{above}{key}" == ACTION_SET:
            flat[ACTION_SET] = [action["name"] for action in value]
            flat |= {f"{ACTION_SET}.{action['name']}": action for action in value}
        else:
            flat[f"{above}{key}"] = value
    return flat


def _remarks(
    ending: RunEnding,
    counts: Overview,
    settings: dict[str, Any] | None,
    sessions: list[sqlite3.Row],
) -> list[str]:
    remarks = []
    if not counts.elapsed:
        remarks.append("nothing done yet: there is nothing to compare")
    elif ending.kind is not RunEnd.COMPLETED or not ending.safe:
        remarks.append(ending.sentence + ("" if ending.kind.over else ": figures so far"))
    if settings is None:
        remarks.append("its settings are not known to this version, and are not compared")
    if len({session["config_sha256"] for session in sessions}) > 1:
        remarks.append("its settings were changed between sessions; the last ones are compared")
    return remarks
