"""Servers of the DeepSPM protocol: scripted ones, and ours with a client."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.deepspm.client import DeepSPMInstrument
from spm_gym.instrument.deepspm.line import Timeouts
from spm_gym.servers.deepspm import DeepSPMServer

HASTE = Timeouts(pause=0.05)
Z_RANGE = (-1e-7, 1e-7)
# What a scripted server does with a request: reply, hang up without a reply, or stay silent.
HANG_UP, SILENT = object(), object()
Answer = bytes | object


class ScriptedServer:
    """Writes down every request and answers from a list; counts the requests."""

    def __init__(self, *answers: Answer, piecewise: bool = False) -> None:
        self.received: list[bytes] = []
        self._answers = list(answers)
        self._piecewise = piecewise
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for connected in (self._listener, *self._clients):
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def connect(self, timeouts: Timeouts = HASTE, **options: Any) -> DeepSPMInstrument:
        host, port = self._listener.getsockname()
        options.setdefault("z_range", Z_RANGE)
        return DeepSPMInstrument(host, port, timeouts=timeouts, **options)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            with client, contextlib.suppress(ConnectionError):
                self._converse(client)

    def _converse(self, client: socket.socket) -> None:
        request = b""
        while data := client.recv(1):
            request += data
            if data != b")":
                continue
            self.received.append(request)
            request = b""
            answer = self._answers.pop(0) if self._answers else SILENT
            if answer is HANG_UP:
                return
            if isinstance(answer, bytes):
                self._send(client, answer)
                if self._piecewise:
                    return

    def _send(self, client: socket.socket, answer: bytes) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        step = 1 if self._piecewise else len(answer) or 1
        for start in range(0, len(answer), step):
            client.sendall(answer[start : start + step])


@contextlib.contextmanager
def driven(
    instrument: Instrument, **options: Any
) -> Iterator[tuple[DeepSPMInstrument, DeepSPMServer]]:
    with (
        DeepSPMServer(instrument, port=0, **options) as server,
        contextlib.closing(DeepSPMInstrument(*server.address, timeouts=HASTE)) as client,
    ):
        yield client, server


def image(rows: int, columns: int) -> bytes:
    heights = np.arange(rows * columns, dtype=">f4") * 1e-12
    return struct.pack(">ii", rows, columns) + heights.astype(">f4").tobytes()


def exactly(connected: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connected.recv(size - len(data))
        assert more, f"the connection ended after {len(data)} of {size} bytes"
        data += more
    return data
