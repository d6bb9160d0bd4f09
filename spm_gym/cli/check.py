"""Look at the microscope, its limits and what a run would do; moves and changes nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

from spm_gym.analysis.wording import SURVEY
from spm_gym.assembly.drivers import (
    capabilities,
    connect_microscope,
    log_commands,
    refuse_without_log,
)
from spm_gym.assembly.microscope import print_line
from spm_gym.assembly.preflight import preflight
from spm_gym.cli.options import add_config, add_log_commands, add_set
from spm_gym.config import Config, load_config
from spm_gym.errors import UsageError
from spm_gym.instrument.driver import MotorVerifier


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.add_argument("--env", choices=["real"], default="real", help="default: real")
    parser.add_argument(
        "--for",
        dest="purpose",
        choices=["run", "train", "evaluate"],
        default="run",
        help="the command that is to follow (default: run, which needs an agent too)",
    )
    parser.add_argument(
        "--verify-motor",
        action="store_true",
        help="THIS MOVES: withdraw the tip and make single steps with the coarse motor, to see "
        "that it leads away from the sample as the settings say; leaves the tip withdrawn",
    )
    add_log_commands(parser, "commands.jsonl in the current folder")
    add_config(parser)
    add_set(parser, "real.nanonis.host=192.168.1.5")
    parser.set_defaults(command=check)


def check(arguments: argparse.Namespace) -> int:
    """Print what the microscope says and what is wrong with it."""
    config = load_config(arguments.config, [*arguments.set, "run.microscope=real"])
    # What cannot be done is said before the microscope is asked anything.
    if arguments.verify_motor:
        _refuse_unverifiable(config)
    refuse_without_log(arguments.log_commands, config)
    with log_commands(arguments.log_commands, config, Path(), print_line):
        return _check(config, arguments)


def _check(config: Config, arguments: argparse.Namespace) -> int:
    findings = preflight(config, arguments.purpose)
    for finding in findings:
        print(f"{'!!' if finding.trouble else '  '} {finding.what:22} {finding.text}")
    print(_plan(config))
    # The motor is moved only if nothing else is wrong.
    troubles = sum(finding.trouble for finding in findings)
    if troubles:
        raise UsageError(f"not ready: {troubles} of the above, marked !!, must be dealt with first")
    if arguments.verify_motor:
        _verify_motor(config)
        return 0
    print("ready; nothing was moved or changed")
    return 0


def _verify_motor(config: Config) -> None:
    guard = connect_microscope(config)
    try:
        cast(MotorVerifier, guard.instrument).verify_motor()
    finally:
        # Leaves the tip withdrawn, whatever the steps have shown.
        guard.close()
    print("verified: the coarse motor takes the tip away from the sample; ready")


def _refuse_unverifiable(config: Config) -> None:
    able = capabilities(config.real)
    if not able.verify_motor:
        raise UsageError(f"{config.real.driver} {able.why_not('verify_motor')}")


def _plan(config: Config) -> str:
    env, real, budget = config.env, config.real, config.budget
    limits = ", ".join(_bound(name, value) for name, value in real.limits)
    budgets = ", ".join(_bound(name, value) for name, value in budget)
    if config.operation.conditioning:
        actions = (
            f"choose from: {', '.join(each.name for each in env.actions if env.may_choose(each))}"
        )
    else:
        actions = f"be a {SURVEY}"
    return (
        f"limits (real.limits): {limits}\n"
        f"without success (budget): {budgets}\n"
        f"a run would: scan {env.image_nm:g} nm images of {env.pixels} x {env.pixels} pixels "
        f"within {env.regions.area_nm:g} nm, at {real.imaging.speed_nm_per_s:g} nm/s; training and "
        f"evaluation damage the probe at every reset: {'yes' if env.damage else 'no'}\n"
        f"  {actions}\n"
        f"  at its end, however it ends: {_end(config)}"
    )


def _end(config: Config) -> str:
    able = capabilities(config.real)
    if not able.withdraw:
        tip = "leave the tip where it is, for it cannot be withdrawn"
    elif config.operation.when_good == "stop":
        tip = "leave a good tip at the surface and withdraw any other"
    elif config.real.withdraw_on_exit:
        tip = "withdraw the tip"
    else:
        tip = "leave the tip at the surface"
    settings = "restore the settings" if able.restore else "restore no settings"
    return f"stop, {tip}, {settings}"


def _bound(name: str, value: object) -> str:
    if isinstance(value, tuple):
        return f"{name} {value[0]:g}..{value[1]:g}"
    if value is None:
        return f"{name} unlimited"
    return f"{name.removeprefix('min_')} {'>=' if name.startswith('min_') else '<='} {value:g}"
