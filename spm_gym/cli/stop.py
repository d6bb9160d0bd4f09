"""Stop a run, wait for its end, and print where the tip is then."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from spm_gym.analysis.ending import RunEnd, run_ending
from spm_gym.analysis.events import last_event_number
from spm_gym.analysis.session import last_session
from spm_gym.analysis.status import how_to_go_on
from spm_gym.assembly.run_directory import existing_record
from spm_gym.cli.options import add_token, seconds
from spm_gym.errors import UsageError
from spm_gym.journal.reader import reading
from spm_gym.journal.run_lock import is_run_locked
from spm_gym.runner.control import Request, ask

_ASK_EVERY_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN_DIR", help="default: the newest")
    parser.add_argument(
        "--wait-s",
        type=seconds,
        # Longer than the longest act that no request cuts short: an approach of 600 s
        # (`real.nanonis.approach_timeout_s`) at the end of a change of the area.
        default=900.0,
        metavar="S",
        help="how long to wait for its end (default: %(default)g)",
    )
    add_token(parser, "that of the run, if it was started with one")
    parser.set_defaults(command=stop)


def stop(arguments: argparse.Namespace) -> int:
    """Ask, wait, and print how it ended."""
    run, _ = existing_record(arguments.run)
    if not is_run_locked(run):
        raise UsageError(f"{run} is not at work: there is nothing to stop")
    with reading(run) as db:
        before = last_event_number(db)
    ask(run, Request.STOP, arguments.token)
    print(f"{run} is asked to stop", flush=True)
    # Not by the wall clock, which somebody may set.
    end = time.monotonic() + arguments.wait_s
    # The lock, not the journal: the tip is withdrawn and everything saved when it is released.
    while is_run_locked(run):
        if time.monotonic() > end:
            raise UsageError(
                f"{run} has not ended after {arguments.wait_s:g} s: it is still asked to; look at "
                "the instrument"
            )
        time.sleep(_ASK_EVERY_S)
    return _print_ending(run, before)


def _print_ending(run: Path, before: int) -> int:
    with reading(run) as db:
        # An end from before the request is that of an earlier session.
        ending = run_ending(db, at_work=False, after_event=before)
        how = how_to_go_on(last_session(db), ending, str(run))
    if ending.kind in (RunEnd.KILLED, RunEnd.KILLED_AT_ONCE):
        raise UsageError(f"{ending.terminal_line}: {run} has ended without a word. {how}")
    # Status 2, so that a script that shuts the laboratory down does not go on.
    if not ending.safe:
        raise UsageError(ending.terminal_line)
    print(ending.sentence)
    return 0
