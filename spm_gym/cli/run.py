"""Operate the microscope by itself, for hours or days."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spm_gym.analysis.session import last_session
from spm_gym.assembly.drivers import log_commands, refuse_without_log
from spm_gym.assembly.microscope import print_line
from spm_gym.assembly.run_directory import (
    CHECKPOINTS,
    SETTINGS,
    TENSORBOARD,
    existing_operation,
    new_run,
    write_settings,
)
from spm_gym.atomic_file import remove_leftovers
from spm_gym.cli.options import (
    add_config,
    add_env,
    add_run_directory,
    add_set,
    add_token,
    time_scale,
)
from spm_gym.config import Config, load_config
from spm_gym.config.yaml_file import as_yaml, excerpt, read_yaml
from spm_gym.errors import UsageError
from spm_gym.journal.reader import SCANS, has_started, reading
from spm_gym.journal.run_lock import locked_run
from spm_gym.runner.control import CONTROL, PROTECTION

_MADE_FIRST = (SCANS, CHECKPOINTS, TENSORBOARD, CONTROL, PROTECTION)
"""What a run makes besides its journal before anything happens. The operator's settings are not
among them: they are kept only while the instrument does not have them back."""

_DRY_RUN = "--dry-run goes with a new run and --env real: nothing else sends commands"

EPILOG = """examples:
  spm-gym run --env sim --hours 12                  half a day on the simulator, in some seconds
  spm-gym run --env sim --hours 86 --faults random  days, with everything going wrong that can
  spm-gym run --env real --config configs/real.yaml --hours 60
  spm-gym run --env real --config my_lab.yaml --dry-run   what would be sent, and nothing is
  spm-gym run --resume                              go on after a kill, a stop, or a power cut
  spm-gym run --resume --run-dir DIR --hours 100    go on, and for longer
  spm-gym run --policy random                       random choice instead of the agent, to compare
  spm-gym run --policy interleaved                  both in turn: what is the agent worth here?
  spm-gym run --when-good "python spectrum.py"      hand the tip to a program whenever it is good
  spm-gym run --no-conditioning --scans 200         a survey: images only, to label them afterwards

agents and run directories of others hold data: nothing in them is run; but the settings of a run
that goes on decide what is done, and to which instrument (docs/safety.md, "Files from others")

a file of faults, for example:
  {lost_contact: 0.01, connection: 0.01, schedule: [{scan: 40, fault: crash}]}

while it runs, from anywhere:
  spm-gym ask pause RUN_DIR                         withdraws if it can; "resume" goes on; "stop"
  spm-gym report RUN_DIR                            a page with everything so far
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add_config(parser)
    add_env(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show every command to the real microscope through the first conditioning, played on "
        "a simulated tip, instead of sending it",
    )
    parser.add_argument("--hours", type=float, metavar="H", help="sets operation.hours")
    parser.add_argument("--scans", type=int, metavar="N", help="sets operation.scans")
    parser.add_argument("--seed", type=int, metavar="S", help="sets seed")
    parser.add_argument(
        "--agent",
        type=Path,
        metavar="PATH",
        help="sets operation.agent: a run of train.py, one of its checkpoints, or a file of "
        "weights (default: the agent in the package)",
    )
    parser.add_argument(
        "--policy", choices=["agent", "random", "interleaved"], help="sets operation.policy"
    )
    _add_purpose(parser)
    parser.add_argument(
        "--notify", type=Path, metavar="FILE", help="sets operation.notify: whom to notify"
    )
    _add_simulated(parser)
    add_token(
        parser,
        "obey only requests to pause or stop that come with it (default: anybody who may write "
        "into the run directory is obeyed)",
    )
    add_run_directory(parser, "runs/<date>_run")
    add_set(parser, "operation.condition_after=5")
    parser.set_defaults(command=run)


def _add_purpose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sample",
        metavar="NAME",
        help="sets operation.sample: the map of used places goes on from the last run with this "
        "name in the same folder",
    )
    parser.add_argument(
        "--when-good",
        metavar="scan|stop|COMMAND",
        help="sets operation.when_good: after a good image take the next one; or end, with the tip "
        "left at the surface; or hand the tip to a program and take it back (docs/operation.md)",
    )
    parser.add_argument(
        "--no-conditioning",
        dest="conditioning",
        action="store_const",
        const=False,
        help="a survey, sets operation.conditioning to false: images only, never a pulse or dip, "
        "to fill a folder to label; needs neither classifier nor agent",
    )


def _add_simulated(parser: argparse.ArgumentParser) -> None:
    simulated = parser.add_argument_group("simulated microscope")
    simulated.add_argument(
        "--faults",
        metavar="random|FILE",
        help="sets faults: what goes wrong on purpose, at random or as a file (YAML) says",
    )
    simulated.add_argument(
        "--time-scale",
        type=time_scale,
        default=0.0,
        metavar="X",
        help="how much faster than real time it works (default: off, as fast as it goes)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Operate as the command line asks."""
    if arguments.resume:
        if arguments.dry_run:
            raise UsageError(_DRY_RUN)
        return _resume(arguments)
    config = _settings(arguments)
    # Before there is a run directory that nothing would ever happen in.
    _refuse_impossible(arguments, config)
    config = _fitted(config)
    if arguments.dry_run:
        from spm_gym.assembly.run_rehearsal import rehearse  # torch is slow to import

        rehearse(config)
        print("dry run: nothing was sent, nothing was kept")
        return 0
    from spm_gym.assembly.run import operate  # torch is slow to import

    with (
        new_run(arguments.run_dir, config, "run", made_first=_MADE_FIRST) as folder,
        log_commands(arguments.log_commands, config, folder, print_line),
    ):
        return operate(
            config,
            folder,
            arguments.time_scale,
            fresh_area=arguments.fresh_area,
            token=arguments.token,
        )


def _resume(arguments: argparse.Namespace) -> int:
    for name in (
        "config",
        "set",
        "env",
        "seed",
        "agent",
        "policy",
        "sample",
        "conditioning",
        "faults",
    ):
        if getattr(arguments, name) not in (None, []):
            option = f"--{'no-' * (name == 'conditioning')}{name}"
            raise UsageError(f"--resume continues with the run's own settings: leave out {option}")
    folder, _ = existing_operation(arguments.run_dir)
    with locked_run(folder):
        remove_leftovers(folder)
        # Read under the lock: another program may just have changed the settings.
        changed = _given(arguments)
        if arguments.when_good in ("scan", "stop"):
            changed.append("operation.hand_overs=null")  # which counts programs
        config = load_config(folder / SETTINGS, changed)
        _refuse_impossible(arguments, config)
        _refuse_unasked_program(arguments, folder, config)
        # Before anything is loaded: states would be read as those of other actions or pixels.
        _refuse_edited(folder, config, _lasting)
        config = _fitted(config)
        _refuse_edited(folder, config, _filled_in)
        print(f"continuing {folder}")
        # What was given with --resume holds from now on, also after the next kill.
        if changed:
            write_settings(folder / SETTINGS, config)
        from spm_gym.assembly.run import operate  # torch is slow to import

        with log_commands(arguments.log_commands, config, folder, print_line):
            return operate(
                config, folder, arguments.time_scale, True, arguments.fresh_area, arguments.token
            )


def _refuse_unasked_program(arguments: argparse.Namespace, folder: Path, config: Config) -> None:
    """Start no program that only the run directory names: it may come from somebody else."""
    if config.operation.program is not None and arguments.when_good is None:
        raise UsageError(
            f"{folder / SETTINGS} has a program, operation.when_good = "
            f"{config.operation.when_good!r}, which is not started unless you name it: give "
            "--when-good COMMAND, or --when-good scan to go on without"
        )


def _fitted(config: Config) -> Config:
    """Fill in what the classifier says of images; a survey has none."""
    if not config.operation.conditioning:
        return config
    from spm_gym.assembly.classifier import fitted_to_classifier  # torch is slow to import

    return fitted_to_classifier(config)


def _settings(arguments: argparse.Namespace) -> Config:
    overrides = [*arguments.set, *_given(arguments)]
    if arguments.faults is not None:
        overrides.append(f"faults={as_yaml(_faults(arguments.faults))}")
    return load_config(arguments.config, overrides)


def _given(arguments: argparse.Namespace) -> list[str]:
    """Write options that stand for settings as ``key=value``."""
    settings: dict[str, str | bool | int | float | Path | None] = {
        "run.microscope": arguments.env,
        "operation.hours": arguments.hours,
        "operation.scans": arguments.scans,
        "operation.agent": arguments.agent,
        "operation.policy": arguments.policy,
        "operation.sample": arguments.sample,
        "operation.conditioning": arguments.conditioning,
        "operation.when_good": arguments.when_good,
        "operation.notify": arguments.notify,
        "seed": arguments.seed,
    }
    # Text is text, whatever YAML would make of the name of a file.
    return [
        f"{key}={as_yaml(str(value) if isinstance(value, Path) else value)}"
        for key, value in settings.items()
        if value is not None
    ]


def _faults(given: str) -> Any:
    if given == "random":
        return {}
    tree = read_yaml(Path(given))
    if not isinstance(tree, dict):
        raise UsageError(f"--faults takes random or a file of 'key: value', not {excerpt(tree)}")
    return tree


def _refuse_edited(
    folder: Path, config: Config, lasting: Callable[[Config], dict[str, str]]
) -> None:
    """See that the settings, which may have been edited, go with what the run has left behind."""
    if not has_started(folder):
        return
    with reading(folder) as db:
        noted = last_session(db).settings
    if noted is None:
        return
    was, are = lasting(noted), lasting(config)
    for key in (key for key in was if was[key] != are[key]):
        raise UsageError(
            f"{folder / SETTINGS} has {key} = {are[key]}, and the run has worked with "
            f"{was[key]}: put that back, or begin a new run"
        )


def _lasting(config: Config) -> dict[str, str]:
    """Pick the settings that decide what states and numbers of actions mean."""
    return {
        "run.microscope": config.run.microscope,
        "operation.policy": config.operation.policy,
        # A survey has promised that the probe is never conditioned.
        "operation.conditioning": str(config.operation.conditioning).lower(),
        # Whether there are any decides what the state of the microscope holds; their rates may
        # change.
        "faults": "null" if config.faults is None else "faults on purpose",
        "env.pixels": str(config.env.pixels),
        "env.actions": ", ".join(action.name for action in config.env.actions),
    }


def _filled_in(config: Config) -> dict[str, str]:
    """Pick those that the classifier fills in."""
    return {
        f"env.{name}": str(getattr(config.env, name))
        for name in ("observation_pixels", "observation_nm", "height_scale_pm")
    }


def _refuse_impossible(arguments: argparse.Namespace, config: Config) -> None:
    real = config.run.microscope == "real"
    if not config.operation.conditioning and (arguments.agent or arguments.policy):
        raise UsageError(
            "--agent and --policy choose actions, and a survey (--no-conditioning, "
            "operation.conditioning = false) does none: leave them out"
        )
    if real and config.faults is not None:
        raise UsageError("--faults goes with --env sim; a virtual Nanonis has faults of its own")
    if arguments.dry_run and not real:
        raise UsageError(_DRY_RUN)
    if config.operation.sample is not None and not real:
        raise UsageError("--sample goes with --env real: every simulated run has a new sample")
    if real and arguments.time_scale:
        raise UsageError("--time-scale goes with --env sim: a real microscope keeps its own time")
    if arguments.fresh_area and not (real and (arguments.resume or config.operation.sample)):
        raise UsageError("--fresh-area goes with --resume or --sample, and with --env real")
    refuse_without_log(arguments.log_commands, config, arguments.dry_run)
    if config.env.ground_truth and real:
        raise UsageError("setting env.ground_truth = True: only the simulator knows the truth")
