"""Look at the microscope, its limits and what a run would do; moves and changes nothing."""

from __future__ import annotations

import argparse
from contextlib import closing

from spm_gym.build import check_judge, check_limits
from spm_gym.cli import UsageError
from spm_gym.cli.options import add_config, add_set
from spm_gym.config import Config, load_config
from spm_gym.instrument.base import InstrumentError
from spm_gym.instrument.labview.client import LabviewInstrument
from spm_gym.instrument.nanonis.preflight import Finding, inspect


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options on a parser."""
    parser.add_argument("--env", choices=["real"], default="real", help="default: real")
    add_config(parser)
    add_set(parser, "real.host=192.168.1.5")
    parser.set_defaults(command=check)


def check(arguments: argparse.Namespace) -> int:
    """Print what the microscope says and what is wrong with it."""
    config = load_config(arguments.config, arguments.set)
    findings = (_ask_labview if config.real.protocol == "labview" else _ask_nanonis)(config)
    for what, look in (("limits", check_limits), ("judge", check_judge)):
        try:
            look(config)
        except (InstrumentError, ValueError) as error:
            findings.append(Finding(what, str(error), trouble=True))
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
