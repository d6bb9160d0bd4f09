"""Files of moving pictures: GIF, WebP, animated PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from spm_gym.picture import ACTION, CLEAN
from spm_gym.view.pictures.canvas import BAD, GOOD, INK, NEUTRAL
from spm_gym.whole_file import written_whole

MOVING = (".gif", ".webp", ".png")
FRAME_MS = 1400
LAST_MS = 4000
_COLOURS = 64
_KEPT = (GOOD, BAD, NEUTRAL, INK, ACTION, CLEAN, "#ffffff", "#000000")
"""Colours of lines and dots, too few pixels to be found as frequent ones."""

_SAME = 12
"""Difference of two colours that nobody sees."""


def save_animation(frames: Sequence[NDArray[np.uint8]], path: Path) -> None:
    """Write an endless animation that rests at its last frame; whole or not at all.

    Args:
        frames: (height, width, 3) RGB each.
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
    """All with one palette, so that what rests does not flicker and costs nothing."""
    shown = images[:: max(1, len(images) // 6)]
    sheet = Image.new("RGB", (shown[0].width, sum(image.height for image in shown)))
    for number, image in enumerate(shown):
        sheet.paste(image, (0, number * image.height))
    kept = np.array([ImageColor.getrgb(colour) for colour in _KEPT])
    found = np.array(sheet.quantize(_COLOURS - len(kept)).getpalette()).reshape(-1, 3)
    apart = np.abs(found[:, None] - kept).max(axis=2).min(axis=1) > _SAME
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([kept, found[apart]]).astype(np.uint8).tobytes())
    return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
