"""Who may see and do what through a page: over real sockets."""

from __future__ import annotations

import html
import http.client
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode, urlsplit

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from spm_gym.assembly.run_directory import write_settings
from spm_gym.cli import main
from spm_gym.config import Config
from spm_gym.journal.writer import Journal
from spm_gym.network import is_loopback
from spm_gym.runner.run_state import RunState
from spm_gym.web.access import Access
from spm_gym.web.pages import Pages, application
from tests.support.browsing import served
from tests.support.waiting import PATIENCE_S

TOKEN = "correct horse"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Client:
    """Asks one server; keeps no cookies."""

    def __init__(self, address: str) -> None:
        self.netloc = urlsplit(address).netloc

    def __call__(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: str = ""
    ) -> tuple[int, str, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection(self.netloc, timeout=PATIENCE_S)
        form = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        connection.request(method, path, body or None, {**form, **(headers or {})})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text, answer.headers

    @property
    def own(self) -> dict[str, str]:
        """Headers that a browser sends with a form of the page itself."""
        return {"Origin": f"http://{self.netloc}", "Sec-Fetch-Site": "same-origin"}


@contextmanager
def page(access: Access) -> Iterator[Client]:
    def read(request: Request) -> PlainTextResponse:
        return PlainTextResponse("read")

    def act(request: Request) -> PlainTextResponse:
        return PlainTextResponse("done")

    routes = [Route("/", read), Route("/act", act, methods=["POST"])]
    with served(application(routes, Pages(), access)) as address:
        yield Client(address)


@pytest.fixture
def locked() -> Iterator[Client]:
    with page(Access(TOKEN, "127.0.0.1")) as client:
        yield client


@pytest.fixture
def remote() -> Iterator[Client]:
    """As with --host: it listens on loopback here, but believes that it does not."""
    with page(Access(TOKEN, "0.0.0.0")) as client:
        yield client


def fields_of(page: str) -> dict[str, str]:
    """Fields that the form of a page sends by itself."""
    hidden = re.findall('<input type="hidden" name="(.*?)" value="(.*?)">', page)
    return {name: html.unescape(value) for name, value in hidden}


def key(client: Client) -> dict[str, str]:
    """The cookie of a browser whose user has given the token."""
    status, _, headers = client("POST", "/unlock", client.own, "token=correct+horse")
    assert status == 303
    cookie = headers["set-cookie"]
    assert TOKEN not in cookie
    assert {"httponly", "samesite=strict"} <= {part.strip().lower() for part in cookie.split(";")}
    return {"Cookie": cookie.partition(";")[0]}


def test_on_this_computer_everybody_reads_and_only_who_knows_the_token_acts(
    locked: Client,
) -> None:
    assert locked("GET", "/")[:2] == (200, "read")
    status, text, _ = locked("POST", "/act", locked.own)
    assert (status, text) == (403, "refused: give the token first")
    assert locked("POST", "/act", BEARER)[:2] == (200, "done")
    assert locked("POST", "/act", key(locked) | locked.own)[:2] == (200, "done")


def test_from_elsewhere_even_reading_takes_the_token(remote: Client) -> None:
    status, text, _ = remote("GET", "/")
    assert status == 401
    assert "Token" in text
    assert "read" not in text
    assert remote("GET", "/", BEARER)[0] == 200
    assert remote("GET", "/", key(remote))[0] == 200
    assert remote("POST", "/act", remote.own)[0] == 401


def test_after_a_wrong_token_nobody_is_believed_for_a_second(
    remote: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic()]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("spm_gym.web.access.time", clock)
    status, text, headers = remote("POST", "/unlock", remote.own, "token=Correct+horse")
    assert status == 401
    assert "not the token" in text
    assert "set-cookie" not in headers
    assert remote("GET", "/", BEARER)[0] == 401, "not even if it is the right one"
    now[0] += 1.0
    assert remote("GET", "/", BEARER)[0] == 200
    assert remote("GET", "/", {"Authorization": "Bearer correct"})[0] == 401
    status, text, _ = remote("POST", "/unlock", remote.own, "token=correct+horse")
    assert status == 401
    assert "for a second nobody is believed" in text
    now[0] += 1.0
    cookie = key(remote)
    assert remote("GET", "/", {"Authorization": "Bearer wrong"})[0] == 401
    assert remote("GET", "/", cookie)[0] == 200, "who has been let in stays in"
    assert remote("GET", "/", {"Cookie": f"spm-gym-{remote.netloc[-5:]}=x"})[0] == 401


@pytest.mark.parametrize("host", ["[", "[::1", "", "a:b", "127.0.0.1:99999", "évil"])
def test_a_host_that_makes_no_sense_is_not_answered(locked: Client, host: str) -> None:
    assert locked("GET", "/", {"Host": host.encode("latin-1").decode("latin-1")})[0] in (400, 421)
    assert locked("POST", "/act", {"Origin": f"http://{host}", "Cookie": "x=y"})[0] == 403


def test_a_stranger_cannot_fill_the_disk(remote: Client) -> None:
    assert remote("POST", "/unlock", remote.own, "token=" + "x" * 100_000)[0] == 413
    assert remote("POST", "/unlock", remote.own | {"Transfer-Encoding": "chunked"})[0] == 413
    assert remote("POST", "/unlock", remote.own | {"Content-Length": "-1"})[0] in (400, 413)
    multipart = {"Content-Type": "multipart/form-data; boundary=b"}
    broken = "--b\r\nContent-Disposition: form-data; name=token; filename=x\r\n\r\nx\r\n--b--"
    assert remote("POST", "/unlock", remote.own | multipart, broken)[0] == 415
    assert remote("POST", "/unlock", remote.own, "token=correct+horse" + "&x=" * 100)[0] == 401


def test_a_link_with_the_token_hands_it_in_and_loses_it(remote: Client) -> None:
    status, text, headers = remote("GET", "/?token=correct%20horse&scan=3")
    assert status == 200
    assert "set-cookie" not in headers
    assert fields_of(text) == {"token": TOKEN, "there": "/?scan=3"}
    status, _, headers = remote("POST", "/unlock", remote.own, urlencode(fields_of(text)))
    assert (status, headers["location"]) == (303, "/?scan=3")
    cookie = {"Cookie": headers["set-cookie"].partition(";")[0]}
    assert remote("GET", "/?scan=3", cookie)[:2] == (200, "read")
    status, _, headers = remote("GET", "/?scan=3&token=anything", cookie)
    assert (status, headers["location"]) == (303, "/?scan=3"), "who is known needs no token"


@pytest.mark.parametrize("path", ["//evil.example/", "/%5Cevil.example/", "/%09/evil.example/"])
def test_a_link_with_the_token_leads_nowhere_else(remote: Client, path: str) -> None:
    there = fields_of(remote("GET", f"{path}?token=correct+horse")[1])["there"]
    body = urlencode({"token": TOKEN, "there": there})
    location = remote("POST", "/unlock", remote.own, body)[2]["location"]
    assert re.match(r"/(?![/\\\t])", location), location


@pytest.mark.parametrize(
    "foreign",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {},
    ],
)
@pytest.mark.parametrize("acting_is_free", [False, True])
def test_a_page_of_another_site_cannot_act(foreign: dict[str, str], acting_is_free: bool) -> None:
    """Not even with the cookie, which browsers do not send with such requests."""
    with page(Access(TOKEN, "127.0.0.1", acting_is_free)) as client:
        status, text, _ = client("POST", "/act", key(client) | foreign)
        assert (status, text) == (403, "refused: sent by a page of another site")
        assert client("POST", "/unlock", foreign, "token=correct+horse")[0] == 403


def test_a_name_that_was_pointed_at_this_computer_is_not_answered(locked: Client) -> None:
    """DNS rebinding: the foreign page would be of the same origin."""
    host = {"Host": f"evil.example:{locked.netloc.rpartition(':')[2]}"}
    assert locked("GET", "/", host)[0] == 421
    assert locked("POST", "/act", {**host, "Origin": f"http://{host['Host']}"})[0] == 421
    for name in ("localhost", "127.0.0.1", "[::1]"):
        assert locked("GET", "/", {"Host": name})[0] == 200


def test_without_a_token_nobody_acts() -> None:
    with page(Access(None, "127.0.0.1")) as client:
        assert client("POST", "/act", client.own)[:2] == (
            403,
            "refused: start the page with --token",
        )
        for given in ({"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
            assert client("POST", "/act", given | client.own)[0] == 401
        assert client("POST", "/unlock", client.own, "token=")[0] == 401


def test_what_is_free_on_this_computer_is_not_free_elsewhere() -> None:
    with page(Access(None, "127.0.0.1", acting_is_free=True)) as client:
        assert client("POST", "/act", client.own)[0] == 200
    with page(Access(TOKEN, "192.0.2.1", acting_is_free=True)) as client:
        assert client("POST", "/act", client.own)[0] == 401
        assert client("POST", "/act", BEARER)[0] == 200


def test_nothing_is_loaded_from_elsewhere_and_nobody_frames_the_page(locked: Client) -> None:
    headers = locked("GET", "/")[2]
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert locked("GET", "/static/../pages.py")[0] == 404
    assert locked("GET", "/static/%2e%2e/pages.py")[0] == 404


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.168.1.4", False), ("localhost.evil", False)],
)  # fmt: skip
def test_addresses_of_this_computer(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], ["--host 0.0.0.0", "--token"]),
        (["--host", "::"], ["--token"]),
        (["--host", ""], ["--host"]),
        (["--port", "70000"], ["--port", "65535"]),
        (["--host", "192.0.2.1", "--token", "x"], ["cannot listen on 192.0.2.1"]),
        (["--host", "no.such.host.example", "--token", "x"], ["cannot listen"]),
    ],
)
def test_addresses_that_cannot_be_served_get_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    write_settings(tmp_path / "config.yaml", Config())
    with Journal(tmp_path, RunState.references):
        pass
    niceness = os.nice(0)
    assert main(["monitor", str(tmp_path), *arguments]) == 2
    # Only what is served gives way to runs; this process goes on with other tests.
    assert os.nice(0) == niceness
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert all(word in error for word in words)
