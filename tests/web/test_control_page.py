"""Pause, resume and stop from the live page, in Chromium, obeyed by a running simulated run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spm_gym.journal.reader import JournalError, reading
from spm_gym.runner.control import CONTROL
from spm_gym.runner.run_state import read_run_state
from spm_gym.web.access import Access
from spm_gym.web.monitor import monitor
from tests.support.browsing import Faults, served
from tests.support.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TOKEN = "correct horse"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page") / "run"


@pytest.fixture(scope="module")
def at_work(run: Path) -> Iterator[subprocess.Popen[str]]:
    """A run on the simulator, at work until the last test here stops it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "spm_gym", "run", "--hours", "1000", "--time-scale", "500",
         "--token", TOKEN, "--run-dir", str(run)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        wait_until_state(run, "image")
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def serve(run: Path) -> Iterator[Callable[[Access], str]]:
    """Serves the live page; asked for before ``page``, it outlives that."""
    with ExitStack() as stack:
        yield lambda access: stack.enter_context(served(monitor(run, access)))


def wait_until_state(run: Path, state: str) -> None:

    def has_come() -> bool:
        with suppress(JournalError), reading(run) as db:  # it may not be there yet
            run_state = read_run_state(db)
            return run_state is not None and run_state.state == state
        return False

    wait_until(has_come, f"it never came to {state}")


def test_a_page_with_another_token_than_the_run_says_so(
    serve: Callable[[Access], str], at_work: subprocess.Popen[str], run: Path, page: Page
) -> None:
    address = serve(Access("another", "127.0.0.1"))
    page.goto(f"{address}?token=another")
    page.wait_for_url(address)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("alert").filter(has_text="started with another token").wait_for()
    assert not (run / CONTROL).exists()


def test_a_page_without_a_token_only_looks(
    serve: Callable[[Access], str],
    at_work: subprocess.Popen[str],
    run: Path,
    page: Page,
    faults: Faults,
) -> None:
    address = serve(Access(None, "127.0.0.1"))
    page.goto(address)
    page.get_by_text("This page is read-only.").wait_for()
    assert page.get_by_role("button", name="Pause").count() == 0
    faults.expect("403")
    status = page.evaluate(
        "fetch('/control', {method: 'POST', body: new URLSearchParams({request: 'stop'})})"
        ".then(answer => answer.status)"
    )
    assert status == 403
    assert not (run / CONTROL).exists()
    assert at_work.poll() is None


def test_nothing_is_shown_elsewhere_without_the_token(
    serve: Callable[[Access], str],
    at_work: subprocess.Popen[str],
    run: Path,
    page: Page,
    faults: Faults,
) -> None:
    address = serve(Access(TOKEN, "0.0.0.0"))
    faults.expect("401")
    page.goto(address)
    page.get_by_role("heading", name="Token needed").wait_for()
    assert run.name not in page.content().replace(TOKEN, "").split("<main")[1]
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    page.get_by_role("heading", name="Events").wait_for()


def test_the_token_unlocks_and_the_run_obeys(
    serve: Callable[[Access], str],
    at_work: subprocess.Popen[str],
    run: Path,
    page: Page,
    faults: Faults,
) -> None:
    address = serve(Access(TOKEN, "127.0.0.1"))
    page.goto(address)
    assert page.get_by_role("button", name="Stop and withdraw").count() == 0
    page.get_by_role("link", name="Give the token").click()

    faults.expect("401")
    page.get_by_label("Token").fill("wrong horse")
    page.get_by_role("button", name="Open").click()
    page.get_by_text("That is not the token.").wait_for()
    time.sleep(1.1)  # for a second nobody is believed
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_url(address)

    page.get_by_role("button", name="Pause").click()
    page.get_by_role("status").filter(has_text="Asked to pause").wait_for()
    wait_until_state(run, "pause")
    page.locator("#sentence", has_text="Paused").wait_for()
    page.get_by_role("button", name="Resume").click()
    wait_until_state(run, "image")

    page.once("dialog", lambda dialog: dialog.dismiss())
    page.get_by_role("button", name="Stop and withdraw").click()
    time.sleep(1.0)
    assert at_work.poll() is None, "an answer of no does not stop it"
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Stop and withdraw").click()
    assert at_work.wait(timeout=PATIENCE_S) == 0
    page.get_by_text("Nothing is at work.").wait_for()
    assert page.get_by_role("button", name="Stop and withdraw").count() == 0
    with reading(run) as db:
        last = db.execute("SELECT act, result FROM acts ORDER BY id DESC").fetchone()
        ending = db.execute("SELECT text FROM events ORDER BY id DESC").fetchone()[0]
    assert tuple(last) == ("withdraw", "done")
    assert ending == "asked to stop; tip withdrawn"
