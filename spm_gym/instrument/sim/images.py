"""Simulated images with their labels, for training and testing the classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spm_gym.config import SimulatorConfig
from spm_gym.imaging import interpolate_lines
from spm_gym.instrument.sim.dynamics import STATES, HiddenState
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.scale import NM
from spm_gym.types import BoolArray, Frame

GOOD_SHARE = 0.3
PER_AREA = 500
"""Images of one surface: to make a surface takes as long as some images."""

_AREA_NM = 850.0
_MIN_MOLECULES = 2
_TRIES = 100


@dataclass(frozen=True, slots=True)
class SimulatedImages:
    """Raw images (N) and the labels that only a simulator knows.

    Attributes:
        z: (N, pixels, pixels) float32, m; of previews with the rows between the lines interpolated.
        state: Index of the probe's class, (N,).
        z_range: Of the z piezo, m.
    """

    z: NDArray[np.float32]
    state: NDArray[np.int64]
    z_range: tuple[float, float]

    @property
    def good(self) -> BoolArray:
        """Whether the probe was good, (N,)."""
        return np.asarray(self.state == 0)


@dataclass(frozen=True, slots=True)
class ImagingSession:
    """Images of one surface that are still to be taken, independently of those of other surfaces.

    Attributes:
        seed: Seed of surface, probes and places.
        states: Classes of the probes, one for each image.
        line_steps: Of each image, pixels from line to line: 1 of a full image, more of a preview.
    """

    seed: np.random.SeedSequence
    states: NDArray[np.int64]
    line_steps: NDArray[np.int64]


def sessions(
    count: int,
    seed: int,
    states: NDArray[np.int64] | None = None,
    line_steps: NDArray[np.int64] | None = None,
) -> list[ImagingSession]:
    """Divide the images among surfaces.

    Args:
        count: Total number of images.
        seed: The same seed gives the same images.
        states: Classes of the probes (count,); by default 30 % good and the others equally often.
        line_steps: Of the images (count,), as in `ImagingSession`; by default all are full ones.
    """
    # A surface each: sessions may be taken in any order, or by several processes.
    drawing, *surfaces = np.random.SeedSequence(seed).spawn(1 + -(-count // PER_AREA))
    if states is None:
        rng = np.random.default_rng(drawing)
        states = np.where(rng.random(count) < GOOD_SHARE, 0, rng.integers(1, STATES, count))
    states = np.asarray(states, dtype=np.int64)
    steps = np.ones(count, np.int64) if line_steps is None else line_steps
    parts = [slice(PER_AREA * index, PER_AREA * (index + 1)) for index in range(len(surfaces))]
    return [
        ImagingSession(surface, states[part], steps[part])
        for surface, part in zip(surfaces, parts, strict=True)
    ]


def take(
    session: ImagingSession, config: SimulatorConfig, image_nm: float = 10.0, pixels: int = 64
) -> SimulatedImages:
    """Take images, each with a new probe at a random place of a surface.

    Images with fewer than two molecules are avoided, unless the sample is too bare.

    Args:
        session: The images to take.
        config: The simulation.
        image_nm: Side of the images, nm.
        pixels: Pixels per side.
    """
    # No tip changes, accidents or rough patches: such images have no clear label, or none at all.
    calm = config.model_copy(
        update=dict.fromkeys(
            ("tip_change_rate", "tip_change_per_s", "contact_loss_rate", "crash_rate",
             "rough_fraction"), 0.0
        )
    )  # fmt: skip
    rng = np.random.default_rng(session.seed)
    microscope = SimulatedMicroscope(calm, _AREA_NM, int(rng.integers(2**63)))
    z = np.empty((len(session.states), pixels, pixels), dtype=np.float32)
    work = zip(z, session.states.tolist(), session.line_steps.tolist(), strict=True)
    for image, state, step in work:
        microscope.set_probe(HiddenState.of(state))
        frame = _frame(microscope, image_nm * NM, pixels, rng)
        microscope.wait(rng.uniform(0, 10))  # images with much creep after a move, and with little
        # Previews are scanned as such, not thinned out of full images: in a quarter of the time
        # the sample drifts a quarter as far, and an unstable probe jumps less from line to line.
        image[:] = interpolate_lines(
            microscope.scan(replace(frame, lines=pixels // step)).z, pixels
        )
    return SimulatedImages(z, session.states, microscope.z_range)


def simulated_images(
    count: int,
    seed: int,
    config: SimulatorConfig | None = None,
    image_nm: float = 10.0,
    pixels: int = 64,
    states: NDArray[np.int64] | None = None,
    progress: Callable[[int], object] = lambda images: None,
) -> SimulatedImages:
    """Take the images of `sessions` one after the other.

    Args:
        count: N.
        seed: The same seed gives the same images.
        config: The simulation.
        image_nm: Side of the images, nm.
        pixels: Pixels per side.
        states: Classes of the probes (N,).
        progress: Called with the number of images finished since the last call.
    """
    parts = []
    for session in sessions(count, seed, states):
        parts.append(take(session, config or SimulatorConfig(), image_nm, pixels))
        progress(len(session.states))
    return SimulatedImages(
        np.concatenate([part.z for part in parts]),
        np.concatenate([part.state for part in parts]),
        parts[0].z_range,
    )


def _frame(
    microscope: SimulatedMicroscope, size: float, pixels: int, rng: np.random.Generator
) -> Frame:
    # Bare ground shows nothing of a tip, so such an image has no label.
    reach = microscope.reach - size / 2
    molecules = microscope.surface.ground.molecules
    for _ in range(_TRIES):
        x, y = rng.uniform(-reach, reach, 2).tolist()
        if len(molecules.near(x, y, size / 2)) >= _MIN_MOLECULES:
            break
    return Frame(x, y, size, pixels)
