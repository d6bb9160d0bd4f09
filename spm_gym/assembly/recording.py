"""The record of a session, whichever command drives the microscope."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spm_gym.assembly.microscope import microscope
from spm_gym.assembly.preflight import Purpose
from spm_gym.assembly.run_directory import versions
from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.config import Config
from spm_gym.instrument.contract import Instrument
from spm_gym.journal.writer import Journal, SessionRecord


@contextmanager
def recorded_microscope(
    config: Config,
    run: Path,
    purpose: Purpose,
    dry_run: bool = False,
    weights: Path | None = None,
    resumed: bool = False,
) -> Iterator[Instrument]:
    """Give the configured microscope; the acts of a real one go into the journal of the run.

    Args:
        config: Settings of the run.
        run: Its directory.
        purpose: What the microscope is for.
        dry_run: Whether to show the commands to a real microscope instead of sending them.
        weights: File that the agent begins with; None if there is none.
        resumed: Whether the run goes on.
    """
    if config.run.microscope == "sim" or dry_run:
        with microscope(config, run, purpose, dry_run) as instrument:
            yield instrument
        return
    # Around the microscope, so that the withdrawal at the end is recorded, too.
    with Journal(run, references=None) as journal:
        journal.begin_session(session_record(config, weights, resumed), os.getpid())
        # Before the microscope is touched: an act that a kill has cut off is not repeated, and its
        # outcome stays unknown whatever comes next.
        cut_off = journal.give_up_unfinished()
        if cut_off is not None:
            text = f"{cut_off['act']}: cut off in the middle of it; not repeated"
            journal.add_event(time.time(), "unknown outcome", text)
        with microscope(config, run, purpose, journal=journal) as instrument:
            yield instrument


def session_record(config: Config, weights: Path | None, resumed: bool) -> SessionRecord:
    """Collect the hashes and versions that decide what a session does."""
    if not config.operation.conditioning:
        classifier = ""
    elif config.env.ground_truth:
        classifier = "truth"
    else:
        classifier = _sha256(config.env.classifier or shipped_classifier())
    agent = "" if weights is None else _sha256(weights)
    return SessionRecord(config.to_yaml(), classifier, agent, versions(), resumed)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
