"""The live page in a real browser: phone and desk, runs that go on, end, or are killed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from browsing import Faults, inaccessible, overflow, served
from invented_runs import DIP, HOSTILE, NM, PULSE, InventedRun

from spm_gym.config import load_config
from spm_gym.regions import Mark
from spm_gym.runner.journal import Session
from spm_gym.runner.reading import Label
from spm_gym.web.access import Access
from spm_gym.web.monitor import monitor

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

PATIENCE_S = 60
PHONE = {"width": 390, "height": 844}


@contextmanager
def watched(run: Path) -> Iterator[str]:
    """The live page of a run; gives its address."""
    with served(monitor(run, Access(None, "127.0.0.1"))) as address:
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
    run.commit(state="image", images=12, frame=[2e-8, 1e-8, 1e-8, 64, 0.0], area=0)
    return run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InventedRun]:
    with lively(tmp_path) as run:
        yield run


@pytest.fixture
def address(run: InventedRun, page: Page) -> Iterator[str]:
    with watched(run.journal.run) as address:
        yield address
        leave(page)


def leave(page: Page) -> None:
    """So that a page does not ask a server that is gone."""
    page.goto("about:blank")


def text_of(page: Page, selector: str) -> str:
    return " ".join(page.locator(selector).inner_text().split())


def wait_for(page: Page, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)


def test_everything_is_there(page: Page, address: str) -> None:
    page.goto(address)
    assert text_of(page, "#sentence") == "Taking image 13 at 20, 10 nm"
    assert "Image 13" in text_of(page, "#scan")
    assert page.locator("#scan .picture img").evaluate("image => image.decode().then(() => true)")
    assert f"{PULSE}, action 1 of episode 2" in text_of(page, "#decision")
    assert "2.0 actions on average" in text_of(page, "#lengths")
    assert "crash: seen in the image" in text_of(page, "#events")
    page.wait_for_selector("#chart canvas")
    page.wait_for_selector("#map image", state="attached")
    assert page.title().startswith("Taking image 13")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_it_fits_and_is_accessible(page: Page, address: str, scheme: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.goto(address)
    page.wait_for_selector("#map image", state="attached")
    page.eval_on_selector_all("details", "all => all.forEach(each => (each.open = true))")
    assert overflow(page) == 0
    assert not inaccessible(page)


def test_what_fingers_press_is_large_enough(page: Page, address: str) -> None:
    page.set_viewport_size(PHONE)
    page.goto(address)
    for control in page.locator("#now button:not(.link), #now select, .tabs label, summary").all():
        box = control.bounding_box()
        assert box is not None
        assert box["height"] >= 43.5


def test_news_appear_by_themselves_and_nothing_chosen_is_lost(
    page: Page, run: InventedRun, address: str
) -> None:
    page.set_viewport_size(PHONE)
    page.goto(address)
    page.get_by_label("network").focus()
    page.keyboard.press("Space")
    page.locator("#decision summary").click()
    page.select_option("#kind-of-event", "trouble")
    page.locator("#events").scroll_into_view_if_needed()
    page.locator("#kind-of-event").focus()
    wait_for(page, lambda: "approached" not in text_of(page, "#events .log"))
    before = page.locator("#kind-of-event").bounding_box()
    assert before is not None
    run.scan(Label.GOOD, 0.987)
    run.journal.add_event(0.0, "trouble", "connection: it broke")
    run.commit(state="pause", images=14)
    wait_for(page, lambda: "connection: it broke" in text_of(page, "#events"))
    assert text_of(page, "#sentence") == "Paused"
    assert "Image 14" in text_of(page, "#scan")
    assert page.locator("#kind-of-event").bounding_box() == pytest.approx(before, abs=1)
    assert page.evaluate("document.activeElement.id") == "kind-of-event"
    assert page.locator("#kind-network").is_checked()
    assert page.locator("#decision details").get_attribute("open") is not None
    assert page.locator("#announced").inner_text() == "Paused"
    page.reload()
    wait_for(page, lambda: page.locator("#kind-network").is_checked())


def test_the_zoom_of_the_chart_outlives_news(page: Page, run: InventedRun, address: str) -> None:
    page.goto(address)
    canvas = page.locator("#chart .u-over")
    canvas.wait_for()
    page.wait_for_timeout(500)
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 40, steps=4)
    page.mouse.up()
    assert page.locator("#span").input_value() == "zoomed"
    run.scan(Label.GOOD, 0.987)
    run.commit(state="pause", images=14)
    wait_for(page, lambda: text_of(page, "#sentence") == "Paused")
    assert page.locator("#span").input_value() == "zoomed"
    canvas.dblclick()
    assert page.locator("#span").input_value() == ""


def test_scans_are_gone_through_by_arrow_keys_and_buttons(
    page: Page, run: InventedRun, address: str
) -> None:
    page.goto(address)
    page.keyboard.press("ArrowLeft")
    wait_for(page, lambda: "Image 12" in text_of(page, "#scan"))
    page.keyboard.press("ArrowLeft")
    wait_for(page, lambda: "Image 11" in text_of(page, "#scan"))
    run.scan(Label.GOOD, 0.9)
    run.commit(state="pause")
    wait_for(page, lambda: text_of(page, "#sentence") == "Paused")
    assert "Image 11" in text_of(page, "#scan")
    page.get_by_role("button", name="next scan").click()
    wait_for(page, lambda: "Image 12" in text_of(page, "#scan"))
    page.get_by_role("button", name="Follow").click()
    wait_for(page, lambda: "Image 14" in text_of(page, "#scan"))
    page.get_by_label("raw").focus()
    page.keyboard.press("ArrowLeft")  # belongs to the radio buttons here
    wait_for(page, lambda: page.get_by_label("levelled").is_checked())
    assert "Image 14" in text_of(page, "#scan")


def test_a_scan_is_found_on_the_map(page: Page, run: InventedRun, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("#map image", state="attached")
    ground = page.locator("#map .ground").bounding_box()
    assert ground is not None
    side, left, top = (
        float(page.locator("#map .ground").get_attribute(name) or "nan")
        for name in ("width", "x", "y")
    )
    scale = ground["width"] / side
    third = run.journal.scan(6).frame
    x, y = third.x / NM - left, -third.y / NM - top
    page.locator("svg.area").click(position={"x": 0, "y": 0})  # nothing is there
    box = page.locator("svg.area").bounding_box()
    assert box is not None
    place = {"x": ground["x"] - box["x"] + scale * x, "y": ground["y"] - box["y"] + scale * y}
    page.locator("svg.area").click(position=place)
    wait_for(page, lambda: "Image 3 " in text_of(page, "#scan"))
    assert page.locator("#map .shown").count() == 1


def test_older_events_come_on_demand(page: Page, run: InventedRun, address: str) -> None:
    for number in range(60):
        run.journal.add_event(0.0, "approach", f"number {number}.")
    run.commit(state="image")
    page.goto(address)
    assert "number 59." in text_of(page, "#events")
    assert "number 5." not in text_of(page, "#events")
    page.get_by_role("button", name="Show older ones").click()
    wait_for(page, lambda: "number 5." in text_of(page, "#events"))


def test_markup_in_a_run_is_shown_as_text(page: Page, tmp_path: Path) -> None:
    folder = tmp_path / HOSTILE.replace("/", "").replace("\x07", "")
    folder.mkdir()
    with InventedRun(folder) as run:
        run.journal.begin_session(Session(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: "1"}, True), 2)
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
        shown = HOSTILE.replace("\x07", "").strip()
        with watched(folder) as address:
            page.goto(address)
            page.wait_for_selector("#chart canvas")
            page.wait_for_timeout(1000)
            for place in ("#sentence", "#decision", "#events"):
                assert shown[:40] in text_of(page, place)
            assert page.locator("#now script, #now [onerror], #now img[src=x]").count() == 0
            assert overflow(page) == 0
            leave(page)


@pytest.mark.parametrize("area", [0, 1])
def test_older_areas_can_be_chosen(page: Page, run: InventedRun, address: str, area: int) -> None:
    run.enter_area("bad sample")
    run.scan(Label.GOOD, 0.9)
    run.commit(state="image", area=1)
    page.goto(address)
    page.select_option("#area", str(area))
    wait_for(page, lambda: page.locator(f"#tile-{area}-0-0").count() == 1)
    assert f"Approach area {area}" in text_of(page, "#map")


def test_an_empty_run(page: Page, tmp_path: Path) -> None:
    with InventedRun(tmp_path), watched(tmp_path) as address:
        page.goto(address)
        assert text_of(page, "#sentence") == "Getting ready for the first image"
        assert "There is no scan yet." in text_of(page, "#scan")
        page.wait_for_timeout(1000)
        assert not inaccessible(page)
        leave(page)


def test_a_run_with_missing_and_damaged_scans(page: Page, run: InventedRun, address: str) -> None:
    for file in sorted((run.journal.run / "scans").iterdir())[-3:]:
        file.write_bytes(b"damaged")
    page.goto(address)
    assert "cannot be shown" in text_of(page, "#scan")
    wait_for(page, lambda: "scans cannot be read" in text_of(page, "#map"))


def test_a_finished_run(page: Page, run: InventedRun, address: str) -> None:
    run.commit(state="stop", ending="12 hours are over")
    run.journal.close()
    page.goto(address)
    assert text_of(page, "#sentence") == "Ended: 12 hours are over"
    assert "spm-gym run --resume" in text_of(page, "#status")


def test_a_server_that_is_gone_is_told_of_and_found_again(
    page: Page, run: InventedRun, faults: Faults
) -> None:
    for expected in ("net::ERR_", "htmx:sendError", "htmx:afterRequest"):
        faults.expect(expected)
    with watched(run.journal.run) as address:
        page.goto(address)
        page.wait_for_timeout(500)
        assert page.locator("#lost").is_hidden()
    wait_for(page, lambda: page.locator("#lost").is_visible())
    assert re.match(r"No connection to the monitor since \d\d:\d\d", text_of(page, "#lost"))
    port = int(address.rstrip("/").rpartition(":")[2])
    with served(monitor(run.journal.run, Access(None, "127.0.0.1")), port):
        wait_for(page, lambda: page.locator("#lost").is_hidden())
        leave(page)


def test_a_journal_that_cannot_be_read_is_told_of(
    page: Page, run: InventedRun, address: str, faults: Faults
) -> None:
    faults.expect("503")
    faults.expect("Response Status Error")
    page.goto(address)
    journal = run.journal.run / "journal.sqlite"
    run.journal.close()
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
            deadline = time.monotonic() + PATIENCE_S
            while not (folder / "scans" / "000002.gsf").exists():
                assert process.poll() is None, (tmp_path / "output").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            with watched(folder) as address:
                page.goto(address)
                first = image_number(page)
                wait_for(page, lambda: image_number(page) > first + 1)
                assert "ends about" not in text_of(page, "#status")
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


def status_of(address: str, path: str) -> int:
    try:
        with urlopen(address + path) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code


def test_an_update_without_news_is_empty_and_nothing_is_written(run: InventedRun) -> None:
    folder = run.journal.run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with watched(folder) as address:
        deadline = time.monotonic() + PATIENCE_S
        while True:  # until everything is painted
            with urlopen(address + "now") as answer:
                version = re.search(r'name="version" value="(\w+)"', answer.read().decode())
            assert version is not None
            if status_of(address, f"now?version={version[1]}") == 204:
                break
            assert time.monotonic() < deadline
        assert status_of(address, f"now?version={version[1]}&scan=2") == 200
        run.commit(state="pause")
        assert status_of(address, f"now?version={version[1]}") == 200
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert set(after) == set(before)
    assert {path.name for path in after if after[path] != before[path]} <= {
        "journal.sqlite-wal", "journal.sqlite-shm"}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("scans/2/levelled.png", 200),
        ("scans/2/network.png?of=1", 200),
        ("scans/9999/levelled.png", 404),
        ("scans/2/other.png", 404),
        ("scans/99999999999999999999999/levelled.png", 404),
        ("areas/0/9_9.webp", 404),
        ("areas/0/a_b.webp", 404),
        ("areas/77777777777777777777777/0_0.webp", 404),
        ("?scan=x&kind=<b>&area=-1&rows=99999999999999999999&events=%00", 200),
        ("?scan=999999999&area=999999999&rows=999999999", 200),
        ("series?after=999999999", 200),
        ("series?after=x", 200),
        ("areas/0/at?x=nan&y=1", 200),
        ("areas/0/at?x=a", 400),
        ("nothing", 404),
    ],
)
def test_whatever_is_asked_for_is_answered(run: InventedRun, path: str, status: int) -> None:
    with watched(run.journal.run) as address:
        assert status_of(address, path) == status


def test_many_windows_at_once(run: InventedRun) -> None:
    """Handlers run in threads, over one painter."""
    statuses: list[int] = []
    with watched(run.journal.run) as address:

        def look() -> None:
            for _ in range(10):
                statuses.append(status_of(address, "now"))
                statuses.append(status_of(address, "areas/0/0_0.webp"))

        threads = [threading.Thread(target=look) for _ in range(6)]
        for thread in threads:
            thread.start()
        for number in range(20):
            run.scan(Label.GOOD, 0.9)
            run.commit(state="image", images=number)
        for thread in threads:
            thread.join()
    assert set(statuses) <= {200, 404}
    assert statuses.count(200) > len(statuses) / 2
