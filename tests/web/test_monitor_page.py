"""The live page in a real browser: what somebody sees and does, on a phone and on a desk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from spm_gym.journal.reader import Label
from spm_gym.types import Forecast
from tests.support.browsing import inaccessible, overflow
from tests.support.invented_runs import NM, PULSE, InventedRun
from tests.support.watching import PHONE, leave, text_of, visit, wait_for, watched

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow


def test_everything_is_there(page: Page, address: str) -> None:
    page.goto(address)
    assert text_of(page, "#sentence") == "Taking image 13 at 20, 10 nm"
    assert "Image 13" in text_of(page, "#scan")
    assert page.locator("#scan .picture img").evaluate("image => image.decode().then(() => true)")
    assert f"{PULSE}, action 1 of episode 2" in text_of(page, "#decision")
    assert "2.0 actions on average" in text_of(page, "#lengths")
    assert "s of the instrument" in text_of(page, "#lengths")
    assert "crash: seen in the image" in text_of(page, "#events")
    assert page.locator("#scan svg[role=img]").get_attribute("aria-label").endswith(" pm")
    page.wait_for_selector("#chart canvas")
    page.wait_for_selector("#map image", state="attached")
    assert page.title().startswith("Taking image 13")


def test_a_belief_agent_explains_itself_also_on_a_phone(
    page: Page, address: str, run: InventedRun
) -> None:
    belief = (0.1, 0.0, 0.0, 0.0, 0.9, *[0.0] * 11)
    to_go = tuple(float(number) for number in range(2, 14))
    forecast = Forecast(belief, tuple(0.8 / actions for actions in to_go), to_go)
    run.condition([PULSE], outcome=None, mask=[True] * 12, forecast=forecast)
    run.commit()
    page.set_viewport_size(PHONE)
    page.goto(address)
    assert "believed to be weak (90 %), or good (10 %)" in text_of(page, "#decision")
    cells = page.locator("#decision table.choices tbody tr").first.inner_text().split()
    assert {"40", "%", "2.0,", "s"} <= set(cells)
    assert not overflow(page)
    assert not inaccessible(page)


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
    planned = page.locator(".legend .planned")
    assert planned.evaluate("frame => getComputedStyle(frame).stroke") != "none"


def test_on_a_phone_the_scan_comes_first_and_status_and_buttons_are_a_tap_away(
    page: Page, run: InventedRun
) -> None:
    page.set_viewport_size(PHONE)
    page.emulate_media(reduced_motion="reduce")
    with watched(run.journal.run, "a token") as address:
        page.goto(f"{address}?token=a+token")
        page.wait_for_selector("#scan .picture img")
        assert top_of(page, "#scan") < 150
        # All of the picture without scrolling.
        picture = page.locator("#scan .picture").bounding_box()
        assert picture is not None
        assert picture["y"] + picture["height"] < PHONE["height"]
        assert top_of(page, "#scan") < top_of(page, "#status") < top_of(page, "#decision")
        strip = page.locator(".strip")
        assert strip.get_by_text("Taking image 13 at 20, 10 nm").is_visible()
        page.locator("#events").scroll_into_view_if_needed()
        assert 0 <= top_of(page, ".strip") < 5
        strip.get_by_role("link", name="Pause, stop").click()
        wait_for(page, lambda: 0 < top_of(page, "#control") < PHONE["height"] - 100)
        assert page.get_by_role("button", name="Stop and withdraw").is_visible()
        strip.get_by_role("link", name="Taking image 13").click()
        wait_for(page, lambda: 0 < top_of(page, "#status") < 120)
        assert not inaccessible(page)
        page.set_viewport_size({"width": 1400, "height": 900})
        assert top_of(page, "#status") < top_of(page, "#scan")
        assert not strip.is_visible()
        leave(page)


def test_what_somebody_has_to_look_at_stays_first_on_a_phone(
    page: Page, run: InventedRun, address: str
) -> None:
    run.journal.add_event(0.0, "unsafe end", "asked to stop; TIP NOT WITHDRAWN: motor off")
    run.commit(state="stop", ending="asked to stop")
    run.end()
    page.set_viewport_size(PHONE)
    page.goto(address)
    assert text_of(page, "#sentence").startswith("Look at the instrument")
    assert top_of(page, "#status") < top_of(page, "#scan")
    assert not page.locator(".strip").is_visible()


def test_height_and_current_have_charts(page: Page, run: InventedRun, address: str) -> None:
    scan = run.scan(Label.GOOD, 0.9, z_range=(-100 * NM, 100 * NM))
    run.journal.record_reading(scan, current=25e-12)
    run.commit()
    page.goto(address)
    assert "the band is what the z piezo reaches, −100 nm to 100 nm" in text_of(page, "#trend")
    assert "Current: 25 pA" in text_of(page, "#trend")
    for chart in page.locator("#trend svg path").all():
        box = chart.bounding_box()
        assert box is not None
        assert box["x"] >= 0


def test_after_an_end_by_missing_data_the_last_usable_scan_is_displayed(
    page: Page, run: InventedRun, address: str
) -> None:
    number = run.scan(Label.UNUSABLE)
    run.journal.label_scan(number, Label.UNUSABLE, "partial")
    run.journal.add_event(0.0, "end", "6 troubles in a row; tip withdrawn")
    run.commit(state="stop", ending="6 troubles in a row", failed=True)
    run.end()
    page.goto(address)
    assert text_of(page, "#scan h2") == "Last usable scan"
    said = f"The run ended on scan {number}, which cannot be used (partial). This is scan "
    assert said in text_of(page, "#scan")
    assert page.locator("#scan").get_attribute("data-scan") == str(number - 1)
    page.get_by_role("button", name="Show the one it ended on").click()
    wait_for(page, lambda: page.locator("#scan").get_attribute("data-scan") == str(number))
    assert text_of(page, "#scan h2") == "Earlier scan"


@pytest.mark.parametrize(
    ("hours", "most", "words"),
    [
        (0.05, 6, ["0 min", "0.5 min", "1 min", "1.5 min", "2 min", "2.5 min", "3 min"]),
        (1.5, 4, ["0 min", "30 min", "60 min", "90 min"]),
        (12.0, 3, ["0 h", "6 h", "12 h"]),
        (120.0, 4, ["0 d", "2 d", "4 d"]),
    ],
)
def test_the_chart_counts_minutes_hours_or_days(
    page: Page, address: str, hours: float, most: int, words: list[str]
) -> None:
    page.goto(address)
    code = """async ([high, most]) => {
        const chart = await import("/static/chart.js");
        return chart.inWords(chart.splits(0, high, most), high);
    }"""
    assert page.evaluate(code, [hours, most]) == words


def top_of(page: Page, selector: str) -> float:
    box = page.locator(selector).bounding_box()
    assert box is not None
    return box["y"]


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
    # On a busy machine the page may still be settling: what comes late must not count as moved.
    wait_for(page, lambda: page.evaluate("[...document.images].every(image => image.complete)"))
    before = page.locator("#kind-of-event").bounding_box()
    assert before is not None
    run.scan(Label.GOOD, 0.987)
    run.journal.add_event(0.0, "trouble", "connection: it broke")
    run.commit(state="pause", images=14)
    wait_for(page, lambda: "connection: it broke" in text_of(page, "#events"))
    assert text_of(page, "#sentence") == "Paused"
    assert "Image 14" in text_of(page, "#scan")
    # Browsers scroll by whole pixels; a line of text has 20.
    assert page.locator("#kind-of-event").bounding_box() == pytest.approx(before, abs=4)
    assert page.evaluate("document.activeElement.id") == "kind-of-event"
    assert page.locator("#kind-network").is_checked()
    assert page.locator("#decision details").get_attribute("open") is not None
    wait_for(page, lambda: page.locator("#announced").inner_text() == "Paused")
    page.reload()
    wait_for(page, lambda: page.locator("#kind-network").is_checked())


def test_the_zoom_of_the_chart_outlives_news(page: Page, run: InventedRun, address: str) -> None:
    with page.expect_response(lambda answer: "/series" in answer.url):
        visit(page, address)
    canvas = page.locator("#chart .u-over")
    canvas.wait_for()
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
    page.emulate_media(reduced_motion="reduce")  # whatever scrolls, scrolls at once
    page.set_viewport_size(PHONE)
    page.goto(address)
    page.wait_for_selector("#map image", state="attached")
    page.locator("svg.area").scroll_into_view_if_needed()
    ground = page.locator("#map .ground").bounding_box()
    assert ground is not None
    side, left, top = (
        float(page.locator("#map .ground").get_attribute(name) or "nan")
        for name in ("width", "x", "y")
    )
    scale = ground["width"] / side
    third = run.journal.scan(6).frame
    x, y = third.x / NM - left, -third.y / NM - top
    before = page.evaluate("scrollY")
    assert before > 0
    with page.expect_response(lambda answer: "/at?" in answer.url):
        page.mouse.click(ground["x"] + 4, ground["y"] + 4)  # nothing is there
    page.wait_for_timeout(100)
    assert page.evaluate("scrollY") == before
    box = page.locator("svg.area").bounding_box()
    assert box is not None
    place = {"x": ground["x"] - box["x"] + scale * x, "y": ground["y"] - box["y"] + scale * y}
    page.locator("svg.area").click(position=place)
    wait_for(page, lambda: "Image 3 " in text_of(page, "#scan"))
    assert page.locator("#map .displayed").count() == 1


def test_a_scan_is_found_by_its_number_without_a_pointer(page: Page, address: str) -> None:
    visit(page, address)
    page.get_by_label("Scan", exact=True).focus()
    page.keyboard.type("4")
    page.keyboard.press("Enter")
    wait_for(page, lambda: "Image 2 " in text_of(page, "#scan"))
    assert page.get_by_role("button", name="Follow").get_attribute("aria-pressed") == "false"
    page.get_by_label("Scan", exact=True).fill("999999")
    page.get_by_role("button", name="Go", exact=True).click()
    wait_for(page, lambda: "Image 13 " in text_of(page, "#scan"))


def test_only_what_matters_is_spoken(page: Page, run: InventedRun, address: str) -> None:
    visit(page, address)
    spoken = page.locator("#announced")
    run.commit(state="condition", episode=2, steps=1)
    wait_for(page, lambda: "Conditioning" in text_of(page, "#sentence"))
    run.commit(state="pause")
    wait_for(page, lambda: spoken.inner_text() == "Paused")
    run.commit(state="recover", trouble="crash")
    wait_for(page, lambda: "Recovering" in text_of(page, "#sentence"))
    page.wait_for_timeout(1500)  # it could have been spoken by now
    assert spoken.inner_text() == "Paused"
    run.journal.add_event(0.0, "end", "12 hours are over; tip withdrawn")
    run.commit(state="stop", ending="12 hours are over")
    run.end()
    wait_for(page, lambda: spoken.inner_text() == "Ended: 12 hours are over; tip withdrawn")


def test_the_focus_and_refusals_of_the_controls(page: Page, run: InventedRun) -> None:
    with watched(run.journal.run, "token") as address:
        visit(page, f"{address}?token=token")
        refused = page.locator("#refused")
        page.route("**/control", lambda route: route.fulfill(status=200, body="Not now."))
        page.get_by_role("button", name="Pause").click()
        wait_for(page, lambda: refused.inner_text() == "Not now.")
        page.unroute("**/control")
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("status").filter(has_text="Asked to pause").wait_for()
        assert refused.inner_text() == ""
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Stop and withdraw").focus()
        page.keyboard.press("Enter")
        page.get_by_role("status").filter(has_text="Asked to stop").wait_for()
        run.commit(state="stop", ending="asked to stop")
        run.end()
        page.get_by_text("Nothing is at work.").wait_for()
        wait_for(page, lambda: page.evaluate("document.activeElement.id") == "control-title")
        leave(page)


def test_older_events_come_on_demand(page: Page, run: InventedRun, address: str) -> None:
    for number in range(60):
        run.journal.add_event(0.0, "approach", f"number {number}.")
    run.commit(state="image")
    page.goto(address)
    assert "number 59." in text_of(page, "#events")
    assert "number 5." not in text_of(page, "#events")
    page.get_by_role("button", name="Show older ones").click()
    wait_for(page, lambda: "number 5." in text_of(page, "#events"))


@pytest.mark.parametrize("area", [0, 1])
def test_older_areas_can_be_chosen(page: Page, run: InventedRun, address: str, area: int) -> None:
    run.enter_area("bad sample")
    run.scan(Label.GOOD, 0.9)
    run.commit(state="image", area=1)
    page.goto(address)
    page.select_option("#area", str(area))
    wait_for(page, lambda: page.locator(f"#tile-{area}-0-0").count() == 1)
    assert f"Approach area {area}" in text_of(page, "#map")
