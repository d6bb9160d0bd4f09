"""Figures of a run for its report, counted from its journal."""

from __future__ import annotations

import itertools
import json
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spm_gym.analysis.policies import EPISODE_POLICY
from spm_gym.analysis.queries import single
from spm_gym.journal.conditions import (
    CLASSIFIED,
    CLASSIFIED_SQL,
    FINISHED,
    IMAGE,
    UNCERTAIN,
    UNDECIDED,
)
from spm_gym.journal.reader import Label
from spm_gym.runner.run_state import read_run_state

HOUR = 3600.0
# A page of weeks would otherwise have too many rows for a browser; the figures count all.
MOST_ROWS = 500
MOST_EVENTS = 200
_UNBROKEN = "\u00a0"
_BINS = 480
_WINDOW_BINS = 20


@dataclass(frozen=True, slots=True)
class Overview:
    """The figures at the head of a report.

    Attributes:
        elapsed: Time of operation, s.
        labels: By label, `UNDECIDED` for none: number of scans, how many of them are images, and
            the mean probability of a good probe, None where it was not classified.
        episodes: Number of conditioning episodes by outcome; "under way" for those without.
        actions: Decisions in them, refused ones included.
        recoveries: Number by result; "under way" for those without.
        areas: Approach areas used.
        sessions: Starts of the program.
    """

    elapsed: float
    labels: dict[str, tuple[int, int, float | None]]
    episodes: dict[str, int]
    actions: int
    recoveries: dict[str, int]
    areas: int
    sessions: int

    @property
    def scans(self) -> int:
        """All scans."""
        return sum(scans for scans, _, _ in self.labels.values())

    @property
    def images(self) -> int:
        """Whole scans that were not discarded, previews not counted."""
        return sum(images for _, images, _ in self.labels.values())

    @property
    def good(self) -> int:
        """Good images."""
        return self._number(Label.GOOD)

    @property
    def unknown(self) -> int:
        """Images unlike all that the classifier was trained with."""
        return self._number(Label.UNKNOWN)

    @property
    def classified(self) -> int:
        """Images outside conditioning that were good or bad by their probe."""
        return sum(map(self._number, CLASSIFIED))

    def _number(self, label: Label) -> int:
        return self.labels.get(label, (0, 0, None))[0]


def overview(db: sqlite3.Connection) -> Overview:
    """Count everything."""
    return Overview(
        elapsed=_elapsed(db),
        labels=_labels(db),
        episodes=_counts(db, "episodes", "COALESCE(outcome, 'under way')"),
        actions=single(db, "SELECT COUNT(*) FROM steps"),
        recoveries=_counts(db, "recoveries", "COALESCE(result, 'under way')"),
        areas=single(db, "SELECT COUNT(*) FROM areas"),
        sessions=single(db, "SELECT COUNT(*) FROM sessions"),
    )


def _labels(db: sqlite3.Connection) -> dict[str, tuple[int, int, float | None]]:
    rows = db.execute(
        f"SELECT COALESCE(label, '{UNDECIDED}'), COUNT(*), SUM({IMAGE}), AVG(probability)"
        " FROM scans GROUP BY 1"
    )
    found = {label: (scans, images, mean) for label, scans, images, mean in rows}
    return {label: found[label] for label in (*Label, UNDECIDED) if label in found}


@dataclass(frozen=True, slots=True)
class Yield:
    """Good images over time.

    Attributes:
        edges: Right edges of equal bins of the time of operation, s.
        good: Good images until then.
        share: Good ones among those `CLASSIFIED` within the window around each; NaN without any.
        window: Width of that window, s.
    """

    edges: NDArray[np.float64]
    good: NDArray[np.int64]
    share: NDArray[np.float64]
    window: float


def good_over_time(db: sqlite3.Connection, elapsed: float) -> Yield:
    """Count good images over the time of operation ``elapsed`` (s, more than 0)."""
    # Bins of time, not of images: a gap while the run conditions or recovers must show.
    width = elapsed / _BINS
    taken, good = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
    # Counted by SQLite: a run may have tens of thousands of images.
    for place, classified, fine in db.execute(
        f"SELECT MIN(CAST(elapsed / ? AS INTEGER), ?), COUNT(*), SUM(label = '{Label.GOOD}')"
        f" FROM scans WHERE label IN ({CLASSIFIED_SQL}) GROUP BY 1",
        # An image at the very end would lie in a bin of its own.
        (width, _BINS - 1),
    ):
        taken[place], good[place] = classified, fine
    window = np.ones(_WINDOW_BINS + 1)
    # Counts are smoothed, not shares, so that bins with few images weigh little.
    near = np.convolve(taken, window, "same")
    found = np.convolve(good, window, "same")
    share = np.where(near > 0, found / np.maximum(near, 1), np.nan)
    edges = np.arange(1, _BINS + 1, dtype=np.float64) * width
    return Yield(edges, np.cumsum(good), share, window.size * width)


@dataclass(frozen=True, slots=True)
class Moments:
    """When things happened, in seconds of operation: what is marked in the yield.

    Attributes:
        episodes: Begin and end of conditioning.
        recoveries: By kind of trouble.
        areas: First image of every further approach area.
    """

    episodes: list[tuple[float, float]]
    recoveries: dict[str, list[float]]
    areas: list[float]


def moments(db: sqlite3.Connection, elapsed: float) -> Moments:
    """Find when conditioning, recoveries and changes of the area took place."""
    recoveries: dict[str, list[float]] = {}
    for trouble, when in db.execute("SELECT trouble, elapsed FROM recoveries ORDER BY id"):
        recoveries.setdefault(trouble, []).append(when)
    spans = db.execute("SELECT elapsed, COALESCE(elapsed_end, ?) FROM episodes", (elapsed,))
    # The first image, for areas have no time of operation; the first area begins with the run.
    areas = db.execute("SELECT MIN(elapsed) FROM scans GROUP BY area ORDER BY area")
    return Moments(
        episodes=[(begin, end) for begin, end in spans],
        recoveries=recoveries,
        areas=[first for (first,) in areas][1:],
    )


def trouble_kinds(db: sqlite3.Connection) -> int:
    """Count the kinds of trouble that there were."""
    return int(single(db, "SELECT COUNT(DISTINCT trouble) FROM recoveries"))


def episode_lengths(db: sqlite3.Connection) -> dict[str, dict[int, int]]:
    """Count finished episodes by outcome and number of actions."""
    lengths: dict[str, dict[int, int]] = {}
    for outcome, actions, number in db.execute(
        f"SELECT outcome, actions, COUNT(*) FROM episodes WHERE {FINISHED} GROUP BY 1, 2"
    ):
        lengths.setdefault(outcome, {})[actions] = number
    return lengths


def mean_length(lengths: dict[str, dict[int, int]]) -> float:
    """Return the mean number of actions of finished episodes; NaN without any."""
    found = [each for outcome in lengths.values() for each in outcome.items()]
    total = sum(number for _, number in found)
    return sum(actions * number for actions, number in found) / total if total else math.nan


def episodes(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """Read the last `MOST_ROWS` episodes with policies and sequences of actions, in their order."""
    query = f"SELECT *, {EPISODE_POLICY} AS policy FROM episodes ORDER BY id DESC LIMIT ?"
    rows = db.execute(query, (MOST_ROWS,)).fetchall()
    return [dict(row) | {"sequence": _sequence(db, row["id"])} for row in reversed(rows)]


def _sequence(db: sqlite3.Connection, episode: int) -> str:
    """Join the names of the actions, repeated ones counted."""
    rows = db.execute(
        f"SELECT name, refused, {UNCERTAIN} FROM steps WHERE episode = ? ORDER BY number",
        (episode,),
    )
    names = (
        name + " (refused)" * bool(refused) + " (uncertain)" * bool(uncertain)
        for name, refused, uncertain in rows
    )
    runs = ((name, len(list(same))) for name, same in itertools.groupby(names))
    counted = (name if times == 1 else f"{times} × {name}" for name, times in runs)
    # The name of an action stays on one line, wherever the browser breaks the sequence.
    return " → ".join(each.replace(" ", _UNBROKEN) for each in counted)


def acts(db: sqlite3.Connection) -> list[dict[str, Any]]:
    """Count physical acts by kind and result, "under way" for those without."""
    table: dict[str, dict[str, int]] = {}
    for act, result, number in db.execute(
        "SELECT act, COALESCE(result, 'under way'), COUNT(*) FROM acts GROUP BY 1, 2"
    ):
        table.setdefault(act, {})[result] = number
    return [{"act": act} | results for act, results in table.items()]


def unknown_acts(db: sqlite3.Connection) -> tuple[dict[str, int], list[sqlite3.Row]]:
    """Count acts without a certain outcome by result, and read the last `MOST_ROWS` of them."""
    unknown = "acts WHERE result IS NULL OR result = 'unknown'"
    query = f"SELECT * FROM {unknown} ORDER BY id DESC LIMIT ?"
    rows = db.execute(query, (MOST_ROWS,)).fetchall()
    return _counts(db, unknown, "COALESCE(result, 'under way')"), rows[::-1]


def recoveries(db: sqlite3.Connection) -> list[sqlite3.Row]:
    """Read the last `MOST_ROWS` recoveries, in their order."""
    query = "SELECT * FROM recoveries ORDER BY id DESC LIMIT ?"
    return db.execute(query, (MOST_ROWS,)).fetchall()[::-1]


def events(db: sqlite3.Connection) -> tuple[dict[str, int], list[sqlite3.Row]]:
    """Count events by kind, and read the last `MOST_EVENTS` of them."""
    query = "SELECT * FROM events ORDER BY id DESC LIMIT ?"
    return _counts(db, "events", "kind"), db.execute(query, (MOST_EVENTS,)).fetchall()[::-1]


def sessions(db: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    """Read all starts of the program, versions as one text."""
    for row in db.execute("SELECT * FROM sessions ORDER BY id"):
        versions = json.loads(row["versions"])
        yield dict(row) | {"versions": ", ".join(f"{k} {v}" for k, v in versions.items())}


def utc(wall: float) -> str:
    """Write seconds since 1970 as date and time."""
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _elapsed(db: sqlite3.Connection) -> float:
    # The state is that of the last commit; a killed run may have rows that are newer.
    latest = single(
        db,
        "SELECT MAX(elapsed) FROM (SELECT MAX(elapsed) AS elapsed FROM scans UNION ALL"
        " SELECT MAX(elapsed) FROM recoveries UNION ALL"
        " SELECT MAX(COALESCE(elapsed_end, elapsed)) FROM episodes)",
    )
    run_state = read_run_state(db)
    return max(latest or 0.0, 0.0 if run_state is None else run_state.clock.elapsed)


def _counts(db: sqlite3.Connection, table: str, by: str) -> dict[str, int]:
    return dict(map(tuple, db.execute(f"SELECT {by}, COUNT(*) FROM {table} GROUP BY 1")))
