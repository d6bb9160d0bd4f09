"""How far a run is, how well it goes, and when it will be over."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from spm_gym.analysis.queries import count_rows
from spm_gym.analysis.session import RunSession
from spm_gym.journal.conditions import CLASSIFIED, CLASSIFIED_SQL, IMAGE
from spm_gym.journal.reader import Label
from spm_gym.runner.run_state import RunState

# So few that a tip that has gone bad shows, so many that a single image does not.
RECENT = 100
"""Classified images that the present share of good ones is taken of."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A run in figures.

    Attributes:
        elapsed: Time of operation, s.
        images: Whole scans that were not discarded, previews not counted.
        good: Good images.
        classified: Images outside conditioning that were good or bad by their probe.
        unknown: Images unlike all that the classifier was trained with.
        recent: Share of good ones among the last `RECENT` classified; None without any.
        conditionings: Episodes started.
        troubles: Met so far.
        areas: Approach areas used.
        share: How much of the run is over, 0 to 1; None if it has no bound, or nobody knows it.
        bound: That bound in words; "" without one.
        ends: When it will be over if it goes on like this, seconds since 1970; None if nobody can
            tell.
    """

    elapsed: float
    images: int
    good: int
    classified: int
    unknown: int
    recent: float | None
    conditionings: int
    troubles: int
    areas: int
    share: float | None
    bound: str
    ends: float | None


def progress(
    db: sqlite3.Connection, run_state: RunState | None, session: RunSession, now: float | None
) -> Progress:
    """Measure how far a run is.

    Args:
        db: The journal.
        run_state: State of the run; None before its first transition.
        session: The last one.
        now: Seconds since 1970; None if nothing is under way.
    """
    labels = dict(map(tuple, db.execute("SELECT label, COUNT(*) FROM scans GROUP BY label")))
    images = count_rows(db, f"SELECT COUNT(*) FROM scans WHERE {IMAGE}")
    elapsed = 0.0 if run_state is None else run_state.clock.elapsed
    steps = 0 if run_state is None else run_state.training.steps
    share, bound, left_s = _bound(session, elapsed, images, steps)
    return Progress(
        elapsed=elapsed,
        images=images,
        good=labels.get(Label.GOOD, 0),
        classified=sum(labels.get(label, 0) for label in CLASSIFIED),
        unknown=labels.get(Label.UNKNOWN, 0),
        recent=_recent(db),
        conditionings=count_rows(db, "SELECT COUNT(*) FROM episodes"),
        troubles=count_rows(db, "SELECT COUNT(*) FROM recoveries"),
        areas=count_rows(db, "SELECT COUNT(*) FROM areas"),
        share=share,
        bound=bound,
        # Not foretold while nothing is under way: a pause may last for days.
        ends=None if now is None or left_s is None else now + left_s,
    )


def _bound(
    session: RunSession, elapsed: float, images: int, steps: int
) -> tuple[float | None, str, float | None]:
    """Return the share that is over, its bound, and seconds until the end by the nearer bound.

    Without a pace nobody knows which is nearer; then it is the one that is over to the larger part.
    """
    if session.settings is None:
        return None, "", None
    settings, pace = session.settings.operation, session.pace
    if session.command != "run":
        return _bound_of_training(session, session.settings.agent.steps, images, steps)
    bounds: list[tuple[float, str, float | None]] = []
    if settings.hours is not None:
        whole = 3600 * settings.hours
        left = None if pace is None else (whole - elapsed) / max(pace.operation, 1e-9)
        bounds.append((elapsed / whole, f"{settings.hours:g} h", left))
    if settings.scans is not None:
        left = None if pace is None else (settings.scans - images) * pace.image_s
        bounds.append((images / settings.scans, f"{settings.scans} images", left))
    if not bounds:
        return None, "", None
    # A bound without a known end sorts by its share, the largest first.
    share, bound, left = min(bounds, key=lambda each: -each[0] if each[2] is None else each[2])
    return min(share, 1.0), bound, None if left is None else max(left, 0.0)


def _bound_of_training(
    session: RunSession, most: int, images: int, steps: int
) -> tuple[float | None, str, float | None]:
    # Nobody knows how long the episodes of an evaluation will be.
    if session.command != "train":
        return None, "", None
    left = None
    if session.pace is not None and steps:
        # Resets and troubles take images as well: at the same share as so far.
        left = max(most - steps, 0) * session.pace.image_s * images / steps
    return min(steps / most, 1.0), f"{most} steps", left


def _recent(db: sqlite3.Connection) -> float | None:
    # The unary plus keeps SQLite from the index on labels, which would read all of them to sort.
    query = (
        "SELECT AVG(label = ?) FROM (SELECT label FROM scans"
        f" WHERE +label IN ({CLASSIFIED_SQL}) ORDER BY id DESC LIMIT {RECENT})"
    )
    share: float | None = db.execute(query, (Label.GOOD,)).fetchone()[0]
    return share
