"""Condition the tip until it is good, and leave it at the surface."""

from __future__ import annotations

import argparse
from pathlib import Path

from spm_gym.cli import run
from spm_gym.cli.options import (
    add_config,
    add_env,
    add_log_commands,
    add_set,
    add_token,
    time_scale,
)

_SETTINGS = ("operation.when_good=stop", "operation.condition_after=2")
"""Who asks for it waits for it: two bad images in a row are enough to begin."""

EPILOG = """examples:
  spm-gym condition --until-good                          on the simulator
  spm-gym condition --until-good --env real --config my_lab.yaml && python spectrum.py
  spm-gym condition --until-good --env real --hours 1     give up after an hour

It is a run (spm-gym run) with operation.when_good = stop, and operation.condition_after = 2 unless
--set says otherwise: the same limits, budgets, journal, pages, and spm-gym stop. It ends with the
first good image outside conditioning: the tip stays at the surface, nothing is scanned, and the
operator's settings are in force; exit status 0. However else it ends, the tip is withdrawn, and the
status is not 0. Killed? Go on with spm-gym run --resume.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "--until-good", action="store_true", help="what it does in any case; may be left out"
    )
    add_config(parser)
    add_env(parser)
    parser.add_argument("--hours", type=float, metavar="H", help="sets operation.hours")
    parser.add_argument("--sample", metavar="NAME", help="sets operation.sample: as in spm-gym run")
    parser.add_argument("--seed", type=int, metavar="S", help="sets seed")
    parser.add_argument(
        "--agent", type=Path, metavar="PATH", help="sets operation.agent: as in spm-gym run"
    )
    parser.add_argument(
        "--time-scale",
        type=time_scale,
        default=0.0,
        metavar="X",
        help="how much faster than real time a simulated microscope works (default: off)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show every command instead of sending it"
    )
    add_token(parser, "obey only requests to pause or stop that come with it")
    add_log_commands(parser, "commands.jsonl in the run directory")
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="default: runs/<date>_run")
    add_set(parser, "operation.condition_after=1")
    absent = ("scans", "policy", "conditioning", "notify", "faults", "when_good")
    parser.set_defaults(command=condition, resume=False, fresh_area=False, **dict.fromkeys(absent))


def condition(arguments: argparse.Namespace) -> int:
    """Operate until the tip is good."""
    arguments.set = [*_SETTINGS, *arguments.set]
    return run.run(arguments)
