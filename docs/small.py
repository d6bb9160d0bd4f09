"""Pictures with few colours, small enough for the repository."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

LARGEST = 400_000
"""Bytes."""


def shrink(path: Path) -> None:
    """Leave a still picture only as many colours as a page needs; see that it is small."""
    if path.suffix == ".png":
        with Image.open(path) as picture:
            few = picture.convert("RGB").quantize(
                256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE
            )
        few.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes, more than {LARGEST}")
