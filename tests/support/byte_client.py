"""A client of the virtual Nanonis that sends bytes."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from typing import Any

from spm_gym.instrument.nanonis.commands import commands
from spm_gym.instrument.nanonis.wire import (
    HEADER_SIZE,
    decode_header,
    decode_reply,
    encode_request,
)
from spm_gym.servers.nanonis.server import VirtualNanonis
from tests.support.waiting import PATIENCE_S

RELEASE = 14718
START, STOP = 0, 1
Serve = Callable[..., VirtualNanonis]


class Client:
    """Sends bytes, and reads exactly one reply at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            part = self.socket.recv(size - len(received))
            if not part:
                raise EOFError(f"{len(received)} of {size} bytes")
            received += part
        return received

    def reply(self) -> bytes:
        header = self.read(HEADER_SIZE)
        return header + self.read(decode_header(header).size)

    def ask(self, name: str, /, **values: Any) -> dict[str, Any]:
        command = commands(RELEASE)[name]
        self.send(encode_request(command, values))
        reply = self.reply()
        assert decode_header(reply[:HEADER_SIZE]).name == name
        return decode_reply(command, reply[HEADER_SIZE:])

    def start_scan(self) -> None:
        self.ask("Scan.Action", action=START, direction=0)

    def is_silent(self, seconds: float = 0.05) -> bool:
        return not select.select([self.socket], [], [], seconds)[0]

    def is_let_go(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def request(name: str, body: bytes = b"", flag: int = 1, size: int | None = None) -> bytes:
    size = len(body) if size is None else size
    return struct.pack(">32siHH", name.encode(), size, flag, 0) + body


def framed(name: str, body: bytes) -> bytes:
    return struct.pack(">32siI", name.encode(), len(body), 0) + body
