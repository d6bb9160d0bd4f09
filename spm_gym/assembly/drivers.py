"""The instrument drivers that settings can choose: ours, and those that other packages bring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from spm_gym.config import RealConfig
from spm_gym.config.drivers import load_outside_driver
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.deepspm.driver import DeepSPMDriver
from spm_gym.instrument.driver import Capabilities, Driver
from spm_gym.instrument.nanonis.connection import Controller
from spm_gym.instrument.nanonis.driver import NanonisDriver
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.servers.nanonis.rehearsal import Rehearsal


def find_driver(real: RealConfig) -> Driver:
    """Find the driver that the settings choose.

    Raises:
        ConfigError: It is not installed, or cannot be used.
    """
    ours = _OURS.get(real.driver)
    if ours is not None:
        return ours
    found: Driver = load_outside_driver(real.driver)
    return found


def capabilities(real: RealConfig) -> Capabilities:
    """Say what the chosen driver can do with these settings.

    Raises:
        ConfigError: It is not installed, or cannot be used.
    """
    return find_driver(real).capabilities(real)


def _rehearsed(
    simulated: Instrument, release: int, retract: Literal["z+", "z-"], show: Callable[[str], None]
) -> Controller:
    assert isinstance(simulated, SimulatedMicroscope)
    controller = VirtualController(simulated, time_scale=0, release=release, retract=retract)
    return Rehearsal(controller, show)


_OURS: dict[str, Driver] = {"nanonis": NanonisDriver(_rehearsed), "deepspm": DeepSPMDriver()}
