"""The part of images that a classifier takes: nm per pixel decides, not the number of pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from spm_gym.config import EnvConfig
from spm_gym.config.environment import MOST_PIXELS
from spm_gym.scale import NM

PIXEL_FACTOR = 1.15
"""A network distinguishes one tip from two by the size of molecules, which may vary by the error of
a piezo's calibration, not more. The shipped classifier works well up to here."""

_ROUNDING = 1e-6


class TakenImages(NamedTuple):
    """Images that a network takes.

    Attributes:
        side: Their pixels along a side.
        pixel: Smallest and largest pixel of its training, m; None if unknown.
    """

    side: int
    pixel: tuple[float, float] | None

    @property
    def trusted(self) -> tuple[float, float]:
        """Smallest and largest pixel that it is trusted for, m."""
        if self.pixel is None:  # nothing is known, and another check says so
            return 0.0, math.inf
        factor = PIXEL_FACTOR * (1 + _ROUNDING)
        return self.pixel[0] / factor, self.pixel[1] * factor


def observed_pixel(env: EnvConfig) -> float:
    """Return the side of a pixel of the observation, m."""
    part, side = env.observed
    return env.image_nm * NM / env.pixels * (part / side)


def ground_pixels(env: EnvConfig) -> int:
    """Return the side of whole images in pixels of the observation, as clean squares are found."""
    part, side = env.observed
    return round(env.pixels * side / part)


def fitting_part(size: float, pixels: int, taken: TakenImages) -> int | None:
    """Choose the middle part of an image that becomes one of those that a network takes.

    All of it, if that may be averaged to them; of a larger area as much as the network was trained
    for. One part and not the mean over several: only of the answer to one image the classifier's
    threshold, calibration and rates are known.

    Args:
        size: Side of the image, m.
        pixels: The same in pixels.
        taken: By the network.

    Returns:
        Side of the part, pixels; None if nothing fits.
    """
    if pixels < taken.side:
        return None
    parts = [pixels]
    if taken.pixel is not None:
        trained = round(taken.side * taken.pixel[1] / size * pixels)
        parts.append(min(max(trained, taken.side), pixels))
    low, high = taken.trusted
    return next((part for part in parts if low <= size / pixels * part / taken.side <= high), None)


def fitting_sizes(env: EnvConfig, taken: TakenImages) -> str:
    """Say which sizes of images near those of the settings would fit a network."""
    if env.observation_nm is not None:
        return "what would fit: the part that the classifier asks for (env.observation_nm = null)"
    low, high = taken.trusted
    size, largest = env.image_nm * NM, math.inf if taken.pixel is None else taken.pixel[1]
    found = []
    least = max(taken.side, math.ceil(size / largest - _ROUNDING))
    if size >= low * taken.side and least <= MOST_PIXELS:
        found.append(f"env.pixels of {least} or more with env.image_nm = {env.image_nm:g}")
    if env.pixels >= taken.side:
        bounds = _nm(low * taken.side, math.ceil), _nm(high * env.pixels, math.floor)
        found.append(f"env.image_nm of {bounds[0]} to {bounds[1]} with env.pixels = {env.pixels}")
    if not found:
        usual = _nm(largest * taken.side, round)
        found.append(f"env.pixels of {taken.side} or more with env.image_nm = {usual}")
    return f"what would fit: {', or '.join(found)}"


def observation_settings(env: EnvConfig) -> str:
    """Write the settings that decide the size of the observations."""
    text = f"env.pixels = {env.pixels}"
    for name in ("observation_pixels", "observation_nm"):
        if getattr(env, name) is not None:
            text += f", env.{name} = {getattr(env, name):g}"
    return text


def averaging_hint(env: EnvConfig, side: int) -> str:
    """Say how a network of fewer pixels could take the images; "" if a classifier decides that."""
    if not env.ground_truth or side >= env.observed[1]:
        return ""
    return f", or average images to as many (env.observation_pixels = {side})"


def reduction_text(env: EnvConfig) -> str:
    """Say what the networks get of images; "" if nothing is."""
    part, side = env.observed
    area = f"the middle {env.observation_nm:.4g} nm" if part < env.pixels else ""
    pixels = f"averages over {side} x {side} px" if side < part else ""
    return ", ".join(filter(None, [area, pixels]))


def _nm(metres: float, rounded: Callable[[float], int]) -> str:
    return f"{rounded(metres / NM * 100) / 100:g}"
