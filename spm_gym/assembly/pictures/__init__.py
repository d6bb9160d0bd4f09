"""Pictures for ``spm-gym show``: what a path holds is loaded, drawn and saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

STILL = (".png", ".pdf", ".svg")
MOVING = (".gif", ".webp", ".png")
LAST = "last"
"""Stands for the number of the last episode."""


class Picture(NamedTuple):
    """A picture that can be made.

    Attributes:
        name: Of its file, without the ending.
        write: Makes the file.
        formats: Endings it may have; the first is the usual one.
    """

    name: str
    write: Callable[[Path], None]
    formats: tuple[str, ...] = STILL
