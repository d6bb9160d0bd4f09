"""Reading what a run has written, also while it runs."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from spm_gym.imaging.files import read_gsf_scan
from spm_gym.types import Frame, Scan

if sys.platform == "win32":
    from filelock import FileLock, Timeout
else:
    import fcntl

JOURNAL = "journal.sqlite"
LOCK = "lock"
SCANS = "scans"
VERSION = 1
SAFE_END, UNSAFE_END = "end", "unsafe end"
"""Kinds of the last event of a session; after the second one, look at the instrument."""


class JournalError(ValueError):
    """There is no journal, or it is not one, or another program writes it."""


class Label(StrEnum):
    """What a scan is."""

    GOOD = "good"
    BAD_PROBE = "bad probe"
    BAD_SAMPLE = "bad sample"
    DISCARDED = "discarded"
    CONDITIONING = "conditioning"
    UNUSABLE = "unusable"


def open_journal(path: Path, writing: bool = False) -> sqlite3.Connection:
    """Connect to a journal; rows come by name.

    Args:
        path: The file.
        writing: Whether to create it if need be; otherwise it can only be read, also while a run
            writes it.

    Raises:
        JournalError: It is missing, or not a journal that this program reads.
    """
    if not writing and not path.is_file():
        raise JournalError(
            f"{path.parent} has no journal: it is not the directory of a run, or its program was "
            "killed before it had done anything"
        )
    mode = "rwc" if writing else "ro"
    if not writing and _is_left_whole(path):
        mode += "&immutable=1"  # otherwise even reading leaves files beside it, or tries to
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=30)
    except sqlite3.Error as error:
        raise JournalError(f"{path} cannot be opened: {error}") from error
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.OperationalError as error:
        db.close()
        raise JournalError(
            f"{path} cannot be read ({error}): a run was killed, and to see the last of it one "
            "must be able to write there; copy the run directory"
        ) from error
    except sqlite3.Error as error:
        db.close()
        raise JournalError(f"{path} is not a journal: {error}") from error
    if version not in (VERSION, 0) or (version == 0 and not writing):
        db.close()
        raise JournalError(f"{path} has journal format {version}, this program reads {VERSION}")
    db.row_factory = sqlite3.Row
    return db


def _is_left_whole(path: Path) -> bool:
    """Whether nobody writes a journal, and nothing of it stands elsewhere."""
    return not path.with_name(f"{path.name}-wal").exists() and not is_at_work(path.parent)


@contextlib.contextmanager
def reading(run: Path) -> Iterator[sqlite3.Connection]:
    """The journal of a run directory, to be read only; all that is read is of one moment.

    Raises:
        JournalError: As for `open_journal`.
    """
    db = open_journal(run / JOURNAL)
    try:
        db.execute("BEGIN")
        yield db
    finally:
        db.close()


@contextlib.contextmanager
def snapshot(run: Path) -> Iterator[sqlite3.Connection]:
    """As `reading`, from a copy in memory: who takes minutes must not hold back the run's log.

    Raises:
        JournalError: As for `open_journal`.
    """
    with contextlib.closing(sqlite3.connect(":memory:")) as copy:
        with reading(run) as db:
            db.backup(copy)
        copy.row_factory = sqlite3.Row
        yield copy


def is_at_work(run: Path) -> bool:
    """Whether a program of this computer is at work on a run directory; changes nothing there."""
    try:
        with (run / LOCK).open("rb") as file:
            return _is_locked(file)
    except OSError:  # nobody has ever been, or nobody may look
        return False


def _is_locked(file: BinaryIO) -> bool:
    if sys.platform == "win32":
        lock = FileLock(file.name)  # there is no other way to look
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def has_begun(run: Path) -> bool:
    """Whether anything has happened in a run, or may have."""
    try:
        with reading(run) as db:
            return any(
                db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
                for table in ("state", "acts")
            )
    except JournalError:
        return False


def scan_file(number: int) -> str:
    """Path of a scan, relative to the run directory."""
    return f"{SCANS}/{number:06d}.gsf"


def read_scan(run: Path, row: sqlite3.Row) -> Scan:
    """The scan of a row of the table ``scans``, to the last bit.

    Raises:
        FileFormatError: Its file is gone or damaged.
    """
    z_range = None if row["z_low"] is None else (row["z_low"], row["z_high"])
    path = run / row["file"]
    return Scan(
        frame=Frame(row["x"], row["y"], row["size"], row["pixels"], row["angle"]),
        z=read_gsf_scan(path),
        z_range=z_range,
        bias=math.nan if row["bias"] is None else row["bias"],
        setpoint=math.nan if row["setpoint"] is None else row["setpoint"],
        started=row["time"],
        path=path,
    )
