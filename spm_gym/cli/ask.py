"""Ask a run to pause, to go on, or to stop; where it can, it withdraws the tip.

A training and an evaluation on a microscope can be stopped, but not paused.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from spm_gym.assembly.run_directory import existing_record
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
    run, _ = existing_record(arguments.run)
    # A request is deleted when the next session begins: nobody would ever obey it.
    if not is_run_locked(run):
        raise UsageError(f"{run} is not at work: there is nobody to ask")
    ask(run, Request(arguments.request), arguments.token)
    print(f"{run} is asked to {arguments.request}")
    return 0
