"""Serving an application until Ctrl-C or SIGTERM."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp

from spm_gym.web.connections import ACCEPTED_AT_ONCE, BoundedConnection

_EVERY_ADDRESS = {"0.0.0.0": "192.0.2.1", "::": "2001:db8::1"}
"""Stand for all addresses of a computer; with each one elsewhere that nobody has."""


class CannotListen(OSError):
    """The address cannot be listened on; the message says why."""


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Open a socket at an address; port 0 takes any that is free.

    Raises:
        CannotListen: The port is taken, or the address is none of this computer.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise CannotListen(f"cannot listen on {host} port {port}: {error.strerror}") from error
    with listener:
        # Connections inherit it: asyncio sets it only where a socket names its protocol, and every
        # answer would wait 40 ms for the acknowledgement of its headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def address_of(listener: socket.socket) -> str:
    """Return the address for a browser."""
    host, port = listener.getsockname()[:2]
    if host in _EVERY_ADDRESS:
        host = _own_address(listener.family, _EVERY_ADDRESS[host])
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _own_address(family: int, elsewhere: str) -> str:
    """Find the address under which other computers reach this one; nothing is sent."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((elsewhere, 9))
        except OSError:  # no network
            return "::1" if family == socket.AF_INET6 else "127.0.0.1"
        return str(probe.getsockname()[0])


def server(app: ASGIApp, grace_s: int = 2) -> uvicorn.Server:
    """Make a server of an application.

    Args:
        app: The application.
        grace_s: How long requests under way may take when it is told to end.
    """
    config = uvicorn.Config(
        app,
        http=BoundedConnection,
        ws="none",
        backlog=ACCEPTED_AT_ONCE,
        proxy_headers=False,  # anybody can send them
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=grace_s,
    )
    return uvicorn.Server(config)


def serve(app: ASGIApp, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; returns then.

    Args:
        app: The application.
        listener: Where to listen.
        ready: Called when it is worth opening the page.
    """
    it = server(app)
    few = FewMessages()
    for name in ("uvicorn.error", "asyncio", "spm_gym.web.monitor"):
        logging.getLogger(name).addFilter(few)
    ready()
    with suppress(KeyboardInterrupt):
        it.run(sockets=[listener])


class FewMessages(logging.Filter):
    """Lets a few messages a minute through: nonsense from outside can cause any number."""

    _MOST = 10
    _PERIOD_S = 60.0

    def __init__(self) -> None:
        super().__init__()
        self._period_start = -self._PERIOD_S
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Let a message through if it is one of the few; the first one counts those left out."""
        now = time.monotonic()
        if now - self._period_start >= self._PERIOD_S:
            if self._count > self._MOST:
                record.msg = f"({self._count - self._MOST} messages were left out) {record.msg}"
            self._period_start, self._count = now, 0
        self._count += 1
        return self._count <= self._MOST
