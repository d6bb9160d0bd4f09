"""The microscope that a command drives, and its shutdown."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from spm_gym.assembly.build import (
    build_microscope,
    check_classifier,
    check_limits,
    connect_microscope,
    rehearse_microscope,
)
from spm_gym.assembly.drivers import capabilities
from spm_gym.assembly.preflight import Purpose, preflight, refuse_troubles
from spm_gym.config import Config
from spm_gym.config.json_file import JsonError, parse_json
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.driver import SETTINGS_BEFORE, DriverContext
from spm_gym.instrument.guard import Record
from spm_gym.journal.writer import Journal
from spm_gym.runner.signals import ignoring_signals

ACTS = "acts.jsonl"


@contextmanager
def microscope(
    config: Config,
    run: Path,
    purpose: Purpose,
    dry_run: bool = False,
    journal: Journal | None = None,
    abort: Callable[[], bool] = lambda: False,
) -> Iterator[Instrument]:
    """Give the configured microscope; leave it in the safe condition, however the block ends.

    Args:
        config: Settings of the run.
        run: Its directory, which gets the record of acts.
        purpose: What the microscope is for.
        dry_run: Whether to show the commands to a real microscope instead of sending them.
        journal: Records the acts instead; who keeps one also approaches.
        abort: Is asked during a scan or an approach whether to stop it.
    """
    if config.run.microscope == "sim":
        yield build_microscope(config)
        return
    real = config.real
    able = capabilities(real)
    # Before anything is asked of the microscope: what the settings alone get wrong.
    check_limits(config)
    check_classifier(config)
    if dry_run:
        instrument = rehearse_microscope(config, print)
    else:
        refuse_troubles(preflight(config, purpose, run / SETTINGS_BEFORE))
        record, history = (
            (_recorder(run / ACTS), _history(run / ACTS))
            if journal is None
            else (journal.record_act, journal.acts())
        )

        def note(text: str) -> None:
            tell(f"instrument: {text}")
            if journal is not None:
                journal.add_event(time.time(), "instrument", text)
            else:
                record({"time": time.time(), "act": "note", "result": "seen", "reason": text})

        context = DriverContext(run / SETTINGS_BEFORE, tell, note, abort)
        instrument = connect_microscope(config, context, record, history)
    try:
        if not able.coarse_motion:
            tell(f"instrument: {real.driver} {able.why_not('coarse_motion')}")
        # Without a status nobody knows whether the tip is up, and one at the surface stays there.
        automatic = able.status and real.approach_at_start
        if automatic and journal is None and not instrument.status().approached:
            print("instrument: the tip is withdrawn; automatic approach")
            instrument.approach()
        yield instrument
    finally:
        with ignoring_signals():
            instrument.close()
            if not able.withdraw:
                tell(f"instrument: connection closed; {real.driver} cannot withdraw the tip")


def tell(text: str) -> None:
    """Print a line, if anybody still reads it."""
    with suppress(OSError):  # a pipe may be broken; the run goes on all the same
        print(text, flush=True)


def _history(path: Path) -> list[dict[str, Any]]:
    """Read what earlier parts of the run have done."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(JsonError):  # a kill may have cut one short
            entries.append(parse_json(line))
    return entries


def _recorder(path: Path) -> Record:
    def record(entry: dict[str, Any]) -> None:
        known = {  # JSON has no NaN
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in entry.items()
        }
        line = json.dumps(known).encode() + b"\n"
        with path.open("ab+") as file:
            # What a kill or a full disk has cut short spoils no other line.
            if file.tell() and _last_byte(file) != b"\n":
                line = b"\n" + line
            file.write(line)

    return record


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)
