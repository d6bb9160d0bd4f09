"""The labelling page in a browser: keys, thumbs, several people, and training on what they say."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from spm_gym.cli import train
from spm_gym.datasets.manifest import MANIFEST
from spm_gym.web.access import Access
from spm_gym.web.labelling.candidates import Image, find_candidates
from spm_gym.web.labelling.pictures import scale_bar
from tests.support.browsing import Faults, inaccessible, overflow
from tests.support.labelling import (
    HOSTILE,
    answer,
    displayed_file,
    labels_in,
    name_oneself,
    page_for,
    press,
    rows,
    ten_scans,
)
from tests.support.scripted_runs import Verdicts, lab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return ten_scans(tmp_path / "scans")


@pytest.mark.slow
def test_ten_images_with_the_keyboard_and_training_on_them(
    page: Page, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with page_for(folder) as address:
        page.goto(address)
        page.get_by_label("Name").fill("Anna")
        page.keyboard.press("Enter")
        page.wait_for_url(address)
        press(page, "b", "g", "b", "b", "b", "u", "u")
        assert displayed_file(page) == "3.npy"
        assert labels_in(folder) == {
            "0.npy": "bad", "1.npy": "good", "2.npy": "bad", "3.npy": "", "4.npy": "",
        }  # fmt: skip
        press(page, "g", "s", "Backspace", "b", "Space", "b", "g", "b", "g")
        page.wait_for_url("**/done")
        assert "9 of 10 images" in page.locator("main").inner_text()
        page.get_by_role("button", name="Look at 1 skipped again").click()
        page.wait_for_url(address)
        assert displayed_file(page) == "5.npy"
        page.keyboard.press("g")
        page.wait_for_url("**/done")
        page.get_by_role("heading", name="All labelled").wait_for()
        assert "5 good and 5 bad images" in page.locator("main").inner_text()
        command = page.locator("#train-command").inner_text()
    assert labels_in(folder, "by Anna") == {
        f"{n}.npy": "good" if n % 2 else "bad" for n in range(10)
    }
    assert str(folder) in command
    smoke = ["--config", str(ROOT / "configs" / "smoke.yaml"), "--run-dir", str(tmp_path / "run")]
    assert train.main(["classifier", "--data", str(folder), *smoke]) == 0
    out = capsys.readouterr().out
    assert "5 good and 5 bad images" in out
    assert "averaged to 64 x 64 px: 1 of 160 x 160 px" in out


def test_looking_back_and_looking_differently(page: Page, folder: Path) -> None:
    with page_for(folder, labeller="Anna") as address:
        page.goto(address)
        press(page, "g", "b")
        press(page, "ArrowLeft")
        assert displayed_file(page) == "1.npy"
        assert "Your label: bad" in page.locator(".facts").inner_text()
        press(page, "ArrowRight")
        assert displayed_file(page) == "2.npy"
        assert labels_in(folder) == {"0.npy": "good", "1.npy": "bad"}
        for view in ("raw", "network", "levelled", "raw"):
            page.keyboard.press("v")
            assert f"view={view}" in page.locator(".image").get_attribute("src")
        press(page, "g")
        assert "view=raw" in page.locator(".image").get_attribute("src")
        page.reload()
        assert "view=raw" in page.locator(".image").get_attribute("src")
        peeked = page.locator(".peeked")
        assert peeked.is_hidden()
        page.keyboard.press("p")
        assert "No classifier" in peeked.inner_text()
        page.keyboard.press("?")
        assert page.get_by_role("dialog").is_visible()
        page.keyboard.press("g")
        page.keyboard.press("Escape")
        assert labels_in(folder) == {"0.npy": "good", "1.npy": "bad", "2.npy": "good"}


def test_every_view_has_the_scale_of_its_own_colours(page: Page, folder: Path) -> None:
    with page_for(folder, labeller="Anna") as address:
        page.goto(address)
        scales = set()
        for view in ("levelled", "raw", "network"):
            page.get_by_label(view, exact=True).check()
            scale = page.locator("#desk .heights")
            source = scale.get_attribute("src")
            assert f"view={view}" in source
            assert scale.evaluate("image => image.decode().then(() => image.naturalWidth > 0)")
            drawn = urllib.request.urlopen(address + source.lstrip("/"), timeout=30).read().decode()
            scales.add(re.search(r"dark to bright: ([\d.]+ [pnµ]m)", drawn)[1])
        assert "300 pm" in scales
        assert len(scales) == 3


def test_keys_can_be_switched_off(page: Page, folder: Path) -> None:
    with page_for(folder, labeller="Anna") as address:
        page.goto(address)
        switch = page.get_by_role("switch", name="Keys")
        switch.click()
        for _ in range(2):
            assert page.locator("kbd").first.is_hidden()
            for key in "gbsuvp?":
                page.keyboard.press(key)
            assert displayed_file(page) == "0.npy"
            assert not page.get_by_role("dialog").is_visible()
            assert "view=levelled" in page.locator(".image").get_attribute("src")
            page.reload()  # they stay off
        assert not (folder / MANIFEST).exists()
        page.get_by_role("button", name="Bad").click()
        page.get_by_text("Saved: bad 0.npy").wait_for()
        assert not switch.is_checked()
        switch.focus()
        page.keyboard.press("Space")
        assert switch.is_checked()
        press(page, "g")
    assert labels_in(folder) == {"0.npy": "bad", "1.npy": "good"}


def test_nobody_classifies_what_is_not_seen(page: Page, folder: Path, faults: Faults) -> None:
    with page_for(folder, labeller="Anna") as address:
        faults.expect("404")
        (folder / "1.npy").unlink()
        page.goto(address)
        press(page, "g")
        page.get_by_text("This image cannot be displayed").wait_for()
        page.keyboard.press("b")
        press(page, "Space")
        assert displayed_file(page) == "2.npy"
        assert labels_in(folder) == {"0.npy": "good"}


def test_a_button_that_was_clicked_does_not_take_the_space(page: Page, folder: Path) -> None:
    with page_for(folder, labeller="Anna") as address:
        page.goto(address)
        page.get_by_role("button", name="Good").click()
        page.get_by_text("Saved: good 0.npy").wait_for()
        press(page, "Space")
        page.get_by_text("Skipped 1.npy").wait_for()
        # But who has gone there with the keyboard means it.
        page.get_by_role("button", name="Bad").focus()
        press(page, "Space")
        assert labels_in(folder) == {"0.npy": "good", "2.npy": "bad"}


def test_two_people_and_their_agreement(page: Page, folder: Path) -> None:
    with page_for(folder) as address:
        name_oneself(page, address, "Anna")
        press(page, *"gbgbg")
        name_oneself(page, address, "Ben")
        assert displayed_file(page) == "0.npy"
        assert "Your label" not in page.content()
        press(page, *"gbbb")
        page.goto(address + "disagreements")
        text = page.locator("main").inner_text()
        assert "Anna and Ben: the same label on 3 of the 4 images that both labelled (75 %)" in text
        assert "kappa: too few images to tell (4 of 20)" in text
        assert labels_in(folder)["2.npy"] == "disputed"
        assert "size unknown, bias and setpoint unknown" in text.replace("64 × 64 px, ", "")
        colours = page.locator(".entries .heights").first
        colours.scroll_into_view_if_needed()
        assert colours.evaluate("image => image.decode().then(() => image.clientWidth > 50)")
        consensus = page.get_by_role("form", name="Consensus on 2.npy")
        consensus.get_by_role("button", name="Sample").click()
        page.locator('[aria-pressed="true"]', has_text="Sample").wait_for()
        assert labels_in(folder)["2.npy"] == "sample"
        assert labels_in(folder, "consensus")["2.npy"] == "sample"
        name_oneself(page, address, "Eve")
        page.goto(address + "disagreements")
        assert "1 more on images that you have not labelled" in page.locator("main").inner_text()
        assert "2.npy" not in page.content()


def test_what_is_not_saved_says_so(page: Page, folder: Path, faults: Faults) -> None:
    for fault in ("409", "ERR_CONNECTION_REFUSED", "htmx:sendError", "htmx:afterRequest"):
        faults.expect(fault)
    with page_for(folder, labeller="Anna") as address:
        page.goto(address)
        press(page, "g")
        good = (folder / MANIFEST).read_text()
        (folder / MANIFEST).write_text("somebody's half")
        page.keyboard.press("b")
        page.get_by_role("alert").get_by_text("nothing is saved until it is repaired").wait_for()
        assert displayed_file(page) == "1.npy"
        (folder / MANIFEST).write_text(good)
        press(page, "b")
        assert page.get_by_role("alert").is_hidden()
        assert labels_in(folder) == {"0.npy": "good", "1.npy": "bad"}
    page.keyboard.press("g")
    page.get_by_role("alert").get_by_text("No answer from the server").wait_for()
    assert displayed_file(page) == "2.npy"


def test_the_token_from_another_computer(page: Page, folder: Path, faults: Faults) -> None:
    faults.expect("401")
    faults.expect("403")
    access = Access("correct horse", "0.0.0.0", acting_is_free=True)
    with page_for(folder, access) as address:
        page.goto(address)
        assert "Token needed" in page.content()
        for path in ("image?file=0.npy", "disagreements", "done"):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(address + path)
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("That is not the token").wait_for()
        page.wait_for_timeout(1100)  # for a second nobody is believed
        page.get_by_label("Token").fill("correct horse")
        page.keyboard.press("Enter")
        page.wait_for_url(address + "name")
        name_oneself(page, address, "Anna")
        press(page, "g")
        assert labels_in(folder) == {"0.npy": "good"}


def test_requests_that_make_no_sense(folder: Path) -> None:
    with page_for(folder, labeller="Anna") as address:
        assert answer(address, "../../etc/passwd") == 400
        assert answer(address, "0.npy", answer="=1+1") == 400
        assert answer(address, "0.npy", labeller="Ben") == 400
        assert not (folder / MANIFEST).exists()
        assert answer(address, "0.npy") == 200
        for path in ("image?file=../x.npy", "?file=nowhere"):
            with pytest.raises(urllib.error.HTTPError, match="40"):
                urllib.request.urlopen(address + path)
    assert labels_in(folder) == {"0.npy": "good"}


def test_names_of_files_and_people_are_text(page: Page, folder: Path, faults: Faults) -> None:
    faults.expect("422")
    hostile = folder / f"{HOSTILE}.npy".replace("/", "")
    (folder / "0.npy").rename(hostile)
    with page_for(folder) as address:
        page.goto(address + "name")
        page.get_by_label("Name").fill("<b>Anna")
        page.keyboard.press("Enter")
        page.get_by_text("A name begins with a letter").wait_for()
        name_oneself(page, address, "Änne O'Neill")
        page.goto(address + "?" + urllib.parse.urlencode({"file": hostile.name}))
        assert displayed_file(page) == hostile.name
        press(page, "g")
        assert f"Saved: good {hostile.name}" in page.locator(".last").inner_text()
        name_oneself(page, address, "Ben")
        page.goto(address + "?" + urllib.parse.urlencode({"file": hostile.name}))
        press(page, "b")
        page.goto(address + "disagreements")
        assert page.get_by_role("heading", name=hostile.name).is_visible()
        assert page.locator(".entries .image").evaluate("image => image.decode().then(() => 1)")
    assert labels_in(folder, "by Änne O'Neill")[hostile.name] == "good"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_everybody_can_use_it(page: Page, folder: Path, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    (folder / "0.npy").rename(folder / f"{'long' * 40}.npy")
    with page_for(folder) as address:
        page.goto(address)
        assert inaccessible(page) == []
        for name, keys in (("Anna", "gbs"), ("Ben", "ggg")):
            name_oneself(page, address, name)
            press(page, *keys)
        press(page, "ArrowLeft")
        page.keyboard.press("p")
        for path in ("", "done", "disagreements"):
            if path:
                page.goto(address + path)
            assert inaccessible(page) == []
            assert overflow(page) == 0
            for button in page.get_by_role("button").all():
                assert button.bounding_box()["height"] >= 44


def test_a_phone_has_image_and_answers_without_scrolling(browser: Browser, folder: Path) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    with page_for(folder, labeller="Anna") as address:
        page.goto(address)
        assert page.locator(".image").bounding_box()["width"] == 390
        good = page.get_by_role("button", name="Good")
        place = good.bounding_box()
        assert page.get_by_role("button", name="Undo").is_visible()
        for name in ("Good", "Bad", "Sample", "Skip", "Undo"):
            box = page.get_by_role("button", name=name).bounding_box()
            assert box["y"] + box["height"] <= 700
        good.tap()
        page.get_by_text("Saved: good 0.npy").wait_for()
        assert good.bounding_box() == place
    context.close()
    assert labels_in(folder) == {"0.npy": "good"}


def test_a_run_shows_its_whole_classified_images(tmp_path: Path, page: Page) -> None:
    run = tmp_path / "monday"
    verdicts = Verdicts(0.95, 0.02, 0.02, 0.5, 0.95, 0.95)
    with lab(run, verdicts, "env.max_steps=3", "operation.scans=6") as it:
        it.runner.run()
        classified = [
            label for label in it.labels() if label not in ("discarded", "unusable", None)
        ]
    assert len(find_candidates(run)) == len(classified) > 3
    with page_for(run, labeller="Anna") as address:
        page.goto(address)
        assert re.search(r"10 × 10 nm", page.locator(".facts").inner_text())
        press(page, "g")
    [(file, row)] = rows(run).items()
    assert (file, row["session"]) == (find_candidates(run)[0].file, "monday area 0")


@pytest.mark.parametrize(
    ("width", "share", "words"),
    [(1e-8, 0.2, "2 nm"), (2.5e-8, 0.4, "10 nm"), (3e-9, 1 / 3, "1 nm"), (1e-6, 0.2, "200 nm")],
)
def test_scale_bars_are_round(width: float, share: float, words: str) -> None:
    image = Image("a", Path("a"), 64, width, width)
    assert scale_bar(image) == (pytest.approx(share), words)
