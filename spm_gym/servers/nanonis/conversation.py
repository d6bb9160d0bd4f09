"""Conversation with one client of the virtual controller."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Mapping

import numpy as np

from spm_gym.instrument.nanonis.commands import Command, commands
from spm_gym.instrument.nanonis.wire import (
    HEADER_SIZE,
    Header,
    WireError,
    decode_header,
    decode_request,
    encode_error,
    encode_reply,
)
from spm_gym.servers.nanonis.controller import ClientGone, Refused, VirtualController
from spm_gym.servers.nanonis.faults import Fault, FaultInjector, FaultKind

_LARGEST_REQUEST = _MOST_UNREAD = 2**20
_KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds, seconds, times: a client whose computer has crashed does not keep a port for ever."""

_LOG = logging.getLogger(__name__)

Due = Mapping[FaultKind, Fault]


class _Ended(Exception):
    """The client has left, or its requests cannot be read any more."""


class Conversation:
    """Answers one client until it leaves.

    Args:
        client: Its socket.
        controller: Carries out the commands.
        injector: Decides which faults to inject.
        closing: Set when the server is closed.
    """

    def __init__(
        self,
        client: socket.socket,
        controller: VirtualController,
        injector: FaultInjector,
        closing: threading.Event,
    ) -> None:
        self._client = client
        self._controller = controller
        self._injector = injector
        self._closing = closing
        self._commands = commands(controller.release)
        self._unread = bytearray()

    def hold(self) -> None:
        """Answer until the client leaves or sends bytes that are not a request."""
        try:
            # Replies are short; collecting them into larger packets would delay each by 40 ms.
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE.items():
                if hasattr(socket, name):  # not on every system
                    self._client.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            while True:
                header = decode_header(self._receive(HEADER_SIZE))
                if header.size > _LARGEST_REQUEST:
                    raise WireError(f"a request of {header.size} bytes")
                self._answer(header, self._receive(header.size))
        except _Ended:
            return
        except WireError as error:
            # Without a valid header, the next request cannot be found in the stream.
            _LOG.warning("connection closed: %s", error)
        except OSError as error:
            _LOG.info("connection lost: %s", error)

    def _receive(self, size: int) -> bytes:
        received = self._unread[:size]
        del self._unread[:size]
        while len(received) < size:
            part = self._client.recv(min(size - len(received), 65536))
            if not part:
                raise _Ended
            received += part
        return bytes(received)

    def _answer(self, header: Header, body: bytes) -> None:
        due = self._injector.due(header.name)
        self._inject(due, "before")
        reply = self._carry_out(header.name, body, due)
        self._inject(due, "after")
        # A client may ask for no reply at all, not even for errors.
        if header.wants_reply:
            self._send(reply, due)

    def _inject(self, due: Due, when: str) -> None:
        for kind, fault in due.items():
            if fault.when != when:
                continue
            if kind == "drop":
                raise _Ended
            if kind == "stuck_approach":
                self._controller.let_approach_hang()
            elif kind == "false_landing":
                self._controller.let_approach_miss()
            elif kind == "crash":
                self._controller.inject("crash")
            elif kind == "lost_contact":
                self._controller.inject("lost contact")

    def _carry_out(self, name: str, body: bytes, due: Due) -> bytes:
        # Errors are an error block alone, without return values: a client finds out by the size. A
        # refused command leaves the connection open.
        command = self._commands.get(name)
        if command is None:
            return encode_error(name, f"the command {name!r} does not exist")
        if "error" in due:
            return encode_error(name, due["error"].text)
        if "ignore" in due:
            return encode_reply(command, {})
        try:
            return self._executed(command, body, "nan_frame" in due)
        except ClientGone:
            raise _Ended from None
        except (Refused, WireError) as error:
            return encode_error(name, str(error))
        except Exception as error:
            _LOG.exception("%s failed", name)
            return encode_error(name, f"internal error: {error}")

    def _executed(self, command: Command, body: bytes, without_data: bool) -> bytes:
        values = decode_request(command, body)
        reply = self._controller.execute(command.name, values, self._is_gone)
        if without_data:
            reply["data"] = np.full_like(reply["data"], np.nan)
        return encode_reply(command, reply)

    def _is_gone(self) -> bool:
        """Check whether the client has left."""
        # The end of a connection is found only behind all that was sent before it, so requests that
        # arrive meanwhile are read and kept.
        self._client.setblocking(False)
        try:
            while not self._closing.is_set() and len(self._unread) < _MOST_UNREAD:
                part = self._client.recv(65536)
                if not part:
                    return True
                self._unread += part
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self._client.setblocking(True)
        return True  # the server closes, or the client floods it without reading replies

    def _send(self, reply: bytes, due: Due) -> None:
        if "garbage" in due:
            other = encode_error("Garbage.Get", "")[:32]
            reply = other + reply[32:]
        if "short" in due:
            # The size in the header fits, so that a client finds the fault only in the last field.
            body = reply[HEADER_SIZE:-1]
            reply = reply[:32] + len(body).to_bytes(4, "big") + reply[36:HEADER_SIZE] + body
        if "late" in due:
            self._closing.wait(due["late"].seconds)
        if "split" in due:
            # Cut within the header: a client must collect bytes, not packets.
            for start, end in ((0, 20), (20, HEADER_SIZE)):
                self._client.sendall(reply[start:end])
                self._closing.wait(due["split"].seconds)
            reply = reply[HEADER_SIZE:]
        self._client.sendall(reply)
