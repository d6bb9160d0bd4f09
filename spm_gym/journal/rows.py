"""Rows of a journal for data sets, by named functions."""

from __future__ import annotations

import sqlite3

from spm_gym.journal.conditions import UNCERTAIN


def scans_to_export(db: sqlite3.Connection) -> list[sqlite3.Row]:
    """Read number, file, label, area and probability of all scans, in their order."""
    return db.execute("SELECT id, file, label, area, probability FROM scans ORDER BY id").fetchall()


def episode_outcomes(db: sqlite3.Connection) -> dict[int, str | None]:
    """Read the outcomes of all episodes by number; None of one that is under way."""
    return dict(map(tuple, db.execute("SELECT id, outcome FROM episodes ORDER BY id")))


def steps_by_episode(db: sqlite3.Connection) -> list[sqlite3.Row]:
    """Read all steps; ``doubtful`` tells that the action may not have been carried out."""
    query = f"SELECT *, ({UNCERTAIN}) AS doubtful FROM steps ORDER BY episode, number"
    return db.execute(query).fetchall()


def scans_of_steps(db: sqlite3.Connection) -> dict[int, sqlite3.Row]:
    """Read all scans that a step rests on or has led to, by number."""
    query = (
        "SELECT * FROM scans WHERE id IN"
        " (SELECT scan FROM steps UNION SELECT scan_after FROM steps)"
    )
    return {row["id"]: row for row in db.execute(query)}


def config_hashes(db: sqlite3.Connection) -> list[str]:
    """Read the hashes of all settings that the run was started with."""
    return [row[0] for row in db.execute("SELECT DISTINCT config_sha256 FROM sessions")]
