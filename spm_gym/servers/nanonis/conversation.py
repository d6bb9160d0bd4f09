"""Conversation with one client of the virtual controller."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from spm_gym.instrument.nanonis.command_log import SERVER, note_connection, noting
from spm_gym.instrument.nanonis.commands import Command, commands
from spm_gym.instrument.nanonis.wire import (
    HEADER_SIZE,
    ErrorReply,
    Header,
    WireError,
    decode_header,
    decode_reply,
    encode_error,
    encode_reply,
)
from spm_gym.servers.nanonis.controller import ClientGone, VirtualController
from spm_gym.servers.nanonis.faults import Fault, FaultInjector, FaultKind

_LARGEST_REQUEST = _MOST_UNREAD = 2**20
_KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds, seconds, times: a client whose computer has crashed does not keep a port for ever."""

_LANDINGS: Mapping[FaultKind, float] = {"near_landing": 0.05, "far_landing": 0.97}
"""Share of the z range by which the piezo is extended at the end of such an approach."""

_LOG = logging.getLogger(__name__)

Due = Mapping[FaultKind, Fault]


class Answering(Protocol):
    """Answers requests: a virtual controller, or a log of one.

    Attributes:
        release: Of the controller's software.
    """

    release: int

    def reply(self, name: str, body: bytes, is_gone: Callable[[], bool]) -> bytes:
        """Return the reply to a request; see `VirtualController.reply`."""
        ...


class _Ended(Exception):
    """The client has left, or its requests cannot be read any more."""


class Conversation:
    """Answers one client until it leaves.

    Args:
        client: Its socket.
        number: Of the connection; for the log of commands.
        controller: Carries out the commands.
        injector: Decides which faults to inject.
        closing: Set when the server is closed.
    """

    def __init__(
        self,
        client: socket.socket,
        number: int,
        controller: Answering,
        injector: FaultInjector,
        closing: threading.Event,
    ) -> None:
        self._client = client
        self._number = number
        self._controller = controller
        self._injector = injector
        self._closing = closing
        self._commands = commands(controller.release)
        self._unread = bytearray()

    def hold(self) -> None:
        """Answer until the client leaves or sends bytes that are not a request."""
        host, port = self._client.getsockname()[:2]
        note_connection(SERVER, self._number, "opened", f"{host}:{port}")
        because = self._answer_all()
        note_connection(SERVER, self._number, "closed", f"{host}:{port}", because)

    def _answer_all(self) -> str:
        """Answer; returns why no more, "" if the client has left between two requests."""
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
                self._answer(header, self._receive(header.size, header.name))
        except _Ended as ending:
            return str(ending)
        except WireError as error:
            # Without a valid header, the next request cannot be found in the stream.
            _LOG.warning("connection closed: %s", error)
            return str(error)
        except OSError as error:
            _LOG.info("connection lost: %s", error)
            return str(error)

    def _receive(self, size: int, of: str = "") -> bytes:
        received = self._unread[:size]
        del self._unread[:size]
        while len(received) < size:
            part = self._client.recv(min(size - len(received), 65536))
            if not part:
                raise _Ended(f"cut off in the middle of a request {of}" if received or of else "")
            received += part
        return bytes(received)

    def _answer(self, header: Header, body: bytes) -> None:
        due = self._injector.due(header.name)
        release, silent = self._controller.release, not header.wants_reply
        with noting(SERVER, self._number, header.name, release, body, silent) as noted:
            self._inject(due, "before")
            reply = self._carry_out(header.name, body, due)
            self._inject(due, "after")
            reply = _spoilt(reply, due)
            # A client may ask for no reply at all, not even for errors.
            if header.wants_reply:
                self._send(reply, due)
            # A replay could not say it: what the client cannot use counts as no answer.
            if "garbage" in due:
                noted.trouble = "injected fault: the reply bears another name"
            else:
                noted.answer = reply[HEADER_SIZE:]

    def _inject(self, due: Due, when: str) -> None:
        for kind, fault in due.items():
            if fault.when != when:
                continue
            if kind == "drop":
                raise _Ended("injected fault: the connection is closed")
            assert isinstance(self._controller, VirtualController), "a replay has no accidents"
            if kind == "stuck_approach":
                self._controller.let_approach_hang()
            elif kind == "false_landing":
                self._controller.let_approach_miss()
            elif kind in _LANDINGS:
                self._controller.let_approach_land(_LANDINGS[kind])
            elif kind == "crash":
                self._controller.inject("crash")
            elif kind == "lost_contact":
                self._controller.inject("lost contact")

    def _carry_out(self, name: str, body: bytes, due: Due) -> bytes:
        command = self._commands.get(name)
        if command is not None and "error" in due:
            return encode_error(name, due["error"].text)
        if command is not None and "ignore" in due:
            return encode_reply(command, {})
        try:
            reply = self._controller.reply(name, body, self._is_gone)
        except ClientGone as error:
            raise _Ended(str(error) or "the client has left") from None
        return _without_data(reply, command) if command and "nan_frame" in due else reply

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
        if "late" in due:
            self._closing.wait(due["late"].seconds)
        if "split" in due:
            # Cut within the header: a client must collect bytes, not packets.
            for start, end in ((0, 20), (20, HEADER_SIZE)):
                self._client.sendall(reply[start:end])
                self._closing.wait(due["split"].seconds)
            reply = reply[HEADER_SIZE:]
        self._client.sendall(reply)


def _spoilt(reply: bytes, due: Due) -> bytes:
    if "garbage" in due:
        other = encode_error("Garbage.Get", "")[:32]
        reply = other + reply[32:]
    if "short" in due:
        # The size in the header fits, so that a client finds the fault only in the last field.
        body = reply[HEADER_SIZE:-1]
        reply = reply[:32] + len(body).to_bytes(4, "big") + reply[36:HEADER_SIZE] + body
    return reply


def _without_data(reply: bytes, command: Command) -> bytes:
    try:
        values = decode_reply(command, reply[HEADER_SIZE:])
    except ErrorReply:
        return reply
    return encode_reply(command, {**values, "data": np.full_like(values["data"], np.nan)})
