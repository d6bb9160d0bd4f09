"""Serve a page that shows a run as it goes, for this computer's browser or a phone."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from spm_gym.assembly.run_directory import existing_record
from spm_gym.cli.page import add_address, serve_page

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from spm_gym.web.access import Access

PORT = 8765
_NICE = 10
"""The page gives way to the run."""

EPILOG = """examples:
  spm-gym monitor                                    the newest run below runs/
  spm-gym monitor RUN_DIR --open                     ... of this run, in the browser
  spm-gym monitor RUN_DIR --token T                  ... with buttons for pause, resume and stop
  spm-gym monitor RUN_DIR --token T --host 0.0.0.0   ... for phones in the same network

RUN_DIR is that of spm-gym run, or of train.py or evaluate.py with --env real. The page only reads
it; it can be started and ended at any time, also long after the run.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN_DIR", help="default: the newest")
    add_address(parser, PORT, "who gives it may pause, resume and stop the run")
    parser.set_defaults(command=monitor)


def monitor(arguments: argparse.Namespace) -> int:
    """Serve the page."""
    run, _ = existing_record(arguments.run)

    def live_page(access: Access) -> ASGIApp:
        from spm_gym.web.monitor import monitor  # its pictures are slow to import

        # Not before it is known that the page can be served: a refused one changes nothing.
        if hasattr(os, "nice"):
            os.nice(_NICE)
        return monitor(run, access)

    return serve_page(arguments, live_page, f"watching {run}")
