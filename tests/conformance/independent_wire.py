"""Four ports of a Nanonis controller, and its numbers and texts as bytes (big-endian)."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

_HEADER = struct.Struct(">32siHH")


class Refused(Exception):
    """The controller answers with an error block alone."""


class Ports:
    """Serves four ports, one client each, strictly in order; use it as a context.

    Args:
        answer: Takes a command and its body; gives the body of the reply. Asked by one thread at a
            time.
    """

    def __init__(self, answer: Callable[[str, bytes], bytes]) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self._clients: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listening: list[socket.socket] = []

    def __enter__(self) -> Ports:
        for _ in range(4):
            port = socket.create_server(("127.0.0.1", 0))
            self._listening.append(port)
            thread = threading.Thread(target=self._listen, args=(port,), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for each in [*self._listening, *self._clients]:
            with contextlib.suppress(OSError):  # the client was faster
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for port in self._listening:
            port.close()

    @property
    def ports(self) -> list[int]:
        """Where it listens."""
        return [int(port.getsockname()[1]) for port in self._listening]

    def _listen(self, port: socket.socket) -> None:
        while True:
            try:
                client, _ = port.accept()
            except OSError:
                return
            self._clients.add(client)
            with client, contextlib.suppress(OSError):  # the client may be killed
                self._serve(client)
            self._clients.discard(client)

    def _serve(self, client: socket.socket) -> None:
        while True:
            header = _exactly(client, _HEADER.size)
            if header is None:
                return
            padded, size, wants_reply, _ = _HEADER.unpack(header)
            body = _exactly(client, size)
            if body is None:
                return
            with self._lock:
                reply = self._answer(padded.rstrip(b"\0").decode("ascii"), body)
            if wants_reply:
                client.sendall(_HEADER.pack(padded, len(reply), 0, 0) + reply)


def _exactly(client: socket.socket, size: int) -> bytes | None:
    """So many bytes; None if the client is gone."""
    got = b""
    while len(got) < size:
        more = client.recv(size - len(got))
        if not more:
            return None
        got += more
    return got


def unpack(layout: str, body: bytes) -> list[Any]:
    """Read arguments: letters of `struct`, S a text, L a list of texts, A of whole numbers."""
    values: list[Any] = []
    at = 0

    def take(letter: str, count: int = 1) -> list[Any]:
        nonlocal at
        form = f">{count}{letter}"
        if at + struct.calcsize(form) > len(body):
            raise Refused("the body is too short")
        found = struct.unpack_from(form, body, at)
        at += struct.calcsize(form)
        return list(found)

    def text() -> str:
        (size,) = take("i")
        return b"".join(take("s", size)).decode("ascii")

    for letter in layout:
        if letter == "S":
            values.append(text())
        elif letter == "L":
            take("i")  # clients do not agree on this size
            values.append([text() for _ in range(take("i")[0])])
        elif letter == "A":
            values.append(take("i", take("i")[0]))
        else:
            values += take(letter)
    if at != len(body):
        raise Refused("the body is too long")
    return values


def pack(layout: str, values: Any) -> bytes:
    """Write return values: as `unpack`; M is a picture, G an empty table of texts."""
    packed = b""
    for letter, value in zip(layout, values, strict=True):
        if letter == "S":
            packed += _text(value)
        elif letter == "L":
            texts = b"".join(map(_text, value))
            packed += struct.pack(">ii", len(texts), len(value)) + texts
        elif letter == "A":
            packed += struct.pack(f">i{len(value)}i", len(value), *value)
        elif letter == "M":
            packed += struct.pack(">ii", *value.shape) + value.astype(">f4").tobytes()
        elif letter == "G":
            packed += struct.pack(">ii", 0, 0)
        else:
            packed += struct.pack(f">{letter}", value)
    return packed


def _text(value: str) -> bytes:
    return struct.pack(">i", len(value)) + value.encode("ascii")
