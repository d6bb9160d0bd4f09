"""Rounding of requests by a protocol of 32-bit floats (pure functions).

The simulator rounds as the Nanonis protocol does, so that an image from the simulator equals the
image that a virtual controller takes with it.
"""

from __future__ import annotations

import math

import numpy as np

from spm_gym.types import Conditioning, Dip, Frame, Pulse


def single(value: float) -> float:
    """Round to the nearest number of single precision."""
    return float(np.float32(value))


def sent_frame(frame: Frame) -> Frame:
    """Round a frame; the protocol counts its angle in degrees, clockwise."""
    angle = -math.radians(single(-math.degrees(frame.angle)))
    x, y, size = single(frame.x), single(frame.y), single(frame.size)
    return Frame(x, y, size, frame.pixels, angle, frame.lines)


def sent_action(action: Conditioning) -> Conditioning:
    """Round an action."""
    if isinstance(action, Pulse):
        return Pulse(single(action.bias), single(action.width))
    if isinstance(action, Dip):
        return Dip(single(action.depth), single(action.bias), single(action.width))
    return action
