"""Files of moving pictures: GIF, WebP, animated PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from spm_gym.atomic_file import written_whole
from spm_gym.colours import ACTION, BAD, CLEAN, GOOD, INK, NEUTRAL

MOVING = (".gif", ".webp", ".png")
FRAME_MS = 1400
LAST_MS = 4000
_GREYS = 48
_KEPT = (GOOD, BAD, NEUTRAL, INK, ACTION, CLEAN)
"""Colours of lines, bars and dots; in between there is only grey, and their light shades."""


def save_animation(frames: Sequence[NDArray[np.uint8]], path: Path) -> None:
    """Write an endless animation that rests at its last frame; whole or not at all.

    Args:
        frames: (height, width, 3) RGB each, in grey and in the colours of `canvas`.
        path: Its ending, one of `MOVING`, chooses the format.
    """
    images = [Image.fromarray(frame) for frame in frames]
    if path.suffix.lower() != ".webp":
        images = _in_few_colours(images)
    durations = [FRAME_MS] * (len(images) - 1) + [LAST_MS]
    with written_whole(path) as beside:
        images[0].save(
            beside, save_all=True, append_images=images[1:], duration=durations, loop=0,
            **_OPTIONS.get(path.suffix.lower(), {}),
        )  # fmt: skip


_OPTIONS: dict[str, dict[str, Any]] = {
    ".webp": {"quality": 80, "method": 4},
    ".gif": {"optimize": True},
    ".png": {"optimize": True},
}


def _in_few_colours(images: list[Image.Image]) -> list[Image.Image]:
    """Quantise all images with the same palette, so that what rests does not flicker."""
    kept = np.array([ImageColor.getrgb(colour) for colour in _KEPT])
    # White has no near neighbour: Pillow compares six bits only, and would take that instead.
    greys = np.r_[np.linspace(0, 240, _GREYS), 255][:, None].repeat(3, axis=1)
    palette = Image.new("P", (1, 1))
    palette.putpalette(
        np.concatenate([greys, kept, (kept + 255) / 2]).round().astype(np.uint8).tobytes()
    )
    return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
