"""Bring the microscope of a killed run into the safe condition, with the operator's settings."""

from __future__ import annotations

import argparse
from pathlib import Path

from spm_gym.assembly.drivers import find_driver, log_commands, refuse_without_log
from spm_gym.assembly.microscope import print_line
from spm_gym.assembly.run_directory import settings_file
from spm_gym.cli.options import add_log_commands
from spm_gym.config import load_config
from spm_gym.errors import UsageError
from spm_gym.instrument.driver import SETTINGS_BEFORE
from spm_gym.journal.run_lock import locked_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="what the killed run has written")
    add_log_commands(parser, "commands.jsonl in the run directory")
    parser.set_defaults(command=restore)


def restore(arguments: argparse.Namespace) -> int:
    """Connect, and leave as a run would have left."""
    settings = settings_file(arguments.run)
    if settings is None:
        raise UsageError(f"{arguments.run} is not a run directory: it has no settings")
    config = load_config(settings)
    real = config.real
    driver = find_driver(real)
    able = driver.capabilities(real)
    # Not an error: the run itself could have done no more at its end.
    if not able.restore:
        why = able.why_not("restore")
        print(f"nothing to restore: {real.driver} {why}; the tip is where the run has left it")
        return 0
    kept = arguments.run / SETTINGS_BEFORE
    if not kept.is_file():
        raise UsageError(f"there is no {kept}: the run has restored its settings, or never began")
    refuse_without_log(arguments.log_commands, config)
    # A run at work would have bias and frame changed under its tip.
    log = log_commands(arguments.log_commands, config, arguments.run, print_line)
    with locked_run(arguments.run), log:
        driver.restore(real, kept, print_line)
    return 0
