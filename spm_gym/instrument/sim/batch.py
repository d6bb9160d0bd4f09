"""Images of many simulated microscopes, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from spm_gym.errors import InstrumentError
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.types import Frame, Scan


def scan_all(
    microscopes: Sequence[SimulatedMicroscope], frames: Sequence[Frame], settle_fraction: float
) -> list[Scan | InstrumentError]:
    """Let each microscope settle at its frame and image it.

    Args:
        microscopes: The microscopes.
        frames: Frame of each microscope.
        settle_fraction: Share of the lines that is recorded before the image and discarded.

    Returns:
        Of each microscope the image, or the error that prevented it.
    """
    taken: list[Scan | InstrumentError] = []
    for microscope, frame in zip(microscopes, frames, strict=True):
        try:
            if settle_fraction:
                microscope.settle(frame, settle_fraction)
            taken.append(microscope.scan(frame))
        except InstrumentError as error:
            taken.append(error)
    return taken
