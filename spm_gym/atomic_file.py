"""Files that are whole or not there."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_UNFINISHED = re.compile(r"\..*\.unfinished-(\d{1,9})-\d+(\.[^.]*)?", re.DOTALL)


@contextmanager
def written_whole(path: Path, synchronise: bool = True) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; what is there at the end replaces ``path``.

    A reader, or a restart after a power cut, sees the old file or the new one, never half of one.
    Without synchronising that goes for kills, not for power cuts. What a kill leaves is hidden, and
    `remove_leftovers` knows it.
    """
    path = Path(path)
    writer = f"{os.getpid()}-{threading.get_native_id()}"
    beside = path.with_name(f".{path.stem}.unfinished-{writer}{path.suffix}")
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


def remove_leftovers(folder: Path) -> None:
    """Delete what programs that were killed have left unfinished in a folder.

    Nothing that a program at work on this computer may still be writing. Windows has no harmless
    way of asking whether a program is at work: there it stays.
    """
    if sys.platform == "win32":
        return
    for file in folder.iterdir():
        found = _UNFINISHED.fullmatch(file.name)
        if found and not _is_at_work(int(found[1])):
            with suppress(OSError):  # somebody else has, or nothing can be deleted here
                file.unlink()


def _is_at_work(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _synchronise_folder(folder: Path) -> None:
    """Make sure that a new name is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
