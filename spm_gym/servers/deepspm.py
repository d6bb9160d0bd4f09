"""Server of any `Instrument` in the text protocol of the original DeepSPM agent."""

from __future__ import annotations

import socket
import socketserver
import threading
from types import TracebackType

import numpy as np

from spm_gym.config.real import LimitsConfig
from spm_gym.errors import ContactLost, InstrumentError, LimitExceeded, TipCrashed
from spm_gym.instrument.contract import Instrument
from spm_gym.instrument.deepspm.protocol import (
    MAX_REQUEST,
    PORT,
    Approach,
    GetParam,
    MoveArea,
    Request,
    ScanRequest,
    TipClean,
    TipShaping,
    format_area_change,
    format_parameter,
    format_scan,
    parse_request,
)
from spm_gym.instrument.guard import Guard
from spm_gym.types import Conditioning, Dip, FloatImage, Frame, Pulse

_POLL_S = 0.1
_SEND_S = 60.0
_MAX_ERROR = 200
_AT_END = 1e-12
"""Distance from the end of the z piezo that counts as the end, m."""


class DeepSPMServer:
    """Serves an instrument to one client after the other, one request after the other.

    A request is carried out as soon as it is complete, exactly once, even if its client has left by
    then. Closing the server does not close the instrument. As a context manager the server runs in
    a thread of its own.

    Args:
        instrument: Carries out the requests.
        host: Address to listen on.
        port: Port to listen on; 0 for any free port.
        area: Side of the approach area that is reported to the agent, m.
        limits: Limits of requests; None for those of the original server.

    Raises:
        OSError: The port is not free.
    """

    def __init__(
        self,
        instrument: Instrument,
        host: str = "127.0.0.1",
        port: int = PORT,
        *,
        area: float = 850e-9,
        limits: LimitsConfig | None = None,
    ) -> None:
        self._instrument = Guard(instrument, limits or LimitsConfig())
        self._area = area
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._listener = _Listener((host, port), self)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which the server listens."""
        host, port = self._listener.server_address[:2]  # IPv6 addresses have four parts
        return str(host), int(port)

    def start(self) -> DeepSPMServer:
        """Serve in a thread; legal once."""
        if self._thread is not None or self._stopping.is_set():
            raise RuntimeError("a server is started once")
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(_POLL_S,), name="deepspm-server"
        )
        self._thread.start()
        return self

    def wait(self) -> None:
        """Wait until another thread closes the server."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Finish the present request and close all connections; legal twice."""
        self._stopping.set()
        if self._thread is not None:
            self._listener.shutdown()
            self._thread.join()
        self._listener.server_close()

    def __enter__(self) -> DeepSPMServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def serve(self, client: socket.socket) -> None:
        """Answer the requests of one client until it leaves or sends no request within 1 kB."""
        pending = b""
        while len(pending) <= MAX_REQUEST and not self._stopping.is_set():
            client.settimeout(_POLL_S)
            try:
                received = client.recv(MAX_REQUEST)
            except TimeoutError:
                continue
            if not received:
                return
            client.settimeout(_SEND_S)
            # The protocol has no framing: a request ends with its closing parenthesis.
            *requests, pending = (pending + received).split(b")")
            for request in requests:
                client.sendall(self.answer(request + b")"))
            pending = pending.lstrip()

    def answer(self, data: bytes) -> bytes:
        """Carry out one request and return the reply."""
        try:
            return self._carry_out(parse_request(data))
        except (ValueError, InstrumentError) as error:
            text = " ".join(f"error: {type(error).__name__}: {error}".split())
            # On one line and short: the original agent reads a reply with a single recv.
            return text.encode("ascii", "replace")[:_MAX_ERROR]

    def _carry_out(self, request: Request) -> bytes:
        match request:
            case ScanRequest(x, y, size, pixels):
                return format_scan(self._scan(Frame(x, y, size, pixels)))
            case TipShaping(x, y):
                self._instrument.condition(_conditioning(request), x, y)
                return b"done"
            case TipClean():
                return b"1" if self._recover() else b"0"
            case GetParam(name):
                return self._parameter(name)
            case Approach():
                self._instrument.approach()
                return b"approached"
            case MoveArea(direction):
                self._instrument.move_area(direction)
                return format_area_change(crashes=0)

    def _scan(self, frame: Frame) -> FloatImage:
        scan = self._instrument.scan(frame)
        if scan.z_range is None:
            return scan.z
        # The original agent recognises a crash only by an image of one single height.
        highest = scan.z_range[1]
        return np.where(np.abs(scan.z - highest) < _AT_END, np.float32(highest), scan.z)

    def _recover(self) -> bool:
        """Withdraw and approach again; return whether the tip is in contact."""
        # The original server answers this request to recover from a crash.
        self._instrument.withdraw()
        try:
            self._instrument.approach()
        except (ContactLost, TipCrashed):
            return False
        return self._instrument.status().approached

    def _parameter(self, name: str) -> bytes:
        if name.lower() == "range":
            return format_parameter("Range", self._area)
        if name.lower() == "zrange":
            low, high = self._instrument.status().z_range
            return format_parameter("zRange", high - low)
        raise ValueError(f"unknown parameter {name!r}; known are Range, zRange")


class _Listener(socketserver.TCPServer):
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], owner: DeepSPMServer) -> None:
        self.owner = owner
        super().__init__(address, _Client)


class _Client(socketserver.BaseRequestHandler):
    server: _Listener
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            self.server.owner.serve(self.request)
        except (ConnectionError, TimeoutError):
            # The client has left or does not read its reply: serve the next one.
            return


def _conditioning(request: TipShaping) -> Conditioning:
    # One request serves for both: without a dip it is a pulse.
    if request.dip > 0:
        raise LimitExceeded(
            f"a lift of {request.dip:g} m: only dips, which are negative, are possible"
        )
    if request.dip < 0:
        return Dip(-request.dip, request.bias, request.width)
    return Pulse(request.bias, request.width)
