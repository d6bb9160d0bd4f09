"""Freshly simulated images with their labels, for training and testing the classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.instrument.sim.dynamics import STATES, HiddenState
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import BoolArray, Frame

NM = 1e-9
GOOD_SHARE = 0.3
PER_AREA = 200
"""Images taken from one surface before the next."""

_AREA_NM = 850.0
_MIN_MOLECULES = 2
_TRIES = 100


@dataclass(frozen=True, slots=True)
class SimulatedImages:
    """N raw images and what only a simulator knows.

    Attributes:
        z: (N, pixels, pixels) float32, m.
        good: (N,).
        state: Index of the probe's class, (N,).
    """

    z: NDArray[np.float32]
    good: BoolArray
    state: NDArray[np.int64]


def simulated_images(
    count: int,
    seed: int,
    config: SimulatorConfig | None = None,
    image_nm: float = 10.0,
    pixels: int = 64,
    states: NDArray[np.int64] | None = None,
    progress: Callable[[int], object] | None = None,
) -> SimulatedImages:
    """Take images with ever new probes at random places of many surfaces.

    No tip changes, accidents or rough patches: such images have no clear label, or none at all.
    Images with fewer than two molecules are avoided, unless the sample is too bare.

    Args:
        count: N.
        seed: The same seed gives the same images.
        config: The simulation.
        image_nm: Side of the images, nm.
        pixels: Pixels per side.
        states: Classes of the probes (N,); by default 30 % good and the others equally often.
        progress: Called with the number of images finished since the last call.
    """
    calm = (config or SimulatorConfig()).model_copy(
        update={"tip_change_rate": 0.0, "contact_loss_rate": 0.0, "crash_rate": 0.0,
                "rough_fraction": 0.0}
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    if states is None:
        states = np.where(rng.random(count) < GOOD_SHARE, 0, rng.integers(1, STATES, count))
    z = np.empty((count, pixels, pixels), dtype=np.float32)
    microscope = SimulatedMicroscope(calm, _AREA_NM)
    for index, state in enumerate(states):
        if index % PER_AREA == 0:
            microscope.restart(int(rng.integers(2**63)))
        microscope.equip(HiddenState.of(int(state)))
        frame = _frame(microscope, image_nm * NM, pixels, rng)
        microscope.wait(rng.uniform(0, 10))
        z[index] = microscope.scan(frame).z
        if progress is not None:
            progress(1)
    return SimulatedImages(z, states == 0, np.asarray(states, dtype=np.int64))


def _frame(
    microscope: SimulatedMicroscope, size: float, pixels: int, rng: np.random.Generator
) -> Frame:
    reach = microscope.reach - size / 2
    for _ in range(_TRIES):
        x, y = rng.uniform(-reach, reach, 2)
        if len(microscope.surface.ground.molecules.near(x, y, size / 2)) >= _MIN_MOLECULES:
            break
    return Frame(float(x), float(y), size, pixels)
