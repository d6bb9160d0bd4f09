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
PROGRAM_LOCK = "program_lock"
"""Held by a program that a run has handed the tip to, also after the run was killed."""


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


@contextmanager
def lock_of_program(run: Path) -> Iterator[BinaryIO]:
    """Open and lock the file by which a program that is handed the tip keeps the run locked.

    A process that inherits the file holds the lock as long as it lives. It may be written who that
    is. Windows lets nobody inherit a lock: there it goes with the run.

    Raises:
        RunLocked: An earlier program has left a process behind that still holds it.
    """
    with (run / PROGRAM_LOCK).open("ab", buffering=0) as file:
        if sys.platform != "win32":
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunLocked(
                    "an earlier program that had the tip has left a process behind, which may "
                    "still be using it"
                ) from None
        # Only now, for it names who holds the lock.
        file.truncate(0)
        yield file


def is_run_locked(run: Path) -> bool:
    """Check whether a program of this computer is at work on a run; changes nothing there."""
    return _is_file_locked(run / LOCK) or _is_file_locked(run / PROGRAM_LOCK)


def _is_file_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
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
    # The program outlives the run that has started it, if that is killed.
    holder = PROGRAM_LOCK if _is_file_locked(run / PROGRAM_LOCK) else LOCK
    try:
        number = (run / holder).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        number = ""
    who = f" (process {number})" if number.isascii() and number.isdigit() else ""
    return RunLocked(
        f"another program{who} is at work on {run}: wait for its end, or stop it first"
    )
