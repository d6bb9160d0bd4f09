"""TCP interface of a virtual controller: one client per port at a time."""

from __future__ import annotations

import itertools
import logging
import select
import socket
import threading
from collections.abc import Iterable
from contextlib import closing, suppress
from types import TracebackType

from spm_gym.servers.nanonis.conversation import Answering, Conversation
from spm_gym.servers.nanonis.faults import Fault, FaultInjector

PORTS = (6501, 6502, 6503, 6504)
_WAITING_CLIENTS = 8
_LOG = logging.getLogger(__name__)


class VirtualNanonis:
    """Serves a virtual controller on several ports, until it is closed.

    The next client of a busy port is served when the first has left.

    Attributes:
        ports: Ports on which it listens.

    Args:
        controller: Carries out the commands, or answers from a log.
        ports: Ports to listen on; 0 is any free port.
        host: Address to listen on. The protocol has no passwords.
        faults: Faults to inject.

    Raises:
        OSError: A port is not free; the error's ``filename`` is the port.
    """

    def __init__(
        self,
        controller: Answering,
        ports: Iterable[int] = PORTS,
        host: str = "127.0.0.1",
        faults: Iterable[Fault] = (),
    ) -> None:
        self._controller = controller
        self._injector = FaultInjector(faults)
        self._numbers = itertools.count(1)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._clients: set[socket.socket] = set()
        # `close` closes one end, which wakes all threads that wait at the other end.
        self._wake, self._woken = socket.socketpair()
        self._listening: list[socket.socket] = []
        try:
            for port in ports:
                self._listening.append(_listen(host, port))
        except OSError:
            self._close_sockets()
            raise
        self.ports = tuple(int(listening.getsockname()[1]) for listening in self._listening)
        self._threads = [
            threading.Thread(target=self._serve_port, args=(listening,), name=f"port {port}")
            for listening, port in zip(self._listening, self.ports, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> VirtualNanonis:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and ports, waiting commands included; legal twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.close()
        with self._lock:
            for client in self._clients:
                # Wakes a thread that waits for a request; closing the socket would not.
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for each in (self._wake, self._woken, *self._listening):
            each.close()

    def _serve_port(self, listening: socket.socket) -> None:
        while True:
            select.select([listening, self._woken], [], [])
            if self._closing.is_set():
                return
            try:
                client, _ = listening.accept()
            except OSError as error:
                _LOG.info("a client left before it was served: %s", error)
            else:
                self._serve(client)

    def _serve(self, client: socket.socket) -> None:
        with closing(client):
            with self._lock:
                self._clients.add(client)
            try:
                if not self._closing.is_set():
                    Conversation(
                        client, next(self._numbers), self._controller, self._injector, self._closing
                    ).hold()
            except Exception:  # a fault of ours must not close the port for the next client
                _LOG.exception("an internal fault has ended a conversation")
            finally:
                with self._lock:
                    self._clients.discard(client)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_WAITING_CLIENTS)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(port)) from error
