"""Compare runs: good images per hour, conditioning and troubles, with 95 % intervals."""

from __future__ import annotations

import argparse
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from spm_gym.analysis.campaign import (
    ACTIONS,
    FEWEST_CONDITIONINGS,
    GOOD,
    SECONDS,
    TROUBLES,
    Campaign,
    Figure,
    NoInterval,
    read_campaign,
)
from spm_gym.analysis.comparison import differing_settings, ratios
from spm_gym.analysis.policies import AGENT, RANDOM
from spm_gym.analysis.report import HOUR, utc
from spm_gym.analysis.wording import ordinal
from spm_gym.assembly.pictures import STILL
from spm_gym.assembly.run_directory import SETTINGS, settings_file
from spm_gym.atomic_file import written_whole
from spm_gym.cli.options import add_force, refuse_unwritable
from spm_gym.config.yaml_file import plain
from spm_gym.errors import UsageError
from spm_gym.intervals import FEWEST
from spm_gym.paths import as_typed, display_name
from spm_gym.scale import duration_text

EPILOG = """examples:
  spm-gym compare runs/monday runs/tuesday                  a table; the second against the first
  spm-gym compare runs/week-* --plot weeks.png              with a picture (.png, .pdf, .svg)
  spm-gym compare runs/old runs/new --json figures.json     for scripts

RUNs are directories of spm-gym run, also of runs at work. Every further run is compared with the
first one: a ratio whose interval has 1 in it may be one of no difference at all. Settings that
differ are listed, for a difference may come from them; so may it from tip, sample and weather.
docs/operation.md, "From campaign to campaign", says where the intervals come from.
"""
# Two runs have room in a terminal of 80 columns.
_LEFT, _COLUMN = 26, 27
_MOST_LETTERS = 24
_LONGEST_VALUE = 300

_PRICES = {
    ACTIONS: "  actions each",
    f"{ACTIONS}_{AGENT}": "    by the agent",
    f"{ACTIONS}_{RANDOM}": "    by random choice",
    SECONDS: "  seconds each",
    f"{SECONDS}_{AGENT}": "    by the agent",
    f"{SECONDS}_{RANDOM}": "    by random choice",
}
_FIGURES = {GOOD: "  good images per hour", **_PRICES, TROUBLES: "  troubles a day"}
_REASONS = {
    NoInterval.FEW: f"fewer than {FEWEST} conditionings; for good images per hour, than "
    f"{FEWEST_CONDITIONINGS}",
    NoInterval.SHORT: f"there was no good image for a {ordinal(FEWEST)} of the time or longer",
    NoInterval.ALIKE: "all took the same",
}
_HASH = 12

_Row = tuple[str, list[str]]
"""A name, and a cell for every run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="at least two")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them")
    add_force(parser)
    parser.set_defaults(command=compare)


def compare(arguments: argparse.Namespace) -> int:
    """Print the table and write what is asked for."""
    runs: list[Path] = arguments.runs
    if len(runs) < 2:
        raise UsageError(f"{runs[0]} is one run: name at least two to compare")
    for option, path in (("--json", arguments.json), ("--plot", arguments.plot)):
        refuse_unwritable(option, path, arguments.force)
    if arguments.plot is not None and arguments.plot.suffix.lower() not in STILL:
        raise UsageError(f"--plot {arguments.plot}: its name must end in {', '.join(STILL)}")
    for run in runs:
        settings = settings_file(run)
        # A training at a microscope has a journal too, but nothing in it is a yield of images.
        if settings is not None and settings.name != SETTINGS:
            raise UsageError(f"{run} is not a run of 'spm-gym run': it has a {settings.name}")
    campaigns = [read_campaign(run) for run in runs]
    names = [f"{number} {display_name(run)}" for number, run in enumerate(runs, 1)]
    for line in _lines(campaigns, [plain(name, _MOST_LETTERS) for name in names]):
        print(line)
    if arguments.json is not None:
        # NaN is no JSON: other programs would refuse the whole file.
        text = json.dumps(_document(campaigns), indent=1, allow_nan=False)
        with written_whole(arguments.json) as beside:
            beside.write_text(text + "\n", encoding="utf-8")
    if arguments.plot is not None:
        from spm_gym.figures.campaigns import draw_campaigns  # matplotlib is slow to import
        from spm_gym.figures.canvas import save

        save(draw_campaigns(campaigns, names), arguments.plot)
    return 0


def _lines(campaigns: Sequence[Campaign], names: Sequence[str]) -> Iterator[str]:
    for number, campaign in enumerate(campaigns, 1):
        since = "" if campaign.started is None else f", from {utc(campaign.started)}"
        yield f"{number} {as_typed(campaign.run)}{since}"
        yield from (f"  {plain(remark, _LONGEST_VALUE)}" for remark in campaign.remarks)
        yield from _given_before(campaigns, number)
    yield ""
    yield from _tables(campaigns, names)
    yield from _legend(campaigns)
    yield from _settings(campaigns)


def _given_before(campaigns: Sequence[Campaign], number: int) -> Iterator[str]:
    run = campaigns[number - 1].run.resolve()
    for other, campaign in enumerate(campaigns[: number - 1], 1):
        if campaign.run.resolve() == run:
            yield f"  the same run as {other}, but intervals of ratios take runs as independent"


def _tables(campaigns: Sequence[Campaign], names: Sequence[str]) -> Iterator[str]:
    # The first run has no ratio to itself.
    compared: list[dict[str, Figure]] = [
        {},
        *(ratios(each, campaigns[0]) for each in campaigns[1:]),
    ]
    rows = [("", list(names)), *_counts(campaigns), ("ratio to run 1", [])]
    # Three decimals: two runs may differ by less than a hundredth, and certainly.
    rows += _figures(compared, _FIGURES, _split(campaigns), digits=3)
    # As many runs side by side as the terminal has room for; the others below.
    columns = max(1, (shutil.get_terminal_size().columns - _LEFT) // _COLUMN)
    for first in range(0, len(campaigns), columns):
        for name, cells in rows:
            some = cells[first : first + columns]
            yield f"{name:{_LEFT}}{''.join(f'{cell:{_COLUMN}}' for cell in some)}".rstrip()
        yield ""


def _counts(campaigns: Sequence[Campaign]) -> Iterator[_Row]:
    figures = [campaign.figures for campaign in campaigns]

    def row(name: str, cell: Callable[[Campaign], object]) -> _Row:
        return name, [str(cell(campaign)) for campaign in campaigns]

    yield row("time of operation", lambda each: duration_text(each.overview.elapsed))
    yield row("images", lambda each: each.overview.images)
    yield row("good images", lambda each: each.overview.good)
    yield from _figures(figures, {GOOD: "  per hour"}, split=False)
    yield row("bad probe", lambda each: each.overview.classified - each.overview.good)
    yield row("unknown images", lambda each: each.overview.unknown)
    yield row("conditionings", lambda each: each.conditionings)
    yield row("  ended at the limit", lambda each: each.overview.episodes.get("limit", 0))
    yield from _figures(figures, _PRICES, _split(campaigns))
    yield row("troubles", lambda each: sum(each.troubles.values()))
    for kind in sorted({kind for campaign in campaigns for kind in campaign.troubles}):
        name = f"  {plain(kind, _LEFT - 4)}"
        yield name, [str(campaign.troubles.get(kind, 0)) for campaign in campaigns]
    yield row("  not recovered", lambda each: each.overview.recoveries.get("failed", 0))
    yield from _figures(figures, {TROUBLES: "  a day"}, split=False)
    yield row("acts, outcome unknown", lambda each: each.unknown_acts)
    yield row("approach areas", lambda each: each.overview.areas)


def _split(campaigns: Sequence[Campaign]) -> bool:
    """Check whether agent and random choice have taken turns in any of the runs."""
    both = {f"{ACTIONS}_{AGENT}", f"{ACTIONS}_{RANDOM}"}
    return any(both <= campaign.figures.keys() for campaign in campaigns)


def _figures(
    figures: Sequence[dict[str, Figure]], names: dict[str, str], split: bool, digits: int = 2
) -> Iterator[_Row]:
    for key, name in names.items():
        if split or not key.endswith((AGENT, RANDOM)):
            yield name, [_cell(each.get(key), digits) for each in figures]


def _cell(figure: Figure | None, digits: int) -> str:
    if figure is None or math.isnan(figure.value):
        return "-"
    value = _number(figure.value, digits)
    if isinstance(figure.interval, NoInterval):
        return f"{value} ({figure.interval})"
    low, high = figure.interval
    if math.isinf(high):
        return f"{value} (above {_number(low, digits)})"
    return f"{value} ({_number(low, digits)} to {_number(high, digits)})"


def _number(value: float, digits: int) -> str:
    decimals = 0 if value >= 1000 else 1 if value >= 10 else digits
    return f"{value:.{decimals}f}"


def _legend(campaigns: Sequence[Campaign]) -> Iterator[str]:
    yield "In brackets: 95 % intervals, or why there is none."
    found = {figure.interval for campaign in campaigns for figure in campaign.figures.values()}
    for reason, words in _REASONS.items():
        if reason in found:
            yield f"  {reason}: {words}"


def _settings(campaigns: Sequence[Campaign]) -> Iterator[str]:
    if sum(campaign.settings is not None for campaign in campaigns) < 2:
        yield "Their settings cannot be compared."
        return
    differing = differing_settings(campaigns)
    if not differing:
        yield "All settings that are compared are the same."
        return
    yield "Settings that differ, which a difference may come from:"
    for key, values in differing.items():
        runs: dict[str, list[str]] = {}
        for number, value in enumerate(values, 1):
            runs.setdefault(_value(key, value), []).append(f"{number}")
        text = "; ".join(f"{value} ({', '.join(which)})" for value, which in runs.items())
        yield f"  {plain(key)}: {text}"


def _value(key: str, value: Any) -> str:
    if value is None or value == "":
        return "none"
    if key.endswith("_sha256"):
        return str(value)[:_HASH]
    if isinstance(value, dict):
        value = [f"{name} {each}" for name, each in value.items() if each not in (None, [])]
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return plain(text, _LONGEST_VALUE)


def _document(campaigns: Sequence[Campaign]) -> dict[str, Any]:
    first = campaigns[0]
    return {
        "runs": [_of_run(campaign) for campaign in campaigns],
        "ratios_to_first": [_of_figures(ratios(campaign, first)) for campaign in campaigns[1:]],
        "differing_settings": differing_settings(campaigns),
    }


def _of_run(campaign: Campaign) -> dict[str, Any]:
    counts = campaign.overview
    return {
        "run": str(campaign.run),
        "started": campaign.started,
        "ending_kind": campaign.ending.kind,
        "ending_sentence": campaign.ending.sentence,
        "safe": campaign.ending.safe,
        "remarks": campaign.remarks,
        "hours": counts.elapsed / HOUR,
        "images": counts.images,
        "good": counts.good,
        "bad_probe": counts.classified - counts.good,
        "unknown": counts.unknown,
        "conditionings": counts.episodes,
        "actions": counts.actions,
        "troubles": campaign.troubles,
        "recoveries": counts.recoveries,
        "unknown_acts": campaign.unknown_acts,
        "areas": counts.areas,
        "sessions": counts.sessions,
        "figures": _of_figures(campaign.figures),
    }


def _of_figures(figures: dict[str, Figure]) -> dict[str, Any]:
    """Give figures as JSON has them: null for what is not defined or not bounded."""
    return {
        name: {
            "value": _finite(figure.value),
            "ci95": None
            if isinstance(figure.interval, NoInterval)
            else [_finite(bound) for bound in figure.interval],
            "no_interval": figure.interval if isinstance(figure.interval, NoInterval) else None,
        }
        for name, figure in figures.items()
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
