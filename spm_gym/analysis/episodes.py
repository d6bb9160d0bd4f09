"""One conditioning episode of a run: its decisions, and the scans that they rest on."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spm_gym.analysis.session import last_session
from spm_gym.config import EnvConfig


class NoEpisode(ValueError):
    """There is no such episode; the message says which there are."""


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """An episode as the journal has it.

    Attributes:
        number: Of the episode.
        actions: Names of all actions that there were to choose from.
        scans: Rows of the table ``scans``, in their order, each with the row of the table ``steps``
            that was decided on it, None at the end.
    """

    number: int
    actions: list[str]
    scans: list[tuple[sqlite3.Row, sqlite3.Row | None]]


def episode_record(
    db: sqlite3.Connection, run: Path, episode: int | None, config: EnvConfig
) -> EpisodeRecord:
    """Read an episode.

    Args:
        db: The journal.
        run: The run directory, for messages.
        episode: Its number; None for the last one.
        config: Settings of the run.

    Raises:
        NoEpisode: The run has not conditioned, or not so often.
    """
    last = db.execute("SELECT MAX(id) FROM episodes").fetchone()[0]
    number = last if episode is None else episode
    row = db.execute("SELECT * FROM episodes WHERE id = ?", (number,)).fetchone()
    if row is None:
        which = "is no episode yet" if number is None else f"is no episode {number}"
        known = "has not conditioned yet" if last is None else f"has the episodes 1 to {last}"
        raise NoEpisode(f"there {which}: {run} {known}")
    steps = db.execute(
        "SELECT * FROM steps WHERE episode = ? ORDER BY number", (number,)
    ).fetchall()
    decided = {step["scan"]: step for step in steps}
    # After a restart a decision may rest on another image than the last outcome: both are kept.
    scans = dict.fromkeys(
        scan for step in steps for scan in (step["scan"], step["scan_after"]) if scan
    )
    query = "SELECT * FROM scans WHERE id = ?"
    return EpisodeRecord(
        number,
        _action_names(db, steps, config),
        [
            (db.execute(query, (scan,)).fetchone(), decided.get(scan))
            for scan in scans or [row["first_scan"]]
        ],
    )


def _action_names(
    db: sqlite3.Connection, steps: Sequence[sqlite3.Row], config: EnvConfig
) -> list[str]:
    """Name the actions that there were; the settings may have been edited since."""
    noted = last_session(db).settings
    actions = (config if noted is None else noted.env).actions
    named = {number: action.name for number, action in enumerate(actions)}
    named |= {step["action"]: step["name"] for step in steps}
    count = max((len(json.loads(step["mask"])) for step in steps), default=len(actions))
    return [named.get(number, f"action {number + 1}") for number in range(count)]


def remark(step: sqlite3.Row, values: Sequence[float], allowed: Sequence[bool]) -> str:
    """Tell what is special about a decision: that it was refused, or no greedy one; "" if nothing.

    Args:
        step: Row of the table ``steps``.
        values: The agent's, of all actions; empty if there are none.
        allowed: Which actions the clean square allowed.
    """
    if step["refused"]:
        return "refused"
    if step["uncertain"]:
        return "uncertain"
    if len(values) == len(allowed) > 0:
        best = int(np.where(allowed, values, -np.inf).argmax())
        return "" if best == step["action"] else "to explore"
    return ""
