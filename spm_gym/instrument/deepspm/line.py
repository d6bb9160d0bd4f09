"""One connection to the LabVIEW server: no reply is ever taken for that to another request."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from spm_gym.errors import (
    BadReply,
    CommandFailed,
    ConnectionLost,
    ContactLost,
    InstrumentError,
    LimitExceeded,
    OutcomeUnknown,
    TimedOut,
    TipCrashed,
    TipWithdrawn,
)
from spm_gym.instrument.deepspm.protocol import (
    SCAN_HEADER,
    Request,
    ScanRequest,
    format_request,
    is_failure,
    is_text,
    parse_scan_heights,
    parse_scan_shape,
    parse_text,
)

_T = TypeVar("_T")
_MAX_TEXT = 4096
_NAMED_ERROR = re.compile(r"error: (\w+):")
_ERRORS: dict[str, type[InstrumentError]] = {
    kind.__name__: kind
    for kind in (LimitExceeded, ContactLost, TipWithdrawn, TipCrashed, OutcomeUnknown)
}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for what, s.

    Attributes:
        connect: For a connection.
        question: For a parameter.
        scan_margin: For a scan, beyond what its lines take; moving to the frame is part of it.
        act: For tip shaping, beyond the duration of the pulse or dip.
        approach: For an approach.
        coarse: For a change of the approach area, and for the recovery from a crash.
        pause: Silence after which a reply in words, which nothing else delimits, is complete.
    """

    connect: float = 10.0
    question: float = 30.0
    scan_margin: float = 120.0
    act: float = 180.0
    approach: float = 600.0
    coarse: float = 1800.0
    pause: float = 0.2


class Line:
    """One connection: a request goes out once, its reply comes back or the connection ends."""

    def __init__(self, host: str, port: int, timeouts: Timeouts) -> None:
        self._address = (host, port)
        self._timeouts = timeouts
        self._socket: socket.socket | None = None
        self.last_reply = ""

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known without using it."""
        return self._socket is not None

    def connect(self) -> None:
        """Connect.

        Raises:
            ConnectionLost: Nobody listens, or not in time.
        """
        try:
            connected = socket.create_connection(self._address, self._timeouts.connect)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise ConnectionLost(
                f"cannot reach {self._where}: {error}; does the LabVIEW server run there?"
            ) from error
        self._socket = connected

    def close(self) -> None:
        """End the connection; legal twice."""
        connected, self._socket = self._socket, None
        if connected is not None:
            connected.close()

    def ask(
        self,
        request: Request,
        timeout: float,
        understand: Callable[[str], _T],
        act: bool = False,
    ) -> _T:
        """Send a request that is answered in words.

        Args:
            request: What to send.
            timeout: Until the reply begins, s.
            understand: Makes sense of the words; ValueError if there is none.
            act: Whether it must not be done twice.

        Raises:
            InstrumentError: The server answered that it failed; the connection stays.
            ConnectionLost: There is no connection, or it broke.
            TimedOut: No reply came in time; the connection is closed.
            BadReply: What came cannot be understood; the connection is closed.
            OutcomeUnknown: One of the last three, after an act had been sent.
            ValueError: The request cannot be written; nothing was sent.
        """

        def receive(connected: socket.socket, deadline: float) -> _T:
            return understand(self._words(connected, deadline))

        return self._exchange(request, timeout, receive, act)

    def ask_image(self, request: ScanRequest, timeout: float) -> NDArray[np.float32]:
        """Send a request that is answered by an image; raises as `ask` does."""

        def receive(connected: socket.socket, deadline: float) -> NDArray[np.float32]:
            # A failure comes in words, where an image has its size.
            header = _receive(connected, SCAN_HEADER.size, deadline)
            if is_text(header):
                words = self._words(connected, deadline, header)
                raise ValueError(f"words instead of an image: {words!r}")
            shape = parse_scan_shape(header)
            if shape != (request.pixels, request.pixels):
                raise ValueError(f"{shape[0]} x {shape[1]} pixels instead of {request.pixels}")
            return parse_scan_heights(_receive(connected, 4 * shape[0] * shape[1], deadline), shape)

        return self._exchange(request, timeout, receive, act=False)

    @property
    def _where(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"

    def _exchange(
        self,
        request: Request,
        timeout: float,
        receive: Callable[[socket.socket, float], _T],
        act: bool,
    ) -> _T:
        data = format_request(request)
        connected = self._ready()
        what = data.decode("ascii")
        try:
            connected.settimeout(timeout)
            connected.sendall(data)
            return receive(connected, time.monotonic() + timeout)
        except _Refusal as refusal:
            raise refusal.error(what) from None
        except TimeoutError as error:
            raise self._failed(TimedOut, what, f"no reply within {timeout:.3g} s", act) from error
        except OSError as error:
            raise self._failed(ConnectionLost, what, str(error), act) from error
        except ValueError as error:
            raise self._failed(BadReply, what, str(error), act) from error
        except BaseException:
            # Interrupted between request and reply: the reply would answer the next request.
            self.close()
            raise

    def _failed(
        self, kind: type[InstrumentError], what: str, why: str, act: bool
    ) -> InstrumentError:
        self.close()
        message = f"{what} to {self._where}: {why}; connection closed"
        if act:
            return OutcomeUnknown(f"{message}; whether it was done is not known")
        return kind(message)

    def _ready(self) -> socket.socket:
        """The connection, with nothing waiting in it: late bytes belong to an earlier request."""
        connected = self._socket
        if connected is None:
            raise ConnectionLost(f"no connection to {self._where}; nothing was sent")
        # Late words belong to an earlier request, whose caller has given up.
        try:
            connected.setblocking(False)
            while late := connected.recv(_MAX_TEXT):
                if late.strip():
                    self.close()
                    raise BadReply(
                        f"{self._where} sent {late[:60]!r} unasked; connection closed, nothing sent"
                    )
        except BlockingIOError:
            return connected
        except OSError as error:
            self.close()
            raise ConnectionLost(f"{self._where}: {error}; nothing was sent") from error
        self.close()
        raise ConnectionLost(f"{self._where} has closed the connection; nothing was sent")

    def _words(self, connected: socket.socket, deadline: float, first: bytes = b"") -> str:
        """Receive until the server pauses; raises what the words say, if they say a failure."""
        # Nothing delimits a reply in words; the server writes it in one piece, so silence does.
        data = first or _some(connected, deadline)
        try:
            while len(data) <= _MAX_TEXT:
                more = _some(connected, time.monotonic() + self._timeouts.pause, end_is_error=False)
                if not more:
                    break
                data += more
        except TimeoutError:
            pass
        if len(data) > _MAX_TEXT:
            raise ValueError(f"a reply of more than {_MAX_TEXT} bytes: {data[:60]!r}...")
        text = parse_text(data)
        self.last_reply = text
        if is_failure(text):
            raise _Refusal(text)
        return text


class _Refusal(Exception):
    """The server says in words that it did not do what was asked."""

    def error(self, what: str) -> InstrumentError:
        text = str(self)
        named = _NAMED_ERROR.match(text)
        # Our own server names the kind; of the original only some words are known.
        kind = _ERRORS.get(named[1]) if named else None
        if kind is None:
            lowered = text.lower()
            kind = LimitExceeded if "out of bounds" in lowered else CommandFailed
            kind = TipCrashed if "crash" in lowered else kind
        return kind(f"{what}: the server answered {text!r}")


def _receive(connected: socket.socket, size: int, deadline: float) -> bytes:
    received = bytearray()
    while len(received) < size:
        received += _some(connected, deadline, size - len(received))
    return bytes(received)


def _some(
    connected: socket.socket, deadline: float, size: int = _MAX_TEXT, end_is_error: bool = True
) -> bytes:
    """Whatever arrives next, by the deadline; nothing only at the end of the connection."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connected.settimeout(left)
    data = connected.recv(size)
    if not data and end_is_error:
        raise ConnectionError("closed by the server")
    return data
