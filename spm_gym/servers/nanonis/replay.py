"""Answers from a log of commands, as the controller of the log has given them."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Literal

from spm_gym.instrument.nanonis.exchange import Exchange, layout
from spm_gym.instrument.nanonis.wire import (
    HEADER_SIZE,
    ErrorReply,
    WireError,
    decode_reply,
    decode_request,
    encode_error,
    encode_message,
    encode_reply,
)
from spm_gym.servers.nanonis.bench import ClientGone

How = Literal["exactly", "again", "by name", "not at all"]

_HOW: tuple[How, ...] = ("exactly", "again", "by name", "not at all")

Request = tuple[str, bytes]

_POLLED = ("Scan.WaitEndOfScan", "Scan.WaitEndOfLine")
"""Commands besides the Gets that programs send until the answer changes, however often that is."""


class Replay:
    """Answers every request with what the log has for it.

    That is the next answer to the same request that was not given yet; a Get whose answers are used
    up gets the last one again. Otherwise it is the next answer to the same command with other
    arguments, and if there is none, an error that says so. Where the controller has not answered,
    the connection is closed.

    A text that a program sets in its own words, such as the comment of scans with the name of its
    run, it gets back in its own words.

    Attributes:
        release: Of the controller of the log.

    Args:
        exchanges: Of the log, in the order in which they happened.
        notify: Takes a line for every request that the log does not answer.
    """

    def __init__(self, exchanges: Sequence[Exchange], notify: Callable[[str], None]) -> None:
        self.release = exchanges[-1].release
        self._notify = notify
        self._lock = threading.Lock()
        self._exchanges = exchanges
        self._used = [False] * len(exchanges)
        self._same: dict[Request, deque[int]] = defaultdict(deque)
        self._named: dict[str, deque[int]] = defaultdict(deque)
        self._final: dict[Request, int] = {}
        self._last: dict[str, int] = {}
        for number, exchange in enumerate(exchanges):
            request = exchange.command, exchange.request
            self._same[request].append(number)
            self._named[exchange.command].append(number)
            if exchange.answer is not None:
                self._final[request] = number
        # A run recognises its own mark in the comment of scans, and refuses any other.
        self._own_words: dict[str, str] = {}
        self._counts: dict[How, Counter[str]] = {how: Counter() for how in _HOW}

    def reply(self, name: str, body: bytes, is_gone: Callable[[], bool]) -> bytes:
        """Return the reply of the log to a request.

        Raises:
            ClientGone: The controller has not answered: the connection is to be closed.
        """
        with self._lock:
            how, number = self._find(name, body)
            self._counts[how][name] += 1
            if number is None:
                self._notify(f"not in the log: {name}")
                return encode_error(name, f"{name} is not in the log, or not so often")
            exchange = self._exchanges[number]
            if how == "by name":
                self._learn_words(exchange, body)
            if exchange.answer is None:
                raise ClientGone(f"the controller has not answered {name}: {exchange.trouble}")
            return encode_message(name, self._in_own_words(exchange, exchange.answer))

    def report(self) -> str:
        """Say how many requests the log has answered, and how."""
        parts = []
        for how, counts in self._counts.items():
            which = "" if how in ("exactly", "again") or not counts else f" ({_listed(counts)})"
            parts.append(f"{counts.total()} {how}{which}")
        asked, recorded = sum(self._used), len(self._exchanges)
        return f"answered {', '.join(parts)}; of {recorded} commands in the log {asked} were given"

    def _find(self, name: str, body: bytes) -> tuple[How, int | None]:
        same = self._unused(self._same.get((name, body)))
        if same is not None:
            return "exactly", self._use(name, same)
        final = self._final.get((name, body))
        # Rather an old value of this signal than the next one of another.
        if name.endswith("Get") and final is not None:
            return "again", final
        named = self._unused(self._named.get(name), self._last.get(name, -1))
        if named is not None:
            return "by name", self._use(name, named)
        # An error would end what only has to wait a little longer.
        if name in _POLLED and name in self._last:
            return "again", self._last[name]
        return "not at all", None

    def _unused(self, numbers: deque[int] | None, after: int = -1) -> int | None:
        """Find the first exchange that was not given yet, and drop those before it."""
        while numbers:
            if not self._used[numbers[0]] and numbers[0] > after:
                return numbers[0]
            numbers.popleft()
        return None

    def _use(self, name: str, number: int) -> int:
        self._used[number] = True
        self._last[name] = number
        return number

    def _learn_words(self, exchange: Exchange, body: bytes) -> None:
        """Note in which words this program sets texts that the log has in others."""
        command = layout(exchange.command, exchange.release)
        try:
            recorded, given = (decode_request(command, each) for each in (exchange.request, body))
        except WireError:
            return
        for name, text in recorded.items():
            if isinstance(text, str) and text:
                self._own_words[text] = given[name]

    def _in_own_words(self, exchange: Exchange, answer: bytes) -> bytes:
        command = layout(exchange.command, exchange.release)
        try:
            values = decode_reply(command, answer)
        except (ErrorReply, WireError):
            return answer
        words = {
            name: self._own_words[text]
            for name, text in values.items()
            if isinstance(text, str) and text in self._own_words
        }
        return encode_reply(command, values | words)[HEADER_SIZE:] if words else answer


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
