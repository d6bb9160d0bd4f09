"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path, synchronise: bool = True) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; what is there at the end replaces ``path``.

    A reader, or a restart after a power cut, sees the old file or the new one, never half of one.
    Without synchronising that goes for kills, not for power cuts.
    """
    path = Path(path)
    beside = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield beside
        if synchronise:
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
        beside.replace(path)
        if synchronise and hasattr(os, "O_DIRECTORY"):
            _synchronise_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _synchronise_folder(folder: Path) -> None:
    """Make sure that a new name is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
