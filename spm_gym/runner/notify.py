"""Notifications by mail, chat or webhook, which never stop or delay a run."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from spm_gym.config import ConfigError
from spm_gym.paths import as_typed

if TYPE_CHECKING:
    from apprise.plugins import NotifyBase

_DAY_S = 86400.0
# Bounded, for a network that is down for days must not fill the memory.
_MOST_WAITING = 50
_WRITE_ADDRESSES = ("apprise", "urllib3.connectionpool")
"""Loggers whose lines hold addresses."""


class NotificationKind(StrEnum):
    """Subjects of notifications."""

    STOP = "stop"
    PAUSE = "pause"
    RECOVERY_FAILED = "recovery failed"
    AREA_CHANGE = "area change"
    DAILY_SUMMARY = "daily summary"


_LAST_WORDS = (NotificationKind.STOP, NotificationKind.RECOVERY_FAILED)


@dataclass(frozen=True, slots=True)
class _Message:
    kind: NotificationKind
    title: str
    body: str


class Notifier:
    """Sends notifications from a thread of its own; without a file, it sends nothing.

    Within ``every_s`` of one, others of its kind are only counted, and the next one says how many.
    How a run has ended is never held back and goes out before all that waits.

    Args:
        file: Addresses, a configuration of apprise.
        every_s: How often one kind may come.
        name: Of the run; begins every title.
        print_line: Takes one line about notifications that did not go out, once for every kind;
            called from another thread.
        clock: Seconds, for ``every_s``.

    Raises:
        ConfigError: The file cannot be read, has no address, or one that apprise refuses.
    """

    def __init__(
        self,
        file: Path | None,
        every_s: float,
        name: str,
        print_line: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every_s = every_s
        self._name = name
        self._print_line = print_line
        self._clock = clock
        self._addresses = [] if file is None else _read_addresses(file)
        self._waiting: list[_Message] = []
        self._news = threading.Condition()
        self._closed = False
        self._sent: dict[NotificationKind, float] = {}
        self._withheld: Counter[NotificationKind] = Counter()
        self._reported: set[tuple[NotificationKind, str]] = set()
        self._thread: threading.Thread | None = None
        if self._addresses:
            # A daemon: a mail server that never answers must not keep the program from ending.
            self._thread = threading.Thread(target=self._work, name="notifications", daemon=True)
            self._thread.start()

    @property
    def addresses(self) -> int:
        """How many addresses there are."""
        return len(self._addresses)

    def send(self, kind: NotificationKind, title: str, body: str) -> None:
        """Have a notification sent soon; never waits and never raises."""
        with self._news:
            if self._thread is None or self._held_back(kind):
                return
            message = _Message(kind, f"{self._name}: {title}", body + self._withheld_before(kind))
            full = kind not in _LAST_WORDS and len(self._waiting) >= _MOST_WAITING
            if not full:
                self._waiting.append(message)
                self._news.notify()
        if full:
            self._complain(kind, f"were dropped: {_MOST_WAITING} others wait already")

    def close(self, timeout_s: float = 10.0) -> None:
        """Give what waits so long to go out, then let go; legal twice."""
        with self._news:
            self._closed = True
            thread, self._thread = self._thread, None
            self._news.notify()
        if thread is None:
            return
        thread.join(timeout_s)
        with self._news:
            late = len(self._waiting) + thread.is_alive()
            self._waiting.clear()
        if late:
            self._report(f"{late} notifications had not gone out after {timeout_s:g} s")

    def _held_back(self, kind: NotificationKind) -> bool:
        """Check whether one of this kind comes too soon; it is counted then."""
        now = self._clock()
        last = self._sent.get(kind)
        if kind not in _LAST_WORDS and last is not None and now - last < self._every_s:
            self._withheld[kind] += 1
            return True
        self._sent[kind] = now
        return False

    def _withheld_before(self, kind: NotificationKind) -> str:
        count = self._withheld.pop(kind, 0)
        return f"\n({count} more of this kind since the last one)" if count else ""

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                message = min(self._waiting, key=lambda waiting: waiting.kind not in _LAST_WORDS)
                self._waiting.remove(message)
            self._deliver(message)

    def _deliver(self, message: _Message) -> None:
        results = [(_failure(address, message), address) for address in self._addresses]
        failures = [failure for failure, _ in results if failure]
        # What works comes first the next time: somebody must hear of a stop before time is up.
        results.sort(key=lambda result: bool(result[0]))
        self._addresses = [address for _, address in results]
        if failures:
            reasons = ", ".join(sorted(set(failures)))
            self._complain(
                message.kind,
                f"did not reach {len(failures)} of {len(results)} addresses ({reasons})",
            )

    def _complain(self, kind: NotificationKind, what: str) -> None:
        if (kind, what) in self._reported:
            return
        self._reported.add((kind, what))
        self._report(f"notifications of kind {kind.value!r} {what}; this is reported once")

    def _report(self, line: str) -> None:
        # The listener may be gone, and that must not end a thread.
        with contextlib.suppress(Exception):
            self._print_line(line)


def summary_due(elapsed_s: float, last_s: float) -> bool:
    """Check whether a daily summary is due: a day of the run has ended since the last one.

    However many days have ended, one summary makes up for all.

    Args:
        elapsed_s: Time of the run, s.
        last_s: The same at the last summary, s; 0 before the first.
    """
    return elapsed_s // _DAY_S > last_s // _DAY_S


def _failure(address: NotifyBase, message: _Message) -> str:
    """Send to one address; says why it failed, or "" if it did not."""
    # Half a character, as in some names of files, goes through no mail server.
    title, body = (
        text.encode("utf-8", "replace").decode("utf-8")
        # Titles in one line: a line break would end the header of a mail.
        for text in (" ".join(message.title.split()), message.body or message.title)
    )
    try:
        # Not through `Apprise.notify`, whose pool of threads outlives the program's last words.
        return "" if address.notify(body=body, title=title, body_format="text") else "refused"
    except Exception as error:
        # Services come from dozens of authors; the text of an error may hold the address.
        return type(error).__name__


def _read_addresses(file: Path) -> list[NotifyBase]:
    """Read the addresses of a configuration of apprise.

    Raises:
        ConfigError: The file cannot be read, has no address, or one that apprise refuses.
    """
    setting = f"setting operation.notify = '{file}'"
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"{setting}: cannot be read: {reason}") from None
    from apprise import Apprise, AppriseAsset, AppriseConfig  # slow

    asset = AppriseAsset(app_id="spm-gym", app_desc="spm-gym", async_mode=False)
    config, service = AppriseConfig(asset=asset), Apprise(asset=asset)
    with _complaints() as complaints:
        config.add_config(content)
        service.add(config)
        addresses = list(service)
    if complaints or not addresses:
        raise ConfigError(
            f"{setting}: {len(addresses)} valid addresses, {len(complaints)} complaints of apprise "
            f"(see them with: apprise --dry-run -vv --config {as_typed(file)} --body test)"
        )
    return addresses


@contextlib.contextmanager
def _complaints() -> Iterator[list[int]]:
    """Count apprise's warnings and errors; afterwards there are no more, for they hold addresses.

    Yields:
        Their levels so far.
    """
    logger = logging.getLogger("apprise")
    levels: list[int] = []

    def keep(record: logging.LogRecord) -> bool:
        # Levels in between are apprise's own, as for what is deprecated.
        if record.levelno in (logging.WARNING, logging.ERROR, logging.CRITICAL):
            levels.append(record.levelno)
        return False

    logger.disabled = False
    logger.addFilter(keep)
    try:
        yield levels
    finally:
        logger.removeFilter(keep)
        for name in _WRITE_ADDRESSES:
            logging.getLogger(name).disabled = True
