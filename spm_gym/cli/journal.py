"""Print what a run has done in figures, and whether its journal is consistent.

With ``--json`` the keys are the attributes of `spm_gym.analysis.summary.Summary`. The exit status
is 0 if journal and files agree, 1 if not.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spm_gym.analysis.ending import UNSAFE_MARK
from spm_gym.analysis.policies import interval_in_words
from spm_gym.analysis.summary import Summary, summarise
from spm_gym.scale import duration_text

# A journal whose files were moved has a finding for every scan.
_MOST_FINDINGS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="directory of the run")
    parser.add_argument("--json", action="store_true", help="for scripts: one JSON object")
    parser.set_defaults(command=journal)


def journal(arguments: argparse.Namespace) -> int:
    """Print the figures."""
    summary = summarise(arguments.run)
    if arguments.json:
        print(json.dumps(asdict(summary), indent=2))
    else:
        for name, text in _lines(summary):
            print(f"{name:20} {text}")
        _print_consistency(summary)
    # Not 2: the command has worked, it is the journal that has not.
    return 0 if summary.consistent else 1


def _lines(summary: Summary) -> Iterator[tuple[str, str]]:
    resumes = f", {summary.resumes} of them resumed" if summary.resumes else ""
    yield "state", _state(summary)
    yield "sessions", f"{summary.sessions}{resumes}"
    yield "time of operation", duration_text(3600 * summary.hours)
    yield "images", f"{summary.images} ({summary.scans} scans with discarded ones and previews)"
    yield "", _listed(summary.labels)
    yield "share good", _figure(summary.share_good, "of good and bad probe")
    yield "good per hour", _figure(summary.good_per_hour, "images per hour of operation")
    yield "episodes", _listed(summary.episodes)
    for policy, figures in summary.policies.items():
        yield "", f"{policy}: {_policy_text(figures)}"
    yield "actions", _listed({k: v for k, v in summary.actions.items() if k != "by_name"})
    yield "", _listed(summary.actions["by_name"])
    for act, results in summary.acts.items():
        yield f"act {act}", _listed(results)
    yield "unknown outcomes", f"{summary.unknown_outcomes}; under way {summary.acts_under_way}"
    yield "recoveries", str(summary.recoveries["total"])
    yield "", _listed(summary.recoveries["by_trouble"])
    yield "", _listed(summary.recoveries["by_result"])
    yield "areas", f"{summary.areas}, blocked places in them {summary.blocked_places}"


def _state(summary: Summary) -> str:
    if not summary.safe:
        return f"{UNSAFE_MARK} {summary.ending_sentence}"
    if not summary.ending_kind.over:
        return f"{summary.state or 'nothing done yet'}, not finished"
    return summary.ending_sentence


def _figure(value: float | None, unit: str) -> str:
    return "none yet" if value is None else f"{value:.3g} {unit}"


def _policy_text(figures: dict[str, Any]) -> str:
    count = figures["episodes"]
    actions = interval_in_words(figures["ci95"], count)
    seconds = interval_in_words(figures["seconds_ci95"], count)
    return (
        f"{count} over, {figures['mean_actions']:.1f} actions on average (95 % interval: {actions})"
        f", {figures['mean_seconds']:.1f} s of the instrument (95 % interval: {seconds})"
    )


def _listed(counts: dict[str, Any]) -> str:
    rounded = {name: f"{n:.3g}" if isinstance(n, float) else n for name, n in counts.items()}
    known = (f"{name.replace('_', ' ')} {n}" for name, n in rounded.items() if n is not None)
    return ", ".join(known) or "none"


def _print_consistency(summary: Summary) -> None:
    if summary.consistent:
        print("consistent: journal and files agree")
        return
    found = summary.inconsistencies
    print(f"NOT consistent: {len(found)} findings")
    for sentence in found[:_MOST_FINDINGS]:
        print(f"  {sentence}")
    if len(found) > _MOST_FINDINGS:
        print(f"  and {len(found) - _MOST_FINDINGS} more; --json lists all")
