"""A Nanonis controller in other hands: given back as the operator had it, and taken over again."""

from __future__ import annotations

from collections.abc import Callable

from spm_gym.config import RealConfig
from spm_gym.errors import CommandFailed
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.in_force import Watch, check_before_changes
from spm_gym.instrument.nanonis.scanning import stop_scan
from spm_gym.instrument.nanonis.settings import Settings
from spm_gym.instrument.nanonis.shutdown import shut_down


def hand_over(
    controller: Controller,
    before: Settings,
    config: RealConfig,
    watch: Watch,
    sleep: Callable[[float], None],
) -> None:
    """Put the operator's settings in force, under a tip at the surface.

    Args:
        controller: Carries it out.
        before: The operator's settings.
        config: The settings of the real microscope.
        watch: Will compare what is in force afterwards with this.
        sleep: Waits so many seconds.

    Raises:
        CommandFailed: One of them could not be put in force.
        InstrumentError: Any other failure.
    """
    stop_scan(controller)
    _restore(controller, before, config, watch, sleep)


def take_back(
    controller: Controller,
    before: Settings,
    config: RealConfig,
    watch: Watch,
    sleep: Callable[[float], None],
) -> None:
    """Stop a scan that is left, note what is changed, and put it right; as for `hand_over`.

    Raises:
        LimitExceeded: Bias or setpoint were left beyond the limits; now they are not any more.
        InstrumentError: As for `hand_over`.
    """
    stop_scan(controller)
    watch.note_changes()
    try:
        check_before_changes(controller, config)
    finally:
        # What is beyond the limits ends the run, but not with that under a tip at the surface.
        _restore(controller, before, config, watch, sleep)


def _restore(
    controller: Controller,
    before: Settings,
    config: RealConfig,
    watch: Watch,
    sleep: Callable[[float], None],
) -> None:
    troubles = shut_down(before.restore(controller, config.limits, sleep), 0.0, sleep)
    watch.adopt()
    for missing, trouble in troubles:
        raise CommandFailed(f"hand-over: {missing}: {trouble}") from trouble
