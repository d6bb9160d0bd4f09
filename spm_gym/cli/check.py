"""Look at the microscope, its limits and what a run would do; moves and changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from spm_gym.build import check_actions
from spm_gym.cli import UsageError, run_command
from spm_gym.config import Config, load_config
from spm_gym.instrument.base import InstrumentError
from spm_gym.instrument.labview.client import LabviewInstrument
from spm_gym.instrument.nanonis.preflight import Finding, inspect


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.add_argument("--env", choices=["real"], default="real", help="default: real")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings (YAML)")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="key=value",
        help="change single settings, for example real.host=192.168.1.5",
    )
    parser.set_defaults(command=check)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point for tests."""
    parser = argparse.ArgumentParser(prog="spm-gym check", description=__doc__)
    add_arguments(parser)
    return run_command(parser, arguments)


def check(arguments: argparse.Namespace) -> int:
    """Print what the microscope says and what is wrong with it."""
    config = load_config(arguments.config, arguments.set)
    findings = (_ask_labview if config.real.protocol == "labview" else _ask_nanonis)(config)
    try:
        check_actions(config)
    except InstrumentError as error:
        findings.append(Finding("actions", str(error), trouble=True))
    for finding in findings:
        print(f"{'!!' if finding.trouble else '  '} {finding.what:22} {finding.text}")
    print(_plan(config))
    troubles = sum(finding.trouble for finding in findings)
    if troubles:
        raise UsageError(f"not ready: {troubles} of the above, marked !!, must be dealt with first")
    print("ready; nothing was moved or changed")
    return 0


def _ask_nanonis(config: Config) -> list[Finding]:
    return inspect(config.real, config.env)


def _ask_labview(config: Config) -> list[Finding]:
    real, area_nm = config.real, config.env.regions.area_nm
    with closing(LabviewInstrument(real.host, real.labview_port)) as instrument:
        side_nm, z_range = instrument.area_side() * 1e9, instrument.status().z_range
    return [
        Finding("connection", f"{real.host} port {real.labview_port} answers"),
        Finding("piezo range", f"{side_nm:g} nm; used are {area_nm:g} nm", area_nm > side_nm),
        Finding("z range", f"{z_range[0] * 1e9:g} to {z_range[1] * 1e9:g} nm"),
    ]


def _plan(config: Config) -> str:
    env, real = config.env, config.real
    limits = ", ".join(f"{name} {_bounds(value)}" for name, value in real.limits)
    actions = ", ".join(action.name for action in env.actions)
    exits = "withdraws the tip" if real.withdraw_on_exit else "leaves the tip at the surface"
    return (
        f"limits (real.limits): {limits}\n"
        f"a run would: scan {env.image_nm:g} nm images of {env.pixels} x {env.pixels} pixels "
        f"within {env.regions.area_nm:g} nm, at {real.imaging.speed_nm_per_s:g} nm/s; damage the "
        f"probe at every reset: {'yes' if env.damage else 'no'}\n"
        f"  choose from: {actions}\n"
        f"  at its end, however it ends: stop the scan, restore the settings; it {exits}"
    )


def _bounds(value: object) -> str:
    if isinstance(value, tuple):
        return f"{value[0]:g}..{value[1]:g}"
    return "unlimited" if value is None else f"<= {value:g}"
