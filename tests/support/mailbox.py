"""A server that takes notifications."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.waiting import PATIENCE_S

PASSWORD = "hunter2secret"


class Mailbox(ThreadingHTTPServer):
    """Takes JSON notifications; answers what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.answer = 200
        self.arrived = threading.Semaphore(0)
        self.may_answer = threading.Event()
        self.may_answer.set()
        super().__init__(("127.0.0.1", 0), Letter)

    def address(self, path: str = "") -> str:
        port = self.server_address[1]
        return f"json://me:{PASSWORD}@127.0.0.1:{port}/{path}?rto={PATIENCE_S:g}"

    def await_letter(self) -> None:
        assert self.arrived.acquire(timeout=PATIENCE_S)

    def titles(self) -> list[str]:
        return [letter["title"] for letter in self.received]


class Letter(BaseHTTPRequestHandler):
    server: Mailbox

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(text))
        self.server.arrived.release()
        self.server.may_answer.wait(PATIENCE_S)
        self.send_response(self.server.answer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Mailbox]:
    with Mailbox() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.may_answer.set()
            server.shutdown()
            thread.join()
