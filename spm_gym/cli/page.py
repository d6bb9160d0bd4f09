"""Options and serving of the commands that serve a page."""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Callable
from typing import TYPE_CHECKING

from spm_gym.cli.options import add_token
from spm_gym.errors import UsageError

if TYPE_CHECKING:  # slow to import, and every command would wait for it
    from starlette.types import ASGIApp

    from spm_gym.web.access import Access


def add_address(parser: argparse.ArgumentParser, port: int, needed_for: str) -> None:
    """Declare ``--port``, ``--host``, ``--token`` and ``--open``.

    Args:
        parser: Of the command.
        port: The default.
        needed_for: What the token is needed for on this computer, in words.
    """
    parser.add_argument(
        "--port", type=int, default=port, metavar="P", help="default: %(default)s; 0: any free one"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="H",
        help="address to listen on, for example 0.0.0.0 for phones in the same network; then the "
        "token is needed for everything (default: this computer only)",
    )
    add_token(parser, needed_for)
    parser.add_argument("--open", action="store_true", help="open it in this computer's browser")


def serve_page(
    arguments: argparse.Namespace,
    make: Callable[[Access], ASGIApp],
    what: str,
    acting_is_free: bool = False,
) -> int:
    """Serve a page until Ctrl-C or SIGTERM.

    Args:
        arguments: With what `add_address` declares.
        make: Makes the application, behind rules of access.
        what: Name of the page.
        acting_is_free: As in `Access`.

    Raises:
        UsageError: Others could reach the page without a token.
    """
    from spm_gym.network import is_loopback
    from spm_gym.web.access import Access
    from spm_gym.web.serving import address_of, listening, serve

    host, token = arguments.host, arguments.token
    if not host:
        raise UsageError("--host must be an address, such as 127.0.0.1, not ''")
    if not 0 <= arguments.port <= 65535:
        raise UsageError(f"--port goes from 0 to 65535, not {arguments.port}")
    # Refused, not warned of: through the live page a run can be stopped.
    if not is_loopback(host) and token is None:
        raise UsageError(
            f"--host {host} lets other computers reach the page: give a --token as well, for "
            "example that of: python -c 'import secrets; print(secrets.token_urlsafe(12))'"
        )
    with listening(host, arguments.port) as listener:
        app = make(Access(token, host, acting_is_free))
        address = address_of(listener)

        def ready() -> None:
            # At once, through a pipe too: scripts wait for the address, whose port may be any.
            print(f"{what}: {address}  (Ctrl-C ends it)", flush=True)
            if arguments.open:
                webbrowser.open(address)

        serve(app, listener, ready)
    print("ended")
    return 0
