"""Pages in a real, headless Chromium; whatever a page should not do fails its test.

All tests know the fixtures; `served` gives them something to visit. What browsers need is imported
late, for most tests need none.
"""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request
    from starlette.types import ASGIApp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_MET_WITHOUT_NETWORK = ("data", "blob")


class Faults:
    """Faults of a page."""

    def __init__(self) -> None:
        self._painted: list[str] = []
        self._expected: list[str] = []
        self._servers: set[str] = set()

    def expect(self, text: str) -> None:
        """Let faults pass that contain this: the test provokes them."""
        self._expected.append(text)

    def left(self) -> list[str]:
        """Those that no test expects."""
        return [
            painted
            for painted in self._painted
            if not any(text in painted for text in self._expected)
        ]

    def watch(self, page: Page) -> None:
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self._painted.append(f"uncaught: {error}"))
        page.on("request", self._follow)

    def _hear(self, message: ConsoleMessage) -> None:
        # What the policy of a page refuses is an error on the console too.
        if message.type in ("error", "warning"):
            self._painted.append(f"{message.type}: {message.text} ({message.location['url']})")

    def _follow(self, request: Request) -> None:
        url = urlsplit(request.url)
        loopback = url.hostname in ("127.0.0.1", "localhost", "::1")
        if loopback and request.is_navigation_request():
            self._servers.add(url.netloc)
        if url.scheme not in _MET_WITHOUT_NETWORK and url.netloc not in self._servers:
            self._painted.append(f"request to another server: {request.url}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; a test that needs it is left out where there is none, but not in CI."""
    if CHROMIUM is None and "CI" not in os.environ:
        pytest.skip("no chromium on this computer: pages are not tested")
    from playwright.sync_api import sync_playwright

    # For a module, not a session: until it ends, asyncio cannot be used in this thread.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(ARGUMENTS), timeout=1e3 * PATIENCE_S
        )
        yield browser
        browser.close()


@pytest.fixture
def faults() -> Faults:
    """Faults that ``page`` must not have made by the end of the test."""
    return Faults()


@pytest.fixture
def page(browser: Browser, faults: Faults) -> Iterator[Page]:
    """A page, 1280 x 800, without cookies; errors, refusals and foreign requests fail the test."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme="light", locale="en-GB"
    )
    context.set_default_timeout(1e3 * PATIENCE_S)
    page = context.new_page()
    faults.watch(page)
    yield page
    context.close()
    assert not faults.left(), "\n".join(faults.left())


@contextmanager
def served(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """Serve an application from a thread; gives its address."""
    from spm_gym.web.serving import address_of, listening, server

    with listening("127.0.0.1", port) as listener:
        it = server(app, grace_s=1)
        thread = threading.Thread(target=it.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not it.started and thread.is_alive():
                time.sleep(0.01)
            yield address_of(listener)
        finally:
            it.should_exit = True
            thread.join()
            _let_go_of_connections()


def _let_go_of_connections() -> None:
    # A connection that the browser opens while the server goes is accepted by its event loop, and
    # closed by nobody. It is collected here, or some later test would be blamed for it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def overflow(page: Page) -> int:
    """By how many pixels a page is wider than its window."""
    width: int = page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return width


def inaccessible(page: Page) -> list[str]:
    """Serious and critical faults that axe finds, with the elements that have them."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {fault['help']}: {[node['html'][:200] for node in fault['nodes']]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
