"""The live page of an invented run, to be looked at in a browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from spm_gym.config import load_config
from spm_gym.envs.regions import Mark
from spm_gym.journal.reader import Label
from spm_gym.types import Frame
from spm_gym.web.access import Access
from spm_gym.web.monitor import monitor
from tests.support.browsing import served
from tests.support.invented_runs import DIP, NM, PULSE, InventedRun
from tests.support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Page

PHONE = {"width": 390, "height": 844}


@contextmanager
def watched(run: Path, token: str | None = None, host: str = "127.0.0.1") -> Iterator[str]:
    """The live page of a run; gives its address."""
    with served(monitor(run, Access(token, host))) as address:
        yield address


def lively(path: Path) -> InventedRun:
    """A run in the middle of conditioning; it counts as at work until it is closed."""
    run = InventedRun(path, load_config(None, ["operation.hours=12"]).to_yaml())
    run.enter_area()
    for number in range(8):
        run.scan(Label.DISCARDED)
        run.scan(Label.GOOD, 0.98)
        run.journal.add_event(20.0 * number, "approach", f"approached {number}")
    run.journal.add_mark(0, Mark(4e-8, 0.0, 25 * NM, "bad sample"))
    run.condition([PULSE, DIP], values=[0.5 * number for number in range(12)], mask=[True] * 12)
    run.condition([PULSE], mask=[True] * 12)
    run.recovery("crash", detail="seen in the image")
    run.journal.add_event(0.0, "trouble", "crash: seen in the image")
    run.act(1, "done")
    run.commit(state="image", images=12, frame=Frame(2e-8, 1e-8, 1e-8, 64), area=0)
    return run


def leave(page: Page) -> None:
    """So that a page does not ask a server that is gone."""
    page.goto("about:blank")


def text_of(page: Page, selector: str) -> str:
    return " ".join(page.locator(selector).inner_text().split())


def visit(page: Page, address: str) -> None:
    """Open a page, and wait until it has asked for news once."""
    with page.expect_response(lambda answer: urlsplit(answer.url).path == "/now"):
        page.goto(address)


def wait_for(page: Page, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)
