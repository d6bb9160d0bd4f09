"""The microscope that a command drives, and its way out."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spm_gym.build import build_microscope, connect_microscope, rehearse_microscope
from spm_gym.config import Config
from spm_gym.instrument.base import Instrument

ACTS = "acts.jsonl"
SETTINGS_BEFORE = "settings_before.json"


@contextmanager
def microscope(config: Config, run: Path, dry_run: bool = False) -> Iterator[Instrument]:
    """The configured microscope; left in the safe condition, however the block is left.

    Args:
        config: Settings of the run.
        run: Its directory, which gets the record of acts.
        dry_run: Whether to show the commands to a real microscope instead of sending them.
    """
    if config.run.microscope == "sim":
        yield build_microscope(config)
        return
    if dry_run:
        instrument = rehearse_microscope(config, print)
    else:
        instrument = connect_microscope(config, run / SETTINGS_BEFORE, _recorder(run / ACTS))
    try:
        if config.real.protocol == "nanonis" and config.real.coarse.retract is None:
            print("instrument: real.coarse.retract is not set, so no coarse step will be sent: the "
                  "run ends when the approach area is used up")  # fmt: skip
        automatic = config.real.protocol == "nanonis" and config.real.approach_at_start
        if automatic and not instrument.status().approached:
            print("instrument: the tip is withdrawn; automatic approach")
            instrument.approach()
        yield instrument
    finally:
        with _undisturbed():
            instrument.close()
            if config.real.protocol == "labview":
                print("instrument: connection closed; this protocol cannot withdraw the tip")


def _recorder(path: Path) -> Any:
    def record(entry: dict[str, Any]) -> None:
        known = {  # JSON has no NaN
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in entry.items()
        }
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(known) + "\n")

    return record


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and the like: the way to the safe condition is not to be cut short."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]

    def refuse(number: int, frame: Any) -> None:
        print("the instrument is being made safe: please wait", file=sys.stderr)

    before = {number: signal.signal(number, refuse) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
