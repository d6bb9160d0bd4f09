"""The report of a run: one page, complete in itself."""

from __future__ import annotations

import math
import sqlite3
import time
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2

from spm_gym import colours
from spm_gym.analysis import report as facts
from spm_gym.analysis.action_effects import achievements
from spm_gym.analysis.decisions import last_decision
from spm_gym.analysis.measurement import measurement
from spm_gym.analysis.policies import AGENT, policy_episodes, saved_actions
from spm_gym.analysis.session import last_session
from spm_gym.analysis.status import run_status
from spm_gym.analysis.trend import trend
from spm_gym.analysis.wording import SURVEY
from spm_gym.atomic_file import written_whole
from spm_gym.figures.heights import grey_words
from spm_gym.figures.mosaic import PaintLog, area_maps, examples
from spm_gym.figures.report_charts import (
    actions_chart,
    lengths_chart,
    survival_chart,
    trend_chart,
    yield_chart,
)
from spm_gym.journal.reader import Label, snapshot
from spm_gym.paths import display_name
from spm_gym.scale import duration_text, time_unit
from spm_gym.web.monitor_words import spread

REPORT = "report.html"
_TEMPLATE = "report.html"
_SETTINGS = "config.yaml"
# Discarded scans are partial ones: nothing can be seen on them.
_LABELS = (*(label for label in Label if label is not Label.DISCARDED),)


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered report, and how the files of the scans were read."""

    html: str
    files: PaintLog


def write_report(run: Path, output: Path) -> PaintLog:
    """Render the report of a run into a file; the run may be under way.

    Raises:
        JournalError: There is no journal.
    """
    page = render_report(run)
    with written_whole(output) as beside:
        # Errors may name paths that are no UTF-8 text.
        beside.write_text(page.html, encoding="utf-8", errors="backslashreplace")
    return page.files


def render_report(run: Path) -> Page:
    """Render the report of a run: HTML without anything from elsewhere.

    Raises:
        JournalError: There is no journal.
    """
    # From a copy: painting takes minutes, and the log of the run would grow meanwhile.
    with snapshot(run) as db:
        files = PaintLog(last_session(db).preprocessing)
        context = _context(db, run, files)
    return Page(_template().render(context), files)


def _context(db: sqlite3.Connection, run: Path, files: PaintLog) -> dict[str, Any]:
    overview = facts.overview(db)
    timeline = _timeline(db, overview)
    settings = run / _SETTINGS
    achieved = achievements(db)
    forecasts = not all(math.isnan(each.expected) for each in achieved)
    lengths = facts.episode_lengths(db)
    policies = policy_episodes(db)
    trend_found = trend(db)
    session = last_session(db)
    return {
        "name": display_name(run),
        "made": facts.utc(time.time()),
        "version": metadata.version("spm-gym"),
        "run_status": run_status(db, run),
        "survey": SURVEY if session.survey else "",
        "usable_nm": session.usable_nm,
        "grey": grey_words(session.preprocessing.scale),
        "overview": overview,
        "measurement": measurement(db),
        "unit": dict(zip(("name", "seconds"), time_unit(overview.elapsed), strict=True)),
        "colours": colours.LABELS,
        "alarm": colours.ALARM,
        "blocked_colours": colours.BLOCKED,
        "window": timeline.window if timeline else None,
        "yield_chart": timeline and yield_chart(timeline, facts.moments(db, overview.elapsed)),
        "trend": trend_found,
        "trend_chart": trend_found and trend_chart(trend_found),
        "areas": list(area_maps(db, run, files)),
        "examples": {label: list(examples(db, run, label, files)) for label in _LABELS},
        "episodes": facts.episodes(db),
        "mean_length": facts.mean_length(lengths),
        "policies": policies,
        "saved_actions": saved_actions(**policies) if len(policies) > 1 else None,
        "survival_chart": survival_chart(policies) if len(policies) > 1 else None,
        "lengths_chart": lengths_chart(lengths) if lengths else None,
        "achieved": achieved,
        "forecasts": forecasts,
        # Random choice, which may have had the last one, expects nothing.
        "last_forecast": last_decision(db, session, AGENT) if forecasts else None,
        "actions_chart": actions_chart(achieved) if achieved else None,
        "acts": facts.acts(db),
        "recoveries": facts.recoveries(db),
        "unknown": facts.unknown_acts(db),
        "events": facts.events(db),
        "sessions": list(facts.sessions(db)),
        "settings": settings.read_text("utf-8", "replace") if settings.is_file() else None,
        "files": files,
    }


def _timeline(db: sqlite3.Connection, overview: facts.Overview) -> facts.Yield | None:
    if not overview.classified or not overview.elapsed:
        return None
    return facts.good_over_time(db, overview.elapsed)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"utc": facts.utc, "duration": duration_text, "nm": _nm, "known": _known,
                            "spread": spread}  # fmt: skip
    # Not as a page of the server: it has everything in it, and asks for nothing.
    page = resources.files("spm_gym.web") / "templates" / _TEMPLATE
    return environment.from_string(page.read_text(encoding="utf-8"))


def _nm(metres: float | None) -> str:
    return "" if metres is None else f"{metres * 1e9:.1f}"


def _known(value: float | None, spec: str = ".3f") -> str:
    """Write a number, or a dash for None and NaN."""
    # NaN alone differs from itself.
    return "–" if value is None or value != value else format(value, spec)
