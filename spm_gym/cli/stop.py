"""Stop a run, wait for its end, and say where the tip is then."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from spm_gym.assembly.run_directory import existing_operation
from spm_gym.cli.options import add_token, seconds
from spm_gym.errors import UsageError
from spm_gym.journal.reader import SAFE_END, UNSAFE_END, reading
from spm_gym.journal.run_lock import is_run_locked
from spm_gym.paths import as_typed
from spm_gym.runner.control import Request, ask

_ASK_EVERY_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN_DIR", help="default: the newest")
    parser.add_argument(
        "--wait-s",
        type=seconds,
        default=900.0,
        metavar="S",
        help="how long to wait for its end (default: %(default)g)",
    )
    add_token(parser, "that of the run, if it was started with one")
    parser.set_defaults(command=stop)


def stop(arguments: argparse.Namespace) -> int:
    """Ask, wait, and say how it ended."""
    run, _ = existing_operation(arguments.run)
    if not is_run_locked(run):
        raise UsageError(f"{run} is not at work: there is nothing to stop")
    before = _last_event(run)
    ask(run, Request.STOP, arguments.token)
    print(f"{run} is asked to stop", flush=True)
    end = time.monotonic() + arguments.wait_s
    while is_run_locked(run):
        if time.monotonic() > end:
            raise UsageError(
                f"{run} has not ended after {arguments.wait_s:g} s: it is still asked to; look at "
                "the instrument"
            )
        time.sleep(_ASK_EVERY_S)
    return _say_how_it_ended(run, before)


def _last_event(run: Path) -> int:
    with reading(run) as db:
        return int(db.execute("SELECT COALESCE(MAX(id), 0) FROM events").fetchone()[0])


def _say_how_it_ended(run: Path, before: int) -> int:
    with reading(run) as db:
        end = db.execute(
            "SELECT kind, text FROM events WHERE id > ? AND kind IN (?, ?) ORDER BY id DESC",
            (before, SAFE_END, UNSAFE_END),
        ).fetchone()
    if end is None:
        raise UsageError(
            f"{run} has ended without a word, as if killed: look at the instrument, then "
            f"spm-gym restore {as_typed(run)}, or spm-gym run --resume --run-dir {as_typed(run)}"
        )
    if end["kind"] == UNSAFE_END:
        raise UsageError(f"look at the instrument: {end['text']}")
    print(f"ended: {end['text']}")
    return 0
