"""Serving an application until Ctrl-C or SIGTERM."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp


class CannotListen(OSError):
    """The address cannot be listened on; the message says why."""


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at an address; port 0 takes any that is free.

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
        yield listener


def address_of(listener: socket.socket) -> str:
    """Where a browser on this computer finds it."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # every address of this computer
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def serve(app: ASGIApp, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; returns then.

    Args:
        app: The application.
        listener: Where to listen.
        ready: Called when it is worth opening the page.
    """
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2
    )
    ready()
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
