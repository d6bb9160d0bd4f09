"""The simulated microscope of the settings, alone or behind a virtual Nanonis."""

from __future__ import annotations

from typing import Any

import numpy as np

from spm_gym.config import Config
from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.scale import NM
from spm_gym.servers.nanonis.controller import VirtualController
from spm_gym.types import Frame, Pulse


def build_microscope(config: Config, seed: int = 0) -> SimulatedMicroscope:
    """Build the simulated microscope of these settings."""
    return SimulatedMicroscope(config.simulator, area_nm=config.env.regions.area_nm, seed=seed)


def world_seed(seed: int) -> int:
    """Derive the seed of the world that a simulated environment begins when reset with ``seed``."""
    # Gymnasium seeds its environments so.
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    return int(rng.integers(2**63))


def virtual_controller(config: Config, seed: int, **options: Any) -> VirtualController:
    """Build a virtual Nanonis over the world that a reset of the simulated environment begins.

    Args:
        config: Settings of simulator and approach area.
        seed: Of that reset.
        options: Of `VirtualController`.
    """
    return VirtualController(build_microscope(config, world_seed(seed)), **options)


def compile_simulator(config: Config) -> None:
    """Have everything compiled that images take, before a client waits for its first.

    Args:
        config: The settings; a microscope of theirs is thrown away.
    """
    microscope = build_microscope(config)
    # A function is compiled when it is first called: this probe, this act and this fault call them
    # all.
    microscope.set_probe(HiddenState(contaminated=True, unstable=True))
    microscope.condition(Pulse(-8.0), 0.0, 0.0)
    frame = Frame(0.0, 0.0, config.env.image_nm * NM, 8)
    microscope.scan(frame)
    microscope.inject("lost contact")
    microscope.scan(frame)
