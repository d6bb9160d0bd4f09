"""Stop a run and wait until its tip is withdrawn."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from spm_gym.cli import UsageError
from spm_gym.cli.options import add_token
from spm_gym.cli.run_directory import existing_operation
from spm_gym.runner.control import Request, ask
from spm_gym.runner.reading import is_at_work, reading

_ASK_EVERY_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN_DIR", help="default: the newest")
    parser.add_argument(
        "--wait-s",
        type=float,
        default=120.0,
        metavar="S",
        help="how long to wait for its end (default: %(default)g)",
    )
    add_token(parser, "that of the run, if it was started with one")
    parser.set_defaults(command=stop)


def stop(arguments: argparse.Namespace) -> int:
    """Ask, wait, and say how it ended."""
    run, _ = existing_operation(arguments.run)
    if not is_at_work(run):
        raise UsageError(f"{run} is not at work: there is nothing to stop")
    ask(run, Request.STOP, arguments.token)
    print(f"{run} is asked to stop", flush=True)
    end = time.monotonic() + arguments.wait_s
    while is_at_work(run):
        if time.monotonic() > end:
            raise UsageError(
                f"{run} has not ended after {arguments.wait_s:g} s: it is still asked to; look at "
                "the instrument"
            )
        time.sleep(_ASK_EVERY_S)
    with reading(run) as db:
        last = db.execute("SELECT text FROM events ORDER BY id DESC LIMIT 1").fetchone()
    print(f"ended: {last['text'] if last else 'before it had begun'}")
    return 0
