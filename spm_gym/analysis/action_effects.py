"""Effects of the actions of conditioning, from the images before and after them."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass

from spm_gym.intervals import normal_reach, wilson_interval
from spm_gym.journal.conditions import UNCERTAIN


@dataclass(frozen=True, slots=True)
class Achievement:
    """Effects of an action where it was certainly carried out and classified.

    Attributes:
        name: Of the action.
        chosen: Decisions for it.
        refused: Of these, refused by the environment or the instrument.
        uncertain: Of these, maybe not carried out.
        classified: Of the others, followed by a classified image.
        change: Mean change of the probability of a good probe, with half its 95 % interval; NaN if
            too few.
        good: Of the classified, with a good image next.
        good_interval: 95 % interval of that share (Wilson).
        expected: Mean probability of a good probe that the belief agent expected before those that
            it chose; NaN of other policies.
    """

    name: str
    chosen: int
    refused: int
    uncertain: int
    classified: int
    change: tuple[float, float]
    good: int
    good_interval: tuple[float, float]
    expected: float


def achievements(db: sqlite3.Connection) -> list[Achievement]:
    """Sum up the effects of every action that was chosen, in the order of their numbers."""
    return [
        Achievement(
            name=row["name"],
            chosen=row["chosen"],
            refused=row["refused"],
            uncertain=row["uncertain"],
            classified=row["classified"],
            change=_mean(row["changes"], row["change"], row["square"]),
            good=row["good"],
            good_interval=wilson_interval(row["good"], row["classified"]),
            expected=math.nan if row["expected"] is None else row["expected"],
        )
        for row in db.execute(_ACHIEVEMENTS)
    ]


# Summed up by SQLite, with outer joins: a recovered journal may have lost scans. Uncertain steps
# count as chosen, but say nothing of what the action does. Without previews the effects would be
# those of the steps alone that two images lie around, which are the most promising ones.
_ACHIEVEMENTS = f"""
WITH outcomes AS (
    SELECT name, action, refused, {UNCERTAIN} AS uncertain,
           NOT refused AND NOT ({UNCERTAIN}) AND scan_after IS NOT NULL AS classified,
           COALESCE(terminated, 0) AS good,
           COALESCE(later.probability, later.preview_probability)
           - COALESCE(earlier.probability, earlier.preview_probability) AS change,
           CASE WHEN json_valid(forecast)
                THEN json_extract(forecast, '$.good[' || action || ']') END AS expected
    FROM steps
    LEFT JOIN scans AS earlier ON earlier.id = steps.scan
    LEFT JOIN scans AS later ON later.id = steps.scan_after
)
SELECT name, COUNT(*) AS chosen, SUM(refused) AS refused, SUM(uncertain) AS uncertain,
       SUM(classified) AS classified, SUM(classified AND good) AS good,
       COUNT(change) FILTER (WHERE classified) AS changes,
       AVG(change) FILTER (WHERE classified) AS change,
       AVG(change * change) FILTER (WHERE classified) AS square,
       AVG(expected) FILTER (WHERE classified) AS expected
FROM outcomes GROUP BY name ORDER BY MIN(action), name
"""


def _mean(number: int, mean: float | None, square: float | None) -> tuple[float, float]:
    if mean is None or square is None:
        return math.nan, math.nan
    # One value has no spread, and no interval.
    if number < 2:
        return mean, math.nan
    # Of the mean. Changes lie between -1 and 1, so the difference of the squares loses no digits
    # that matter; rounding may leave it a little below 0.
    variance = max(square - mean * mean, 0.0) / (number - 1)
    return mean, normal_reach(math.sqrt(variance))
