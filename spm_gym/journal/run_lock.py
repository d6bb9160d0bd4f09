"""One program at a time works on a run directory, whichever command it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

if sys.platform != "win32":
    import fcntl

LOCK = "lock"


class RunLocked(ValueError):
    """Another program is at work on a run directory; the message says which."""


@contextmanager
def locked_run(run: Path) -> Iterator[None]:
    """Keep every other program from working on a run directory; it is made if need be.

    The system lets go of the lock when the process ends, however it ends.

    Raises:
        RunLocked: Another program works on it.
    """
    run.mkdir(parents=True, exist_ok=True)
    path = run / LOCK
    if is_run_locked(run):  # asked first, as older versions of filelock empty the file in trying
        raise _in_use(run)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)  # somebody may just be checking whether it is held
    except Timeout:
        raise _in_use(run) from None
    try:
        with suppress(OSError):  # Windows lets nobody write into a locked file
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
        yield
    finally:
        # The file stays: if it were deleted, a program that waits for it and one that makes a new
        # one would both hold a lock.
        lock.release()


def is_run_locked(run: Path) -> bool:
    """Check whether a program of this computer is at work on a run; changes nothing there."""
    try:
        with (run / LOCK).open("rb") as file:
            return _is_locked(file)
    except OSError:  # nobody has ever been there, or nobody may read it
        return False


def _is_locked(file: BinaryIO) -> bool:
    if sys.platform == "win32":
        lock = FileLock(file.name)  # there is no other way to find out
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False
    try:
        # Shared, so that two programs that only ask do not take each other for one at work.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _in_use(run: Path) -> RunLocked:
    try:
        number = (run / LOCK).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        number = ""
    who = f" (process {number})" if number.isascii() and number.isdigit() else ""
    return RunLocked(
        f"another program{who} is at work on {run}: wait for its end, or stop it first"
    )
