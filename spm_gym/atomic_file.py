"""Files that appear whole or not at all."""

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
    """Give a path beside ``path`` to write to, and let that file replace ``path`` at the end.

    A reader, or a restart after a power cut, finds the old file or the new one, never half of one.
    Without synchronising this holds after a kill, but not after a power cut. A killed program
    leaves a hidden file, which `remove_leftovers` recognises.
    """
    path = Path(path)
    # With process and thread in the name, two writers of one file never share a half-written one.
    writer = f"{os.getpid()}-{threading.get_native_id()}"
    beside = path.with_name(f".{path.stem}.unfinished-{writer}{path.suffix}")
    try:
        yield beside
        if synchronise:
            # The content must be on the disk before the name is: a rename may overtake it.
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
        beside.replace(path)
        if synchronise and hasattr(os, "O_DIRECTORY"):
            _synchronise_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete the unfinished files that killed programs have left in a folder.

    Files of programs that still run on this computer stay. On Windows nothing is deleted.
    """
    if sys.platform == "win32":
        return  # os.kill(process, 0) would send the process Ctrl-C there
    for file in folder.iterdir():
        found = _UNFINISHED.fullmatch(file.name)
        if found and not _is_running(int(found[1])):
            with suppress(OSError):  # another program was faster, or the folder is read-only
                file.unlink()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it runs, for another user
        return True
    return True


def _synchronise_folder(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
