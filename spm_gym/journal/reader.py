"""Reading what a run has written, also while it runs."""

from __future__ import annotations

import contextlib
import math
import re
import sqlite3
from collections.abc import Iterator
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

from spm_gym.config.json_file import parse_json
from spm_gym.envs.regions import Mark
from spm_gym.imaging.files import FileFormatError, read_gsf_scan
from spm_gym.journal.run_lock import is_run_locked
from spm_gym.plain_state import StateError, restored
from spm_gym.types import Frame, RecordedImage, Scan

JOURNAL = "journal.sqlite"
SCANS = "scans"
CHANNELS = "channels"
VERSION = 2
_SCAN_FILE = re.compile(rf"{SCANS}/[0-9]{{6,12}}\.gsf")
GIVEN_UP = "failure"
"""Kind of the event that says why a run gives up."""

SAFE_END, UNSAFE_END = "end", "unsafe end"
"""Kinds of the last event of a session; after the second one, the instrument needs a person."""


class JournalError(ValueError):
    """There is no journal, or it is not one."""


class Label(StrEnum):
    """Kinds of scans."""

    GOOD = "good"
    BAD_PROBE = "bad probe"
    BAD_SAMPLE = "bad sample"
    UNKNOWN = "unknown"
    UNCLASSIFIED = "unclassified"
    DISCARDED = "discarded"
    CONDITIONING = "conditioning"
    PREVIEW = "preview"
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
    # Before SQLite opens the file: it would play the log into it at once.
    _refuse_foreign_log(path)
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
    # What SQLite's own recovery has written bears no number, and is a journal all the same.
    if version != VERSION and not (version == 0 and (writing or not lacking(db))):
        db.close()
        raise JournalError(f"{path} has journal format {version}, this program reads {VERSION}")
    db.row_factory = sqlite3.Row
    return db


def schema() -> str:
    """Read the SQL that makes an empty journal."""
    return (resources.files("spm_gym.journal") / "schema.sql").read_text(encoding="utf-8")


def lacking(db: sqlite3.Connection) -> list[str]:
    """List columns of a journal that a database lacks, such as "scans.id"."""
    with contextlib.closing(sqlite3.connect(":memory:")) as whole:
        whole.executescript(schema())
        missing = columns(whole) - columns(db)
    return sorted(f"{table}.{column}" for table, column, *_ in missing)


def columns(db: sqlite3.Connection) -> set[tuple[str, str, str, int, int]]:
    """List all columns: table, name, type, whether it must hold something, place in the key."""
    found = db.execute(
        'SELECT m.name, c.name, c.type, c."notnull", c.pk FROM sqlite_master AS m'
        " JOIN pragma_table_info(m.name) AS c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
    )
    return {tuple(row) for row in found}


def _refuse_foreign_log(path: Path) -> None:
    """Refuse a journal beside the write-ahead log of another file, which would be written into it.

    So it is when a recovered journal was put in the place of the damaged one. Our journals say in
    bytes 18 and 19 that they have such a log.
    """
    log = path.with_name(f"{path.name}-wal")
    try:
        with path.open("rb") as file:
            versions = file.read(20)[18:]
        foreign = versions == b"\x01\x01" and log.stat().st_size > 0
    except OSError:
        return
    if foreign:
        raise JournalError(
            f"{log} is not of {path}, but of the file that was there before: move it away, with "
            f"{path.name}-shm, so that it is not written into the journal"
        )


def _is_left_whole(path: Path) -> bool:
    """Check that nobody writes a journal, and that nothing of it stands elsewhere."""
    return not path.with_name(f"{path.name}-wal").exists() and not is_run_locked(path.parent)


@contextlib.contextmanager
def reading(run: Path) -> Iterator[sqlite3.Connection]:
    """Open the journal of a run directory to be read; all that is read is of one moment.

    Raises:
        JournalError: As for `open_journal`.
    """
    db = open_journal(run / JOURNAL)
    try:
        # In one transaction of a journal with a write-ahead log all queries read the same moment,
        # whatever the run commits meanwhile.
        db.execute("BEGIN")
        yield db
    finally:
        db.close()


@contextlib.contextmanager
def snapshot(run: Path) -> Iterator[sqlite3.Connection]:
    """Do as `reading`, from a copy in memory: long reading must not hold back the run's log.

    Raises:
        JournalError: As for `open_journal`.
    """
    # While a reader keeps its moment, SQLite cannot fold the log of a run into its journal.
    with contextlib.closing(sqlite3.connect(":memory:")) as copy:
        with reading(run) as db:
            db.backup(copy)
        copy.row_factory = sqlite3.Row
        yield copy


def read_state(db: sqlite3.Connection) -> Any:
    """Read the state that the runner has left, as plain values; None if there is none.

    Raises:
        JournalError: It is damaged.
    """
    row = db.execute("SELECT runner FROM state").fetchone()
    try:
        return None if row is None else parse_json(row[0])
    except (TypeError, ValueError) as error:
        raise JournalError(f"the state of the runner in the journal is damaged: {error}") from error


def read_marks(db: sqlite3.Connection, area: int) -> list[Mark]:
    """Read the blocked places of an area, in the order in which they were blocked.

    Raises:
        JournalError: One is none.
    """
    columns = "x, y, radius, reason"
    rows = db.execute(f"SELECT {columns} FROM marks WHERE area = ? ORDER BY id", (area,))
    try:
        return restored(list[Mark], [dict(row) for row in rows])
    except StateError as error:
        raise JournalError(f"the journal is damaged: a blocked place: {error}") from None


def is_in_a_move(db: sqlite3.Connection) -> bool:
    """Tell whether a coarse move was started whose result nobody has noted."""
    query = "SELECT 1 FROM acts WHERE act = 'move area' AND result IS NULL"
    return db.execute(query).fetchone() is not None


def has_started(run: Path) -> bool:
    """Check whether anything has happened in a run, or may have where it cannot be read."""
    if not (run / JOURNAL).exists():
        return False
    try:
        with reading(run) as db:
            return any(
                db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()
                # A session alone is no start: it is noted before anything is done.
                for table in ("state", "acts")
            )
    except (JournalError, sqlite3.Error):
        return True


def last_command(run: Path) -> str:
    """Read which command was started last in a run directory; "" if nobody knows."""
    # A journal that is damaged, or not there yet, is reported by those who need what is in it.
    with contextlib.suppress(JournalError, sqlite3.Error), reading(run) as db:
        row = db.execute("SELECT command FROM sessions ORDER BY id DESC LIMIT 1").fetchone()
        return "" if row is None else str(row["command"])
    return ""


def scan_file(number: int) -> str:
    """Return the path of a scan, relative to the run directory."""
    return f"{SCANS}/{number:06d}.gsf"


def channel_file(number: int, channel: RecordedImage) -> str:
    """Return the path of another image of a scan, relative to the run directory."""
    # Names of signals are the operator's, and may hold anything.
    name = re.sub(r"[^a-z0-9]+", "_", channel.name.lower()).strip("_") or "signal"
    return f"{CHANNELS}/{number:06d}_{name}_{'backward' if channel.backward else 'forward'}.gsf"


def scan_path(run: Path, file: str) -> Path:
    """Return the path of the file that a row of the table ``scans`` names.

    Raises:
        FileFormatError: No run writes there: the journal would have other files read.
    """
    if not (isinstance(file, str) and _SCAN_FILE.fullmatch(file)):
        raise FileFormatError(f"{run / JOURNAL} names {str(file)[:200]!r} as the file of a scan, "
                              f"not one like {scan_file(1)}")  # fmt: skip
    return run / file


def read_frame(row: sqlite3.Row) -> Frame:
    """Read the frame of a row of the table ``scans``."""
    return Frame(row["x"], row["y"], row["size"], row["pixels"], row["angle"], row["lines"])


def read_scan(run: Path, row: sqlite3.Row) -> Scan:
    """Read the scan of a row of the table ``scans``, to the last bit.

    Raises:
        FileFormatError: Its file is gone, damaged or elsewhere.
    """
    # SQLite has no NaN: what is unknown is NULL there.
    z_range = None if row["z_low"] is None else (row["z_low"], row["z_high"])
    path = scan_path(run, row["file"])
    return Scan(
        frame=read_frame(row),
        z=read_gsf_scan(path),
        z_range=z_range,
        # SQLite has no NaN: it keeps NULL for it.
        bias=math.nan if row["bias"] is None else row["bias"],
        setpoint=math.nan if row["setpoint"] is None else row["setpoint"],
        started=row["time"],
        path=path,
    )
