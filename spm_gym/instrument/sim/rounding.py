"""What is left of a request once a protocol of 32-bit floats has carried it (pure functions)."""

from __future__ import annotations

import math

import numpy as np

from spm_gym.types import Conditioning, Dip, Frame, Pulse


def single(value: float) -> float:
    """The nearest number of single precision."""
    return float(np.float32(value))


def sent_frame(frame: Frame) -> Frame:
    """The frame as it arrives; its angle travels in degrees, clockwise."""
    angle = -math.radians(single(-math.degrees(frame.angle)))
    return Frame(single(frame.x), single(frame.y), single(frame.size), frame.pixels, angle)


def sent_action(action: Conditioning) -> Conditioning:
    """The action as it arrives."""
    if isinstance(action, Pulse):
        return Pulse(single(action.bias), single(action.width))
    if isinstance(action, Dip):
        return Dip(single(action.depth), single(action.bias), single(action.width))
    return action
