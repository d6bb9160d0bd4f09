"""The live page when something is wrong: with the run, its files, the server, or who looks."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spm_gym.envs.regions import Mark
from spm_gym.journal.reader import Label
from spm_gym.journal.writer import SessionRecord
from spm_gym.web.access import Access
from spm_gym.web.monitor import monitor
from tests.support.browsing import Faults, inaccessible, overflow, served
from tests.support.invented_runs import HOSTILE, InventedRun
from tests.support.waiting import wait_until
from tests.support.watching import leave, text_of, visit, wait_for, watched

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


def test_markup_in_a_run_is_shown_as_text(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE.replace("/", "").replace("\x07", "")
    folder.mkdir()
    with InventedRun(folder) as run:
        run.journal.begin_session(SessionRecord(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: "1"}, True), 2)
        run.enter_area(HOSTILE)
        run.journal.label_scan(run.scan(Label.BAD_SAMPLE, 0.9), Label.BAD_SAMPLE, HOSTILE)
        run.condition([HOSTILE], outcome=None, mask=[True] * 13)
        run.journal.add_mark(0, Mark(0.0, 0.0, 1e-8, HOSTILE + "2"))
        run.enter_area(HOSTILE)
        run.recovery(HOSTILE, None, HOSTILE)
        run.journal.record_act({"act": HOSTILE, "result": "unknown", "time": 0.0, "why": HOSTILE})
        run.journal.add_event(0.0, HOSTILE, HOSTILE)
        run.journal.add_event(0.0, "trouble", HOSTILE)
        run.commit(state="recover", trouble=HOSTILE, episode=1, area=1)
        expected = HOSTILE.replace("\x07", "").strip()
        with watched(folder) as address:
            visit(page, address)
            page.wait_for_selector("#chart canvas")
            for place in ("#sentence", "#decision", "#events"):
                assert expected[:40] in text_of(page, place)
            assert page.locator("#now script, #now [onerror], #now img[src=x]").count() == 0
            assert overflow(page) == 0
            leave(page)


def test_an_empty_run(page: Page, tmp_path: Path) -> None:
    with InventedRun(tmp_path), watched(tmp_path) as address:
        visit(page, address)
        assert text_of(page, "#sentence") == "Getting ready for the first image"
        assert "There is no scan yet." in text_of(page, "#scan")
        assert not inaccessible(page)
        leave(page)


def test_a_run_with_missing_and_damaged_scans(page: Page, run: InventedRun, address: str) -> None:
    for file in sorted((run.journal.run / "scans").iterdir())[-3:]:
        file.write_bytes(b"damaged")
    page.goto(address)
    assert "cannot be displayed" in text_of(page, "#scan")
    wait_for(page, lambda: "scans cannot be read" in text_of(page, "#map"))


def test_a_finished_run(page: Page, run: InventedRun, address: str) -> None:
    run.journal.add_event(0.0, "end", "12 hours are over; tip withdrawn")
    run.commit(state="stop", ending="12 hours are over")
    run.end()
    page.goto(address)
    assert text_of(page, "#sentence") == "Ended: 12 hours are over; tip withdrawn"
    assert "spm-gym run --resume" in text_of(page, "#status")


def test_a_server_that_is_gone_is_told_of_and_found_again(
    page: Page, run: InventedRun, faults: Faults
) -> None:
    for expected in ("net::ERR_", "htmx:sendError", "htmx:afterRequest"):
        faults.expect(expected)
    with watched(run.journal.run) as address:
        visit(page, address)
        assert page.locator("#lost").is_hidden()
    wait_for(page, lambda: page.locator("#lost").is_visible())
    assert re.match(r"No connection to the monitor since \d\d:\d\d", text_of(page, "#lost"))
    port = int(address.rstrip("/").rpartition(":")[2])
    with served(monitor(run.journal.run, Access(None, "127.0.0.1")), port):
        wait_for(page, lambda: page.locator("#lost").is_hidden())
        leave(page)


def test_a_page_that_was_started_again_asks_for_the_token_again(
    page: Page, run: InventedRun, faults: Faults
) -> None:
    for expected in ("net::ERR_", "htmx:sendError", "htmx:afterRequest", "401"):
        faults.expect(expected)
    with watched(run.journal.run, "first", "0.0.0.0") as address:
        visit(page, f"{address}?token=first")
    port = int(address.rstrip("/").rpartition(":")[2])
    with served(monitor(run.journal.run, Access("second", "0.0.0.0")), port):
        wait_for(page, lambda: "started again" in text_of(page, "#lost"))
        assert text_of(page, "#lost") == "The page was started again: give the token again."
        page.locator("#lost a").click()
        page.get_by_label("Token").fill("second")
        page.keyboard.press("Enter")
        page.locator("#sentence").wait_for()
        leave(page)


def test_a_fault_of_the_server_is_told_without_its_markup(
    page: Page, run: InventedRun, address: str, faults: Faults
) -> None:
    for expected in ("502", "Response Status Error"):
        faults.expect(expected)
    visit(page, address)
    page.route(
        "**/now?*",
        lambda route: route.fulfill(status=502, content_type="text/html", body="<b>proxy</b>"),
    )
    wait_for(page, lambda: page.locator("#lost").is_visible())
    assert "502" in text_of(page, "#lost")
    assert "proxy" not in text_of(page, "#lost")


def test_a_tip_that_was_not_withdrawn_cannot_be_overlooked(
    page: Page, run: InventedRun, address: str
) -> None:
    visit(page, address)
    calm = background_of(page, "#status")
    run.journal.add_event(0.0, "unsafe end", "asked to stop; TIP NOT WITHDRAWN: motor off")
    run.commit(state="stop", ending="asked to stop")
    sentence = "Look at the instrument. Ended: asked to stop; TIP NOT WITHDRAWN: motor off"
    wait_for(page, lambda: text_of(page, "#sentence") == sentence)
    assert page.locator("#status").get_attribute("data-activity") == "failed"
    assert background_of(page, "#status") != calm
    assert "Tip unknown" in text_of(page, "#status")
    wait_for(page, lambda: page.locator("#announced").inner_text() == sentence)
    assert not inaccessible(page)


def background_of(page: Page, selector: str) -> str:
    found = page.eval_on_selector(selector, "element => getComputedStyle(element).backgroundColor")
    return str(found)


def test_a_journal_that_cannot_be_read_is_told_of(
    page: Page, run: InventedRun, address: str, faults: Faults
) -> None:
    faults.expect("503")
    faults.expect("Response Status Error")
    page.goto(address)
    journal = run.journal.run / "journal.sqlite"
    run.end()
    journal.rename(journal.with_name("elsewhere"))
    wait_for(page, lambda: page.locator("#lost").is_visible())
    assert "cannot be read" in text_of(page, "#lost")


def test_a_simulated_run_is_followed_until_it_is_killed(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / "simulated"
    command = [sys.executable, "-m", "spm_gym", "run", "--env", "sim", "--time-scale", "40",
               "--policy", "random", "--run-dir", str(folder)]  # fmt: skip
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:

            def has_started() -> bool:
                assert process.poll() is None, (tmp_path / "output").read_text()
                return (folder / "scans" / "000002.gsf").exists()

            wait_until(has_started)
            with watched(folder) as address:
                page.goto(address)
                first = image_number(page)
                wait_for(page, lambda: image_number(page) > first + 1)
                assert "without a bound" in text_of(page, "#status")
                assert "Ends about" not in text_of(page, "#status")
                process.send_signal(signal.SIGKILL)
                process.wait()
                wait_for(page, lambda: "Not at work" in text_of(page, "#sentence"))
                assert f"--run-dir {folder}" in text_of(page, "#status")
                leave(page)
        finally:
            process.kill()
            process.wait()


def image_number(page: Page) -> int:
    found = re.search(r"Image (\d+)", text_of(page, "#scan"))
    return int(found[1]) if found else 0
