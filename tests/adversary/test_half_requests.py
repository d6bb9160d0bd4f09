"""Connections that ask for nothing, half of something, or take no answer: the owner comes first."""

from __future__ import annotations

import http.client
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from spm_gym.assembly.run_directory import write_settings
from spm_gym.config import Config
from spm_gym.journal.reader import Label
from spm_gym.web import connections
from spm_gym.web.access import Access
from spm_gym.web.pages import Pages, application
from tests.support.browsing import served
from tests.support.invented_runs import InventedRun

ROOT = Path(__file__).parent.parent.parent
TOKEN = "correct horse"
FILES = 256
"""Files that a process may open here; macOS allows no more by default."""

ATTACKERS = 400
BODY_TO_COME = b"POST /control HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n"
HALF = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("half") / "run"
    run.mkdir()
    write_settings(run / "config.yaml", Config())
    with InventedRun(run) as it:
        it.enter_area()
        it.scan(Label.GOOD, 0.99)
        it.commit()
    return run


class Monitor:
    """``spm-gym monitor`` in a process that may open few files."""

    def __init__(self, run: Path) -> None:
        def few_files() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))

        self.process = subprocess.Popen(
            [sys.executable, "-m", "spm_gym", "monitor", str(run), "--port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=few_files,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        parts = urlsplit(ready.partition("  (")[0].rpartition(" ")[2])
        assert parts.port is not None, ready
        self.address = "127.0.0.1", parts.port

    def answers(self) -> bool:
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            return answer.status == 200 and b">Events<" in answer.read()
        except OSError:
            return False
        finally:
            connection.close()

    def connect(self, sent: bytes) -> socket.socket:
        connection = socket.create_connection(self.address, timeout=60)
        with suppress(OSError):  # given up already
            connection.sendall(sent)
        return connection

    def end(self) -> str:
        """End it; returns all that it has complained of."""
        self.process.terminate()
        return self.process.communicate(timeout=60)[1]


@pytest.fixture
def monitor(run: Path) -> Iterator[Monitor]:
    it = Monitor(run)
    try:
        yield it
    finally:
        it.process.kill()
        it.process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent", [HALF, b"", b"POST /control HTTP/1.1\r\nContent-Length: 9\r\n\r\n"]
)
def test_the_owner_is_answered_while_more_hold_on_than_files_can_be_opened(
    monitor: Monitor, sent: bytes
) -> None:
    with ExitStack() as open_ones:
        for _ in range(ATTACKERS):
            open_ones.enter_context(monitor.connect(sent))
        assert all(monitor.answers() for _ in range(5))
    assert monitor.answers()
    assert len(monitor.end()) < 4000


@pytest.mark.slow
def test_the_owner_is_answered_while_they_keep_coming(monitor: Monitor) -> None:
    over, started = threading.Event(), threading.Event()

    def attack() -> None:
        with ExitStack() as open_ones:
            for number in range(4 * ATTACKERS):
                with suppress(OSError):
                    open_ones.enter_context(monitor.connect(HALF))
                if number == ATTACKERS:
                    started.set()
                if over.is_set():
                    break

    attacker = threading.Thread(target=attack)
    attacker.start()
    started.wait(60)
    answered = [monitor.answers() for _ in range(5)]
    over.set()
    attacker.join()
    assert any(answered)
    assert monitor.answers()
    assert len(monitor.end()) < 4000


@pytest.mark.slow
def test_nonsense_does_not_fill_the_log(monitor: Monitor) -> None:
    for number in range(300):
        with monitor.connect(b"\x00nonsense %d\r\n\r\n" % number) as connection:
            connection.recv(100)
    assert monitor.answers()
    complaints = monitor.end()
    assert "Invalid HTTP request" in complaints
    assert len(complaints.splitlines()) < 20


# --- one connection that is slow on purpose -------------------------------------------------------


def page(slowly: Callable[[], None] = lambda: None) -> object:
    def read(request: Request) -> PlainTextResponse:
        slowly()
        return PlainTextResponse("read")

    routes = [Route("/", read)]
    return application(routes, Pages(), Access(TOKEN, "127.0.0.1"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_PATIENCE_S", 0.5)


def connected(address: str) -> socket.socket:
    parts = urlsplit(address)
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def until_given_up(connection: socket.socket) -> bytes:
    """All that comes until the other end gives up; the test fails if it never does."""
    received = b""
    with suppress(ConnectionError):
        while more := connection.recv(65536):
            received += more
    return received


WHOLE = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
FORM = (
    b"POST /unlock HTTP/1.1\r\nHost: 127.0.0.1\r\nSec-Fetch-Site: same-origin\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\ntoken="
)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sent", [b"", b"G", HALF, FORM, WHOLE + HALF, WHOLE + FORM])
def test_half_a_request_is_given_up(sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with served(page()) as address, connected(address) as connection:
        connection.sendall(sent)
        received = until_given_up(connection)
        assert received.startswith(b"HTTP/1.1 200") is (WHOLE in sent)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("begin", [HALF, FORM])
def test_one_byte_after_the_other_is_no_reason_to_wait(begin: bytes) -> None:
    with served(page()) as address, connected(address) as connection:
        connection.sendall(begin)
        connection.settimeout(0.02)
        for _ in range(3000):
            try:
                connection.sendall(b"x")
                assert connection.recv(1) == b"", "half a request has no answer"
                return
            except TimeoutError:
                continue
            except ConnectionError:
                return
    pytest.fail("it was waited for")


@pytest.mark.usefixtures("impatient")
def test_who_waits_for_this_server_is_not_given_up() -> None:
    served_long_enough = threading.Event()
    waiting = threading.Timer(2.0, served_long_enough.set)  # four times the patience
    waiting.start()
    slow = page(lambda: bool(served_long_enough.wait(60)))
    with served(slow) as address, connected(address) as connection:
        connection.sendall(WHOLE)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    waiting.join()


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_is_not_taken_is_given_up() -> None:
    given_up = threading.Event()

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(2):  # the second one waits until the first is taken
            await send({"type": "http.response.body", "body": bytes(50 * 2**20), "more_body": True})
        if (await receive())["type"] == "http.request":
            assert (await receive())["type"] == "http.disconnect"
        given_up.set()

    with served(large) as address, connected(address) as connection:
        connection.sendall(WHOLE)
        assert given_up.wait(60)
