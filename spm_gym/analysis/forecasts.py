"""Forecasts of the belief agent, as the journal keeps them with its decisions."""

from __future__ import annotations

import sqlite3

from spm_gym.config.json_file import parse_json
from spm_gym.journal.reader import JournalError
from spm_gym.plain_state import StateError, restored
from spm_gym.types import Forecast


def read_forecast(text: str | None) -> Forecast | None:
    """Read the forecast of a row of the table ``steps``; None of a policy that makes none.

    Raises:
        JournalError: It is no forecast.
    """
    if text is None:
        return None
    try:
        values = parse_json(text)
        return restored(Forecast, {name: tuple(each) for name, each in values.items()})
    except (AttributeError, RecursionError, StateError, TypeError, ValueError) as error:
        raise JournalError(f"a forecast in the journal is damaged: {error}") from error


def step_seconds(db: sqlite3.Connection) -> float | None:
    """Mean time on the instrument from one image of an episode to the next; None before any."""
    # From the start of one image to the start of the next: a step is an act, a move and an image.
    mean = db.execute(_STEP_SECONDS).fetchone()[0]
    return None if mean is None else float(mean)


_STEP_SECONDS = """
SELECT AVG(later.elapsed - earlier.elapsed)
FROM steps JOIN scans AS earlier ON earlier.id = steps.scan
JOIN scans AS later ON later.id = steps.scan_after
WHERE NOT steps.uncertain
"""
