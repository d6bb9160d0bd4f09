"""Somebody who does not know the token tries many, or keeps others from giving the right one."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browsing import served
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from spm_gym.web import access as rules
from spm_gym.web.access import Access
from spm_gym.web.pages import Pages, application

TOKEN = "correct horse"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
WRONG = {"Authorization": "Bearer wrong"}


def page(host: str = "0.0.0.0") -> Starlette:
    def read(request: Request) -> PlainTextResponse:
        return PlainTextResponse("read")

    return application([Route("/", read)], Pages(), Access(TOKEN, host))


@pytest.fixture
def netloc(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A page for which a wrong token takes an hour instead of a second."""
    monkeypatch.setattr(rules, "_WRONG_TOKEN_S", 3600.0)
    with served(page()) as address:
        yield urlsplit(address).netloc


def status(
    netloc: str, path: str, headers: dict[str, str], source: str = "127.0.0.1", body: str = ""
) -> int:
    connection = http.client.HTTPConnection(netloc, timeout=60, source_address=(source, 0))
    try:
        connection.request("POST" if body else "GET", path, body or None, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def own(netloc: str) -> dict[str, str]:
    """What a browser says of the form of the page itself."""
    return {"Origin": f"http://{netloc}", "Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    "disguise",
    [
        {"X-Forwarded-For": "192.0.2.7"},
        {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"},
        {"X-Real-IP": "192.0.2.7"},
        {"Forwarded": "for=192.0.2.7"},
        {"Via": "1.1 proxy", "CF-Connecting-IP": "192.0.2.7"},
    ],
)
def test_after_a_wrong_token_no_header_makes_anybody_believed(
    netloc: str, disguise: dict[str, str]
) -> None:
    assert status(netloc, "/", WRONG) == 401
    assert status(netloc, "/", RIGHT | disguise) == 401
    assert status(netloc, "/unlock", own(netloc) | disguise, body="token=correct+horse") == 401


def test_after_a_wrong_token_no_other_address_is_believed_either(netloc: str) -> None:
    try:
        with socket.socket() as other:
            other.bind(("127.0.0.2", 0))
    except OSError:
        pytest.skip("this computer has only one loopback address")
    assert status(netloc, "/", WRONG) == 401
    for number in range(2, 20):
        assert status(netloc, "/", RIGHT, f"127.0.0.{number}") == 401
        assert status(netloc, "/", RIGHT, f"127.9.{number}.1") == 401


FOREIGN = (
    {},  # browsers say nothing of where they come from to a plain HTTP address in the network
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
)


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_page_of_another_site_that_loads_addresses_with_tokens_locks_nobody_out(
    netloc: str, foreign: dict[str, str]
) -> None:
    for number in range(20):
        assert status(netloc, f"/?token=x{number}", foreign) == 200
    assert status(netloc, "/", RIGHT) == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_form_of_another_site_locks_nobody_out(netloc: str, origin: str) -> None:
    foreign = own(netloc) | {"Origin": origin}
    assert status(netloc, "/unlock", foreign, body="token=x") == 403
    assert status(netloc, "/", RIGHT) == 200


CHARSETS = ("hex", "undefined", "unicode_escape", "utf-7", "idna", "punycode", "rot13", "utf-16",
            "no such", "a\tb", "'", "é", "x" * 500)  # fmt: skip


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_form_in_an_odd_charset_is_refused_in_words(netloc: str, charset: str) -> None:
    parts = (
        '--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n\\ud800+2AA-\x00\r\n--b--\r\n'
    )
    for kind in (
        f"multipart/form-data; boundary=b; charset={charset}",
        f"multipart/form-data; charset={charset}",
        f"multipart/form-data; boundary*={charset}''b",
        f"text/plain; charset={charset}",
    ):
        multipart = own(netloc) | {"Content-Type": kind.encode().decode("latin-1")}
        assert status(netloc, "/unlock", multipart, body=parts) == 415
    plain = own(netloc)
    plain["Content-Type"] += f"; charset={charset}".encode().decode("latin-1")
    assert status(netloc, "/unlock", plain, body="token=correct+horse") == 303


@pytest.mark.parametrize(
    "body", ["token=%ED%A0%80", "token=%FF%FE", "token", "=", "&&&", "%", "token=\x00", "é=é"]
)
def test_a_form_that_makes_no_sense_is_a_wrong_token(netloc: str, body: str) -> None:
    assert status(netloc, "/unlock", own(netloc), body=body) == 401


def test_the_token_is_in_no_file_of_the_page(netloc: str, tmp_path: Path) -> None:
    """It is handed back only to whoever has sent it."""
    assert status(netloc, "/static/handing_over.js", {}) == 200
    connection = http.client.HTTPConnection(netloc, timeout=60)
    connection.request("GET", "/?token=%3Cscript%3Ex%22")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert "&lt;script&gt;x&#34;" in text
    assert TOKEN not in text
    assert answer.getheader("set-cookie") is None
