"""Many simulated microscopes imaged one after the other, without what nobody sees."""

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
        microscopes: As many as frames.
        frames: Where.
        settle_fraction: Share of the lines that is recorded first and never looked at.

    Returns:
        The images, or why there is none.
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
