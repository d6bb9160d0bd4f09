"""Ask a run to pause, to go on, or to stop; where it can, it withdraws the tip."""

from __future__ import annotations

import argparse
from pathlib import Path

from spm_gym.assembly.run_directory import existing_operation
from spm_gym.cli.options import add_token
from spm_gym.errors import UsageError
from spm_gym.journal.run_lock import is_run_locked
from spm_gym.runner.control import Request, ask


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.add_argument(
        "request", choices=[str(each) for each in Request], help="obeyed before the next command"
    )
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN_DIR", help="default: the newest")
    add_token(parser, "that of the run, if it was started with one")
    parser.set_defaults(command=ask_run)


def ask_run(arguments: argparse.Namespace) -> int:
    """Leave the request in the run directory."""
    run, _ = existing_operation(arguments.run)
    # A request that waits for the next start would stop a run that somebody has just resumed.
    if not is_run_locked(run):
        raise UsageError(f"{run} is not at work: there is nobody to ask")
    ask(run, Request(arguments.request), arguments.token)
    print(f"{run} is asked to {arguments.request}")
    return 0
