"""A port that answers exactly what a test tells it to."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable

from spm_gym.instrument.nanonis.wire import HEADER_SIZE, decode_header

Answer = Callable[[socket.socket, bytes], None]


def send(*pieces: bytes, pause: float = 0.0) -> Answer:
    """Answer with these bytes, piece by piece."""

    def answer(client: socket.socket, request: bytes) -> None:
        for piece in pieces:
            client.sendall(piece)
            time.sleep(pause)

    return answer


def hang_up(client: socket.socket, request: bytes) -> None:
    """Answer by ending the connection."""
    client.shutdown(socket.SHUT_RDWR)


def stay_silent(client: socket.socket, request: bytes) -> None:
    """Take the request and do not answer."""


class ScriptedPort:
    """Serves one connection after another; every request gets the next answer of the script."""

    def __init__(self, script: Iterable[Answer]) -> None:
        self.requests: list[str] = []
        self._script = iter(script)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> ScriptedPort:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for open_socket in (self._listener, self._client):
            if open_socket is not None:
                with contextlib.suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)
                open_socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._client = client
            with client, contextlib.suppress(OSError, StopIteration):
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        while header := self._receive(client, HEADER_SIZE):
            known = decode_header(header)
            body = self._receive(client, known.size)
            self.requests.append(known.name)
            next(self._script)(client, header + body)

    def _receive(self, client: socket.socket, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = client.recv(size - len(data))
            if not piece:
                return b""
            data += piece
        return data
