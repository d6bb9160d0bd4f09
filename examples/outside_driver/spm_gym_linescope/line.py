"""One connection to a linescope."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Protocol

from spm_gym.errors import BadReply, ConnectionLost, InstrumentError, OutcomeUnknown, TimedOut
from spm_gym_linescope.protocol import LONGEST_LINE, read_reply


class Line(Protocol):
    """Carries requests to a linescope, or to something that only pretends to be one."""

    def connect(self) -> None:
        """Connect, unless connected."""
        ...

    def ask(self, request: str, takes: float = 0.0, act: bool = False) -> list[str]:
        """Send a request once, and wait for its reply; see `TcpLine.ask`."""
        ...

    def close(self) -> None:
        """End the connection; legal twice."""
        ...


class TcpLine:
    """A connection over TCP; nothing connects again by itself, nothing is sent twice.

    Args:
        host: Of the linescope.
        port: Of the linescope.
        timeout: Longest time for a reply, s, beyond what the request itself takes.
    """

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self._address = (host, port)
        self._timeout = timeout
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        """Connect, unless connected.

        Raises:
            ConnectionLost: Nobody listens, or not in time.
        """
        if self._socket is not None:
            return
        try:
            self._socket = socket.create_connection(self._address, self._timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            host, port = self._address
            raise ConnectionLost(
                f"cannot reach {host}:{port}: {error}; are real.linescope.host and "
                "real.linescope.port right?"
            ) from error

    def ask(self, request: str, takes: float = 0.0, act: bool = False) -> list[str]:
        """Send a request once, and wait for its reply.

        Args:
            request: One line.
            takes: How long the linescope itself may be busy with it, s.
            act: Whether it does something that must not be done twice.

        Returns:
            The words of the reply.

        Raises:
            ConnectionLost: There is no connection, or it broke; it is closed.
            TimedOut: No reply came in time; the connection is closed.
            BadReply: What came is none; the connection is closed.
            OutcomeUnknown: One of the last three, after an act had been sent.
            InstrumentError: The linescope says that it did not do it; the connection stays.
        """
        connected = self._socket
        if connected is None:
            raise ConnectionLost(f"{request}: there is no connection; nothing was sent")
        # A reply that is late or spoilt closes the connection: nobody could say to which request
        # the next line belongs.
        try:
            connected.settimeout(self._timeout)
            connected.sendall(request.encode("ascii") + b"\n")
            text = _read_line(connected, time.monotonic() + self._timeout + takes)
            if text.split(" ")[0] not in ("ok", "error"):
                raise BadReply(f"{request}: {text[:60]!r} is no reply")
        except TimeoutError as error:
            raise self._lost(TimedOut(f"{request}: no reply in time"), act) from error
        except (OSError, UnicodeDecodeError) as error:
            raise self._lost(ConnectionLost(f"{request}: {error}"), act) from error
        except InstrumentError as error:
            raise self._lost(error, act) from error
        except BaseException:  # interrupted: the reply would answer the next request
            self.close()
            raise
        return read_reply(text, request)

    def close(self) -> None:
        """End the connection; legal twice."""
        connected, self._socket = self._socket, None
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
            connected.close()

    def _lost(self, error: InstrumentError, act: bool) -> InstrumentError:
        self.close()
        if act:
            return OutcomeUnknown(f"{error}; whether it was done is not known")
        return error


def _read_line(connected: socket.socket, deadline: float) -> str:
    received = b""
    while not received.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if len(received) > LONGEST_LINE:
            raise BadReply(f"a reply of more than {LONGEST_LINE} bytes")
        connected.settimeout(left)
        more = connected.recv(LONGEST_LINE)
        if not more:
            raise ConnectionError("closed by the linescope")
        received += more
    return received[:-1].decode("ascii")
