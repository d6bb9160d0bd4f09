"""One connection to one port of a controller: a command goes out, its reply comes back."""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import threading
import time
from typing import Any, Protocol

from spm_gym.errors import (
    BadReply,
    CommandFailed,
    ConnectionLost,
    InstrumentError,
    OutcomeUnknown,
    TimedOut,
)
from spm_gym.instrument.nanonis.command_log import CLIENT, note_connection, noting
from spm_gym.instrument.nanonis.commands import RELEASES, commands
from spm_gym.instrument.nanonis.wire import (
    HEADER_SIZE,
    ErrorReply,
    Values,
    WireError,
    decode_header,
    decode_reply,
    encode_request,
)

_NUMBERS = itertools.count(1)
"""Of connections, in the order in which they are made; for the log of commands."""


class Controller(Protocol):
    """Carries out commands: a connection, or something that only pretends to be one."""

    release: int

    def call(self, name: str, *, takes: float = 0.0, act: bool = False, **values: Any) -> Values:
        """Carry out a command and return its values; see `Connection.call`."""
        ...

    def connect(self) -> None:
        """Connect if there is no connection."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


class Connection:
    """A connection that never guesses where a reply ends.

    Whatever is wrong with a reply - late, cut short, of another name or size - closes the
    connection, because nobody could say to which command the next bytes belong. Nothing connects
    again by itself and nothing is ever sent twice.

    Args:
        host: Of the controller.
        port: Of its programming interface; each port serves one program at a time.
        timeout: Longest time for a reply, s, beyond what the command itself takes.
        release: Of the controller's software; decides the layout of some commands.
    """

    def __init__(
        self, host: str, port: int, timeout: float = 10.0, release: int = RELEASES[-1]
    ) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout
        self.release = release
        self._socket: socket.socket | None = None
        self._answered = False
        self._number = 0
        self._lock = threading.Lock()

    def connect(self) -> None:
        """Connect, unless connected.

        Raises:
            ConnectionLost: Nobody listens, or not in time.
        """
        if self._socket is not None:
            return
        self._number = next(_NUMBERS)
        try:
            connected = socket.create_connection((self.host, self.port), self.timeout)
            # Requests are tens of bytes: delayed until they fill a packet, each may take 40 ms.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            note_connection(CLIENT, self._number, "unreachable", self._where, str(error))
            raise ConnectionLost(
                f"cannot reach {self._where}: {error}; is the TCP programming interface switched "
                "on there, and are real.nanonis.host and real.nanonis.ports right?"
            ) from error
        self._answered = False
        self._socket = connected
        note_connection(CLIENT, self._number, "opened", self._where)

    def close(self) -> None:
        """End the connection; legal twice, and from another thread to end a wait."""
        connected, self._socket = self._socket, None
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
            connected.close()
            note_connection(CLIENT, self._number, "closed", self._where)

    def call(self, name: str, *, takes: float = 0.0, act: bool = False, **values: Any) -> Values:
        """Send a command and wait for its reply.

        Args:
            name: For example "Bias.Set".
            takes: How long the command itself may take, s.
            act: Whether it does something that must not be done twice.
            values: Its arguments.

        Returns:
            Its return values by name.

        Raises:
            CommandFailed: The controller says so; the connection stays.
            ConnectionLost: There is no connection, or it broke.
            TimedOut: No reply came in time; the connection is closed.
            BadReply: What came is no reply to this command; the connection is closed.
            OutcomeUnknown: One of the last three, after an act had been sent.
            ValueError: The arguments do not fit the command; nothing was sent.
        """
        command = commands(self.release).get(name)
        if command is None:
            raise CommandFailed(f"{name} does not exist in release {self.release}")
        request = encode_request(command, values)
        # A port serves its commands strictly one after the other (protocol document, Connections).
        with self._lock:
            connected = self._ready(name)
            try:
                body = self._exchange(connected, name, request, self.timeout + takes)
                return decode_reply(command, body)
            except ErrorReply as failure:
                # The frame was whole, so the next reply will be in its place: nothing is closed.
                raise CommandFailed(
                    f"{name}: {failure.text or 'error without a text'} (status {failure.status})"
                ) from failure
            except WireError as error:
                self.close()
                raise _unknown(act, BadReply(f"{name}: {error}; connection closed")) from error
            except InstrumentError as error:
                self.close()
                raise _unknown(act, error) from error
            except BaseException:
                # Interrupted between request and reply: the reply would answer the next command.
                self.close()
                raise

    @property
    def _where(self) -> str:
        return f"{self.host}:{self.port}"

    def _ready(self, name: str) -> socket.socket:
        """The connection, with nothing waiting in it: that would be taken for the reply to come."""
        if self._socket is None:
            raise ConnectionLost(f"{name}: there is no connection to {self._where}")
        if select.select([self._socket], [], [], 0)[0]:
            self.close()
            raise ConnectionLost(
                f"{name}: {self._where} closed the connection or sent what nobody asked for; "
                "nothing was sent, connection closed"
            )
        return self._socket

    def _exchange(
        self, connected: socket.socket, name: str, request: bytes, timeout: float
    ) -> bytes:
        with noting(CLIENT, self._number, name, self.release, request[HEADER_SIZE:]) as noted:
            noted.answer = self._transfer(connected, name, request, timeout)
        return noted.answer

    def _transfer(
        self, connected: socket.socket, name: str, request: bytes, timeout: float
    ) -> bytes:
        deadline = time.monotonic() + timeout
        try:
            connected.settimeout(timeout)
            connected.sendall(request)
            header = decode_header(_receive(connected, HEADER_SIZE, deadline))
            # A reply names its command: one that was given up may still be answered late.
            if header.name != name:
                raise BadReply(
                    f"{name}: the reply of {self._where} is for {header.name!r}; connection closed"
                )
            body = _receive(connected, header.size, deadline)
        except TimeoutError as error:
            # A controller accepts a second program on a port, and never answers it.
            busy = "" if self._answered else "; another program may be using this port"
            raise TimedOut(
                f"{name}: no reply from {self._where} within {timeout:.3g} s; connection closed"
                f"{busy}"
            ) from error
        except OSError as error:
            raise ConnectionLost(f"{name}: connection to {self._where} broke: {error}") from error
        self._answered = True
        return body


def _receive(connected: socket.socket, size: int, deadline: float) -> bytes:
    received = bytearray(size)
    # Read into place: a frame of 1024 x 1024 pixels arrives in hundreds of pieces.
    view = memoryview(received)
    while view:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connected.settimeout(left)
        count = connected.recv_into(view)
        if not count:
            raise ConnectionError("closed by the controller")
        view = view[count:]
    return bytes(received)


def _unknown(act: bool, error: InstrumentError) -> InstrumentError:
    return OutcomeUnknown(f"{error}; whether it was done is not known") if act else error
