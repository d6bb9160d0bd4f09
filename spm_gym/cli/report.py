"""Render a page, complete in itself, that shows how a run went; the run may be under way."""

from __future__ import annotations

import argparse
from pathlib import Path

from spm_gym.atomic_file import remove_leftovers
from spm_gym.cli.options import add_force, refuse_unwritable
from spm_gym.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="what the run has written")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the page; default: report.html in RUN_DIR"
    )
    add_force(parser)
    parser.set_defaults(command=report)


def report(arguments: argparse.Namespace) -> int:
    """Write the page, and print where it is and what could not be read."""
    from spm_gym.web.report import REPORT, write_report  # matplotlib is slow to import

    output: Path = arguments.output or arguments.run / REPORT
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output {output}: the page is HTML, its name must end in .html")
    if arguments.output is not None:  # the page in the run directory is made again every time
        refuse_unwritable("--output", output, arguments.force)
    files = write_report(arguments.run, output)
    remove_leftovers(output.parent)
    print(f"{output} ({output.stat().st_size / 1e6:.1f} MB)")
    for problem in list(files.unreadable.values())[:5]:
        print(f"unreadable: {problem}")
    if len(files.unreadable) > 5:
        print(f"and {len(files.unreadable) - 5} more")
    return 0
