"""The log of every command: written by a thread of its own, which nobody waits for.

Connections hand what they have sent and got to a logger; who wants a file attaches one. The thread
that drives the instrument only puts an object into a queue. A log that cannot be written ends, and
this is printed once: a run is worth more than its log, and a log with gaps would mislead.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from io import TextIOWrapper
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from queue import SimpleQueue

from filelock import FileLock, Timeout

from spm_gym.errors import UsageError, one_line
from spm_gym.instrument.nanonis.exchange import (
    FORMAT,
    By,
    ConnectionEvent,
    Event,
    Exchange,
    LogHeader,
    to_line,
)

CLIENT = logging.getLogger("spm_gym.commands.client")
SERVER = logging.getLogger("spm_gym.commands.server")
for _logger in (CLIENT, SERVER):
    # Not for the handlers of other loggers, which would print whole images.
    _logger.propagate = False

PART_BYTES = 50 * 10**6
PARTS = 20
_BEGINNING = f'{{"format": "{FORMAT}"'.encode()
_LONGEST_HEADER = 10_000
_COLLECT_S = 0.1
_MOST_WAITING = 10_000
_LONGEST_FLUSH_S = 10.0


@dataclass(slots=True)
class Noted:
    """The answer to a request; filled in while it is carried out."""

    answer: bytes | None = None
    trouble: str = ""


@contextmanager
def noting(
    logger: logging.Logger, connection: int, command: str, release: int, request: bytes,
    silent: bool = False,
) -> Iterator[Noted]:  # fmt: skip
    """Log the exchange that the block carries out, whether it succeeds or not."""
    noted = Noted()
    if not logger.isEnabledFor(logging.DEBUG):
        yield noted
        return
    # The time of day says when, for people; it may be set meanwhile, so it does not say how long.
    sent, started = datetime.now(UTC), time.perf_counter()
    try:
        yield noted
    except BaseException as error:
        noted.trouble = noted.trouble or one_line(error) or type(error).__name__
        raise
    finally:
        seconds = round(time.perf_counter() - started, 6)
        logger.debug(
            Exchange(
                sent, connection, command, seconds, release, request, noted.answer, noted.trouble,
                silent,
            )
        )  # fmt: skip


def note_connection(
    logger: logging.Logger, connection: int, event: Event,
    endpoint: str, because: str = "",
) -> None:  # fmt: skip
    """Log the beginning or the end of a connection."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(ConnectionEvent(datetime.now(UTC), connection, event, endpoint, because))


@contextmanager
def commands_logged(
    logger: logging.Logger, path: Path, by: By, endpoint: str, notify: Callable[[str], None]
) -> Iterator[None]:
    """Write every command of the block into a file, which goes on if it is there.

    The file is rotated at `PART_BYTES`; `PARTS` of them are kept, ``path``, ``path.1`` and so on.

    Args:
        logger: `CLIENT` or `SERVER`.
        path: The file.
        by: Who writes.
        endpoint: Address and ports of the controller.
        notify: Takes the sentence that the log has ended early, on whichever thread.

    Raises:
        UsageError: The file is no such log, has no folder, or another program writes it.
    """
    _refuse_foreign(path, by)
    file = _LogFile(path, lambda: to_line(_header(by, endpoint)), notify)
    handler = _Handing(file)
    listener = _Collecting(handler.queue, file)
    with _locked(path, file):
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        listener.start()
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
            _finish(listener, file)


def _finish(listener: QueueListener, file: _LogFile) -> None:
    """Have the rest written, but not wait for ever."""
    # In a thread, for the disk may never answer, and the command shall end all the same.
    stopping = threading.Thread(target=listener.stop, daemon=True)
    stopping.start()
    stopping.join(_LONGEST_FLUSH_S)
    if stopping.is_alive():
        file.end(f"the disk has not taken it within {_LONGEST_FLUSH_S:g} s")
        file.let_go()
    else:
        with suppress(OSError):  # what a full disk has not taken, it does not take now
            file.close()


class _LogFile(RotatingFileHandler):
    """The files of a log; the first failure ends it.

    Args:
        path: The newest file.
        header: Makes the first line of each.
        notify: Takes the sentence that it has ended.
    """

    def __init__(
        self, path: Path, header: Callable[[], str], notify: Callable[[str], None]
    ) -> None:
        # Opened by the thread that writes: the disk may be slow, or not there.
        super().__init__(
            path, maxBytes=PART_BYTES, backupCount=PARTS - 1, encoding="ascii", delay=True
        )
        self.ended = False
        self._header = header
        self._notify = notify

    def emit(self, record: logging.LogRecord) -> None:
        """Write an entry as a line."""
        if self.ended:
            return
        try:
            # Here, since the handler formats twice: once for the size, once for the file.
            record.msg = to_line(record.msg)  # type: ignore[arg-type]
        except Exception:
            self.handleError(record)
        else:
            super().emit(record)

    def _open(self) -> TextIOWrapper:
        # Otherwise the header would become the end of the torn line, and both be lost.
        torn = _is_torn(Path(self.baseFilename))
        stream = super()._open()
        stream.write("\n" * torn + self._header() + "\n")
        return stream

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """End the log: called by the handler where it catches an error."""
        self.end(one_line(sys.exception() or OSError("unknown error")))

    def end(self, why: str) -> None:
        """Write nothing more, and notify once."""
        if not self.ended:
            self.ended = True
            self._notify(
                f"the log of commands {self.baseFilename} ends here: {why}; everything else goes on"
            )

    def let_go(self) -> None:
        """Leave the file to the thread that waits for the disk.

        At the end of a program `logging` closes every handler, and would wait with it.
        """
        # A lock that is free: the other one is held by the thread that waits.
        self.createLock()
        self.stream = None


class _Handing(QueueHandler):
    """Hands entries over as they are, for to make text of them takes time."""

    # Its put is safe where a signal interrupts another one.
    queue: SimpleQueue[logging.LogRecord]

    def __init__(self, file: _LogFile) -> None:
        super().__init__(SimpleQueue())
        self._file = file

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave the record as it is."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Hand a record over, unless the log has ended or is too far behind."""
        if self._file.ended:
            return
        if self.queue.qsize() >= _MOST_WAITING:
            self._file.end("the disk is too slow")
        else:
            self.queue.put(record)


class _Collecting(QueueListener):
    """Writes what has come within a tenth of a second together."""

    queue: SimpleQueue[logging.LogRecord]

    def dequeue(self, block: bool) -> logging.LogRecord:
        """Wait for a record."""
        # A thread that woke at every command would take the interpreter from the one that drives
        # the instrument, just when that one has its reply.
        if self.queue.empty():
            time.sleep(_COLLECT_S)
        return super().dequeue(block)


def _header(by: By, endpoint: str) -> LogHeader:
    try:
        version = metadata.version("spm-gym")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return LogHeader(datetime.now(UTC), by, version, endpoint)


def _is_torn(path: Path) -> bool:
    """Whether a kill has left the last line without its end."""
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


@contextmanager
def _locked(path: Path, file: _LogFile) -> Iterator[None]:
    """Keep other programs from the file: their lines would come into the middle of ours."""
    # The system lets go of it however a program ends; a file that is none needs no lock.
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    if not path.exists() or path.is_file():
        try:
            lock.acquire(blocking=False)
        except Timeout:
            # Also where no file can be made, as in a folder of the system.
            if Path(lock.lock_file).exists():
                raise UsageError(
                    f"--log-commands {path}: another program writes it; name another file"
                ) from None
        except OSError:
            pass  # where no lock can be written, no log can: that is said when it is tried
    try:
        yield
    finally:
        # A disk that did not take the log is not asked for anything more.
        if lock.is_locked and not file.ended:
            with suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def _refuse_foreign(path: Path, by: By) -> None:
    """See that no file of another kind is written into, or replaced when the log is rotated."""
    if not path.parent.is_dir():
        raise UsageError(f"--log-commands {path}: there is no folder {path.parent} for it")
    if path.is_dir():
        raise UsageError(f"--log-commands {path} is a folder: name the file in it")
    # Rotation renames and removes by number, whatever a file holds.
    parts = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, PARTS))]
    for part in parts:
        if part.is_file() and not _begins_as_log(part, by):
            raise UsageError(
                f"--log-commands {path}: {part} is there, and no log of commands by the {by}: name "
                "another file"
            )


def _begins_as_log(path: Path, by: By) -> bool:
    try:
        with path.open("rb") as file:
            line = file.readline(_LONGEST_HEADER)
    except OSError:
        return True  # that it cannot be read is said when it is to be written
    torn = not line.endswith(b"\n")
    return _BEGINNING.startswith(line[: len(_BEGINNING)]) and (
        torn or f'"by": "{by}"'.encode() in line
    )
