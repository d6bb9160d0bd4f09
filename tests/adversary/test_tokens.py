"""Somebody who does not know the token tries many, or keeps others from giving the right one."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route

from spm_gym.web import access as rules
from spm_gym.web.access import Access
from spm_gym.web.pages import Pages, application
from tests.support.browsing import Faults, served

if TYPE_CHECKING:
    from playwright.sync_api import Page

TOKEN = "correct horse"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
WRONG = {"Authorization": "Bearer wrong"}


def locked() -> Starlette:
    def read(request: Request) -> PlainTextResponse:
        return PlainTextResponse("read")

    return application([Route("/", read)], Pages(), Access(TOKEN, "0.0.0.0"))


@pytest.fixture
def netloc(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A page for which a wrong token takes an hour instead of a second."""
    monkeypatch.setattr(rules, "_WRONG_TOKEN_S", 3600.0)
    with served(locked()) as address:
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
    """Headers that a browser sends with the form of the page itself."""
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
    connection = http.client.HTTPConnection(netloc, timeout=60)
    connection.request("GET", "/?token=x", headers=foreign)
    assert "<script" not in connection.getresponse().read().decode(), "nor in a window of its own"
    connection.close()


@pytest.mark.slow
def test_windows_that_another_site_opens_lock_nobody_out(
    netloc: str, page: Page, faults: Faults
) -> None:
    """A name and an address of this computer are two sites."""
    faults.expect("favicon.ico")
    port = netloc.rpartition(":")[2]
    foreign = Starlette(routes=[Route("/", lambda request: HTMLResponse("<p>evil</p>"))])
    with served(foreign) as evil:
        page.goto(evil)
        page.evaluate(
            """async target => {
                const opened = window.open("about:blank");
                for (let number = 0; number < 5; number++) {
                    opened.location = `${target}?token=x${number}`;
                    await new Promise(done => setTimeout(done, 200));
                }
            }""",
            f"http://localhost:{port}/",
        )
    assert status(netloc, "/", RIGHT) == 200


@pytest.mark.slow
@pytest.mark.parametrize("clicked", [False, True])
def test_a_link_with_the_token_opens_the_page(
    netloc: str, page: Page, faults: Faults, clicked: bool
) -> None:
    faults.expect("favicon.ico")
    address = f"http://{netloc}/"
    if clicked:
        mail = f'<a href="{address}?token=correct+horse">the page</a>'
        foreign = Starlette(routes=[Route("/", lambda request: HTMLResponse(mail))])
        with served(foreign) as elsewhere:
            page.goto(elsewhere.replace("127.0.0.1", "localhost"))
            page.get_by_role("link").click()
            page.get_by_role("button", name="Open").click()
            page.wait_for_url(address)
    else:
        page.goto(f"{address}?token=correct+horse")
        page.wait_for_url(address)
    page.get_by_text("read").wait_for()


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


def test_what_a_link_gives_is_shown_as_text(netloc: str) -> None:
    connection = http.client.HTTPConnection(netloc, timeout=60)
    connection.request("GET", "/?token=%3Cscript%3Ex%22")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert "&lt;script&gt;x&#34;" in text
    assert TOKEN not in text
    assert answer.getheader("set-cookie") is None
