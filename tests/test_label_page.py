"""The labelling page in a browser: keys, thumbs, several people, and training on what they say."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browsing import Faults, inaccessible, overflow, served
from scripted_runs import Verdicts, lab

from spm_gym import cli
from spm_gym.cli import train
from spm_gym.imaging.manifest import MANIFEST
from spm_gym.web.access import Access
from spm_gym.web.labelling.candidates import find_candidates, in_order, read_images
from spm_gym.web.labelling.desk import Desk
from spm_gym.web.labelling.labels import Labels
from spm_gym.web.labelling.page import Setup, labelling
from spm_gym.web.labelling.pictures import scale_bar

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parent.parent
HOSTILE = "<img src=x onerror=alert(1)>'\"&{{ 7*7 }}"
FREE = Access(None, "127.0.0.1", acting_is_free=True)


def scan(seed: int, side: int = 64) -> np.ndarray:
    """A tilted plane with molecules, which even numbers show twice."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    z = 1e-10 * y - 2e-10 * x + 3e-12 * rng.standard_normal((side, side))
    for row, col in rng.random((4, 2)):
        z[np.hypot(y - row, x - col) < 0.08] += 2e-10
        if seed % 2 == 0:
            z[np.hypot(y - row - 0.1, x - col) < 0.08] += 1e-10
    return np.asarray(z, np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten scans, one of them larger."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for n in range(10):
        np.save(folder / f"{n}.npy", scan(n, 160 if n == 3 else 64))
    return folder


@contextmanager
def page_for(folder: Path, access: Access = FREE, labeller: str | None = None) -> Iterator[str]:
    """Serve the page, in the order of names; gives its address."""
    found = find_candidates(folder)
    with Labels(folder, found) as labels:
        images, _ = read_images(found, 64, "levels", None, lambda count: None)
        desk = Desk(in_order(images, "name", labels.labelled_before), labels)
        with served(labelling(desk, Setup(folder, 64, "levels", labeller), access)) as address:
            yield address


STATE = "() => ['.file', '.last', '.progress p'].map(one => document.querySelector(one).innerText)"
READY = f"""before => location.pathname === '/done' ||
    ({STATE})().some((now, n) => now !== before[n]) && document.querySelector('.image').complete &&
    !document.querySelector('.htmx-request, .htmx-swapping, .htmx-settling')"""


def press(page: Page, *keys: str) -> None:
    """Press keys as a person does: the next one when the next image is there."""
    for key in keys:
        before = page.evaluate(STATE)
        page.keyboard.press(key)
        page.wait_for_function(READY, arg=before)


def name_oneself(page: Page, address: str, name: str) -> None:
    page.goto(address + "name")
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url(address)


def shown(page: Page) -> str:
    return page.locator("#desk .file").inner_text()


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / MANIFEST).open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def labels_in(folder: Path, column: str = "label") -> dict[str, str]:
    return {file: row[column] for file, row in rows(folder).items()}


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
        assert shown(page) == "3.npy"
        assert labels_in(folder) == {
            "0.npy": "bad", "1.npy": "good", "2.npy": "bad", "3.npy": "", "4.npy": "",
        }  # fmt: skip
        press(page, "g", "s", "Backspace", "b", "Space", "b", "g", "b", "g")
        page.wait_for_url("**/done")
        assert "9 of 10 images" in page.locator("main").inner_text()
        page.get_by_role("button", name="Look at 1 skipped again").click()
        page.wait_for_url(address)
        assert shown(page) == "5.npy"
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
        assert shown(page) == "1.npy"
        assert "You said: bad" in page.locator(".facts").inner_text()
        press(page, "ArrowRight")
        assert shown(page) == "2.npy"
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


def test_nobody_judges_what_is_not_seen(page: Page, folder: Path, faults: Faults) -> None:
    with page_for(folder, labeller="Anna") as address:
        faults.expect("404")
        (folder / "1.npy").unlink()
        page.goto(address)
        press(page, "g")
        page.get_by_text("This image cannot be shown").wait_for()
        page.keyboard.press("b")
        press(page, "Space")
        assert shown(page) == "2.npy"
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
        assert shown(page) == "0.npy"
        assert "You said" not in page.content()
        press(page, *"gbbb")
        page.goto(address + "disagreements")
        text = page.locator("main").inner_text()
        assert "Anna and Ben: the same label on 3 of the 4 images that both labelled (75 %)" in text
        assert "kappa: too few images to tell (4 of 20)" in text
        assert labels_in(folder)["2.npy"] == "disputed"
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
        page.get_by_role("alert").get_by_text("nothing is saved until it is mended").wait_for()
        assert shown(page) == "1.npy"
        (folder / MANIFEST).write_text(good)
        press(page, "b")
        assert page.get_by_role("alert").is_hidden()
        assert labels_in(folder) == {"0.npy": "good", "1.npy": "bad"}
    page.keyboard.press("g")
    page.get_by_role("alert").get_by_text("No answer from the server").wait_for()
    assert shown(page) == "2.npy"


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
        page.get_by_label("Token").fill("correct horse")
        page.keyboard.press("Enter")
        page.wait_for_url(address + "name")
        name_oneself(page, address, "Anna")
        press(page, "g")
        assert labels_in(folder) == {"0.npy": "good"}


def answer(address: str, file: str, **more: str) -> int:
    fields = {"labeller": "Anna", "file": file, "answer": "good", **more}
    data = urllib.parse.urlencode(fields).encode()
    request = urllib.request.Request(address + "answers", data, {"Sec-Fetch-Site": "same-origin"})
    request.add_header("HX-Request", "true")
    try:
        with urllib.request.urlopen(request) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


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
        assert shown(page) == hostile.name
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


def test_a_run_shows_its_whole_judged_images(tmp_path: Path, page: Page) -> None:
    run = tmp_path / "monday"
    verdicts = Verdicts(0.95, 0.02, 0.02, 0.5, 0.95, 0.95)
    with lab(run, verdicts, "env.max_steps=3", "operation.scans=6") as it:
        it.runner.run()
        judged = [label for label in it.labels() if label not in ("discarded", "unusable", None)]
    assert len(find_candidates(run)) == len(judged) > 3
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
    assert scale_bar(width) == (pytest.approx(share), words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["nowhere", "no such folder"]),
        (["scans", "--labeller", "=x"], ["=x", "begins with a letter"]),
        (["scans", "--host", "0.0.0.0"], ["--host 0.0.0.0", "--token"]),
        (["scans", "--classifier", "gone.safetensors"], ["gone.safetensors"]),
        (["empty"], ["no image to label"]),
    ],
)
def test_wrong_requests_get_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(folder.parent)
    (folder.parent / "empty").mkdir()
    assert cli.main(["label", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    for word in words:
        assert word in error


class Started:
    """The command, in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "spm_gym", "label", str(folder), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        lines = iter(self.process.stdout.readline, "")
        self.lines = []
        for line in lines:
            self.lines.append(line)
            if found := re.search(r"http://\S+", line):
                self.address = found[0]
                return
        raise AssertionError(f"it did not start: {self.lines}")

    def end(self, how: signal.Signals) -> int:
        os.kill(self.process.pid, how)
        status = self.process.wait()
        self.process.stdout.close()
        return status


@pytest.mark.slow
def test_a_kill_loses_no_label(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(folder / "flat.npy", np.zeros((32, 64)))
    first = Started(folder, "--labeller", "Anna", "--classifier", "none")
    assert any("flat.npy: the image has 32 x 64 px" in line for line in first.lines)
    assert cli.main(["label", str(folder), "--classifier", "none"]) == 2
    assert "labelled by another program" in capsys.readouterr().err
    for n in range(4):
        assert answer(first.address, f"{n}.npy", answer="bad") == 200
    first.end(signal.SIGKILL)
    assert labels_in(folder) == dict.fromkeys((f"{n}.npy" for n in range(4)), "bad")
    (folder / ".manifest-1.csv").write_text("file,lab")  # what a kill may leave
    second = Started(folder, "--labeller", "anna")  # with the classifier of the package
    with urllib.request.urlopen(second.address) as response:
        text = response.read().decode()
    assert "4 of 10 labelled" in text
    assert "% good" in text
    assert answer(second.address, "5.npy", labeller="Anna") == 200
    assert second.end(signal.SIGINT) == 0
    assert len(rows(folder)) == 5
    assert not list(folder.glob(".manifest*"))
