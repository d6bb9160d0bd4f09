"""The microscope that a command drives, and its shutdown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spm_gym.assembly.classifier import check_classifier, read_blank
from spm_gym.assembly.drivers import (
    capabilities,
    check_limits,
    connect_microscope,
    rehearse_microscope,
)
from spm_gym.assembly.preflight import Purpose, preflight, refuse_troubles
from spm_gym.assembly.previews import check_previews
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import Config
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.driver import SETTINGS_BEFORE, DriverContext
from spm_gym.journal.writer import Journal
from spm_gym.runner.signals import ignoring_signals


@contextmanager
def microscope(
    config: Config,
    run: Path,
    purpose: Purpose,
    dry_run: bool = False,
    journal: Journal | None = None,
    abort: Callable[[], bool] = lambda: False,
    leave_tip: Callable[[], bool] = lambda: False,
) -> Iterator[Instrument]:
    """Give the configured microscope; leave it in the safe condition, however the block ends.

    Args:
        config: Settings of the run.
        run: Its directory.
        purpose: What the microscope is for.
        dry_run: Whether to show the commands to a real microscope instead of sending them.
        journal: Records the acts; None for a simulated microscope and a dry run, which do none.
        abort: Is asked during a scan or an approach whether to stop it.
        leave_tip: Is asked at the end whether a tip that may be withdrawn stays at the surface.
    """
    if config.run.microscope == "sim":
        yield build_microscope(config)
        return
    real = config.real
    able = capabilities(real)
    # Before anything is asked of the microscope: what the settings alone get wrong.
    check_limits(config)
    if purpose == "run" and not config.operation.conditioning:
        read_blank(config)
    else:
        check_previews(config)
        check_classifier(config)
    if dry_run:
        instrument: Instrument = rehearse_microscope(config, print)
    elif journal is None:
        raise ValueError("a real microscope needs a journal: no act is done that is not recorded")
    else:
        # By a connection of its own, before the driver changes its first setting: a command that is
        # refused finds the microscope as it was.
        refuse_troubles(preflight(config, purpose, run / SETTINGS_BEFORE))
        instrument = _connect(config, run, journal, abort, leave_tip)
    try:
        if not able.coarse_motion:
            print_line(f"instrument: {real.driver} {able.why_not('coarse_motion')}")
        yield instrument
    finally:
        with ignoring_signals():
            # Not to be interrupted: a second Ctrl-C would leave the tip at the surface, settings
            # changed.
            instrument.close()
            if not able.withdraw:
                print_line(f"instrument: connection closed; {real.driver} cannot withdraw the tip")


def approach_withdrawn(config: Config, instrument: Instrument) -> None:
    """Approach, if the tip of a real microscope is withdrawn and the settings say so."""
    # Without a status nobody knows whether the tip is up, and one at the surface stays there.
    automatic = capabilities(config.real).status and config.real.approach_at_start
    if automatic and not instrument.status().approached:
        print("instrument: the tip is withdrawn; automatic approach")
        instrument.approach()


def _connect(
    config: Config,
    run: Path,
    journal: Journal,
    abort: Callable[[], bool],
    leave_tip: Callable[[], bool],
) -> Instrument:
    def note(text: str) -> None:
        print_line(f"instrument: {text}")
        journal.add_event(time.time(), "instrument", text)

    context = DriverContext(run / SETTINGS_BEFORE, print_line, note, abort, leave_tip)
    return connect_microscope(config, context, journal.record_act, journal.acts())


def print_line(text: str) -> None:
    """Print a line, if anybody still reads it."""
    with suppress(OSError):  # a pipe may be broken; the run goes on all the same
        print(text, flush=True)
