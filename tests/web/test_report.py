"""The report of a run: what it counts, what it shows, and that nothing gets out of or into it."""

from __future__ import annotations

import base64
import io
import sqlite3
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from spm_gym.cli import report as command
from spm_gym.cli import run_command
from spm_gym.envs.regions import Mark
from spm_gym.figures.heights import grey_values
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.journal.reader import JOURNAL, Label, reading
from spm_gym.journal.writer import Journal, SessionRecord
from spm_gym.runner.run_state import RunState
from spm_gym.web.report import render_report, write_report
from tests.support.browsing import inaccessible, overflow
from tests.support.invented_runs import DIP, HOSTILE, PULSE, InventedRun, eventful, surface

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InventedRun]:
    with eventful(tmp_path) as run:
        yield run


class Read(HTMLParser):
    """Tags, tables and words of a page."""

    VOID = {"meta", "img", "source", "br", "rect", "image", "path", "circle"}  # noqa: RUF012

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.open: list[str] = []
        self.words: list[str] = []
        self._caption = ""
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self._caption = ""
        if tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        if tag in ("th", "td"):
            self.tables[self._caption][-1].append("")
        self.words.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if "caption" in self.open:
            self._caption += data
        elif self.open and self.open[-1] in ("th", "td", "code") and "tr" in self.open:
            self.tables[self._caption][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def table(self, caption: str) -> list[list[str]]:
        """Rows below the head of the table whose caption begins so."""
        (rows,) = (rows for name, rows in self.tables.items() if name.startswith(caption))
        return [[cell.strip() for cell in row] for row in rows[1:]]


def page_of(path: Path) -> Read:
    return Read(render_report(path).html)


def test_the_page_shows_the_numbers_of_the_journal(run: InventedRun) -> None:
    page = page_of(run.journal.run)
    scans = {row[0]: int(row[1]) for row in page.table("Scans by label")}
    assert scans == {
        "good": 9, "bad probe": 7, "bad sample": 1, "conditioning": 5, "unusable": 1,
        "discarded": 12, "undecided": 1,
    }  # fmt: skip
    for figure in (
        "Images 24 and 12 partial or discarded scans",
        "Good images 9",
        f"Share good {100 * 9 / 16:.1f} % of 16 classified images",
        "Conditioning episodes 3",
        "1 limit, 1 under way",
        "Actions 5 decided",
        "Recoveries 3 1 failed, 1 recovered, 1 under way",
        "Approach areas 2 1 start of the program",
        "Unknown outcomes 1 of physical acts; 1 under way",
        "24 of 24 images are painted",
        "Taking image 1",
    ):
        assert figure in page.text


def test_conditioning_is_told_action_by_action(run: InventedRun) -> None:
    rows = page_of(run.journal.run).table("Conditioning episodes")
    assert [(row[6], row[7], row[8].replace("\u00a0", " ")) for row in rows] == [
        ("3", "good", f"2 × {PULSE} → {DIP}"),
        ("1", "limit", DIP),
        ("1", "under way", PULSE),
    ]


def test_acts_without_a_certain_outcome_are_named(run: InventedRun) -> None:
    rows = page_of(run.journal.run).table("Acts with unknown outcome")
    assert [row[:2] + row[4:5] for row in rows] == [
        ["2", "pulse", "unknown"],
        ["3", "pulse", "none: under way, or the program was killed"],
    ]
    assert '"bias": 4.0' in rows[0][2]


def test_a_page_needs_nothing_from_elsewhere(run: InventedRun) -> None:
    page = page_of(run.journal.run)
    addresses = [
        value
        for _, attributes in page.tags
        for name in ("src", "srcset", "href", "data", "action", "poster")
        if (value := attributes.get(name)) is not None
    ]
    assert len(addresses) > 20
    assert all(address.startswith("data:image/") for address in addresses)
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    policy = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    for address in addresses:
        data = base64.b64decode(address.partition(",")[2], validate=True)
        if address.startswith("data:image/svg"):
            ElementTree.fromstring(data)
        else:
            Image.open(io.BytesIO(data)).load()


def test_pictures_have_words_and_tables_have_heads(run: InventedRun) -> None:
    page = page_of(run.journal.run)
    assert len(page.all("h1")) == 1
    assert all(len(image["alt"] or "") > 10 for image in page.all("img"))
    maps = [svg["aria-label"] for svg in page.all("svg") if svg.get("role") == "img"]
    assert [len(label or "") > 20 for label in maps] == [True, True]
    assert len(page.all("table")) == len(page.all("caption")) == len(page.all("thead"))
    assert "" not in page.tables
    assert all(head.get("scope") in ("row", "col") for head in page.all("th"))


def test_maps_name_their_place_and_what_is_blocked(run: InventedRun) -> None:
    text = page_of(run.journal.run).text
    assert "Area 0, coarse position (+0, +0)" in text
    assert "Area 1, coarse position (+1, -1) – uncertain" in text
    assert f"blocked, conditioning: {PULSE} (2), {DIP} (2)" in text
    assert "blocked, bad sample: bad sample (1)" in text
    assert "blocked, other: crash (1)" in text


def test_nothing_from_the_run_becomes_markup(tmp_path: Path) -> None:
    path = tmp_path / "<b>run"
    path.mkdir()
    (path / "config.yaml").write_text(f"name: {HOSTILE}\n", encoding="utf-8")
    with InventedRun(path) as run:
        run.journal.begin_session(SessionRecord(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: "1"}, True), 2)
        run.enter_area(HOSTILE)
        run.journal.label_scan(run.scan(Label.GOOD, 0.9), Label.GOOD, HOSTILE)
        run.condition([HOSTILE])
        run.journal.add_mark(0, Mark(0.0, 0.0, 1e-8, HOSTILE + "2"))
        run.recovery(HOSTILE, HOSTILE, HOSTILE)
        run.journal.record_act({"act": HOSTILE, "result": "unknown", "time": 0.0, "why": HOSTILE})
        run.journal.add_event(0.0, HOSTILE, HOSTILE)
        run.commit(state="stop", ending=HOSTILE, failed=True)
        page = page_of(path)
    assert not {"script", "b"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all((image["src"] or "").startswith("data:") for image in page.all("img"))
    assert page.text.count("<script>alert(1)</script>") >= 12
    assert "49" not in page.table("Events in their order")[0][2]


def test_a_run_with_nothing_in_it_yet(tmp_path: Path) -> None:
    Journal(tmp_path, RunState.references, durable=False).close()
    page = page_of(tmp_path)
    assert "Not at work: the program was killed before it had done anything" in page.text
    assert f"spm-gym run --resume --run-dir {tmp_path}" in page.text
    assert "Images 0" in page.text
    assert not page.all("img")


@pytest.mark.parametrize(
    ("scans", "words", "unit"), [(3, "1 min", "min"), (30, "10 min", "min"), (540, "3.0 h", "h")]
)
def test_times_are_told_in_the_unit_that_suits_them(
    tmp_path: Path, scans: int, words: str, unit: str
) -> None:
    with InventedRun(tmp_path) as run:
        run.enter_area()
        run.condition([DIP])
        while run.scans < scans:
            run.scan(Label.GOOD, 0.95)
        run.recovery("crash")
        run.commit(elapsed=run.elapsed)
    page = page_of(tmp_path)
    assert f"Operation {words}" in page.text
    assert f"start ({unit})" in page.text
    assert f"time ({unit})" in page.text
    (chart, *_) = [each for each in page.all("img") if "Cumulative" in (each["alt"] or "")]
    assert f"after {words}" in (chart["alt"] or "")
    assert "0.0 h" not in page.text


@pytest.mark.parametrize("width", [390, 1400])
def test_a_report_is_whole_in_narrow_windows(page: Page, run: InventedRun, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.set_content(render_report(run.journal.run).html)
    page.eval_on_selector_all("details", "all => all.forEach(each => (each.open = true))")
    assert overflow(page) == 0
    assert not inaccessible(page)
    charts = page.locator(".chart img")
    assert charts.count() == 4
    for chart in charts.all():
        box = chart.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        # What is 9 points large in the chart can still be read.
        assert box["width"] > 0.75 * chart.evaluate("image => image.naturalWidth")
    for table in page.locator(".scroll").all():  # whatever is wider can be moved with keys
        assert table.get_attribute("tabindex") == "0"


def test_a_run_without_conditioning(tmp_path: Path) -> None:
    with InventedRun(tmp_path) as run:
        run.enter_area()
        for _ in range(3):
            run.scan(Label.GOOD, 0.95)
        run.journal.add_event(0.0, "end", "3 scans are done; tip withdrawn")
        run.commit(state="stop", ending="3 scans are done")
    page = page_of(tmp_path)
    assert "Ended: 3 scans are done" in page.text
    assert "The probe has not been conditioned" in page.text
    assert "None: every physical act has a certain result" in page.text


def test_a_killed_run_is_reported_as_far_as_it_was_committed(run: InventedRun) -> None:
    run.scan(Label.GOOD, 0.99)
    assert "Good images 9" in page_of(run.journal.run).text
    run.end()
    assert "Good images 9" in page_of(run.journal.run).text


def test_damaged_and_missing_files_are_owned_up_to(run: InventedRun) -> None:
    (run.journal.run / "scans" / "000002.gsf").unlink()
    (run.journal.run / "scans" / "000004.gsf").write_bytes(b"nonsense")
    page = render_report(run.journal.run)
    assert set(page.files.unreadable) == {"scans/000002.gsf", "scans/000004.gsf"}
    text = Read(page.html).text
    assert "2 scan files could not be read and are missing" in text
    assert "000004.gsf" in text
    assert "22 of 24 images are painted" in text


def test_a_sample_is_called_one(run: InventedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "maps are a sample" not in page_of(run.journal.run).text
    monkeypatch.setattr("spm_gym.figures.mosaic.MOST_PAINTED", 10)
    text = page_of(run.journal.run).text
    painted = int(text.split(" of 24 images are painted")[0].split()[-1])
    assert 0 < painted <= 10
    assert f"The maps are a sample: {24 - painted} of 24 images are not painted" in text


def test_substrate_is_dark_and_molecules_are_bright() -> None:
    tilted = surface(0)
    grey = grey_values(tilted, Preprocessing())
    assert 30 < np.median(grey) < 60
    assert grey.max() > 190
    assert not grey_values(np.full((64, 64), np.nan), Preprocessing()).any()
    tilted[20:30] = np.nan
    assert np.array_equal(grey_values(tilted, Preprocessing()) == 0, np.isnan(tilted))


def test_the_command_writes_a_whole_page(
    run: InventedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = ArgumentParser()
    command.add_arguments(parser)
    assert run_command(parser, [str(run.journal.run)]) == 0
    assert Read((tmp_path / "report.html").read_text("utf-8")).all("h1")
    assert "report.html" in capsys.readouterr().out
    assert run_command(parser, [str(run.journal.run), "--output", str(tmp_path / "x.html")]) == 0
    assert (tmp_path / "x.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "it is not the directory of a run"),
        (["{run}", "--output", "{run}/journal.sqlite"], "must end in .html"),
    ],
)
def test_the_command_refuses_in_one_line(
    run: InventedRun, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = ArgumentParser()
    command.add_arguments(parser)
    given = [each.format(run=run.journal.run) for each in arguments]
    before = (run.journal.run / JOURNAL).read_bytes()
    assert run_command(parser, given) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (run.journal.run / JOURNAL).read_bytes() == before


def test_a_journal_of_another_format_is_refused(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / JOURNAL)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ValueError, match="format 99"):
        write_report(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_report_in_the_making_holds_back_nothing_that_the_run_writes(
    run: InventedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run.journal.run
    blocked = []

    def interrupting(*_: Any) -> list[Any]:
        run.scan(Label.GOOD, 0.99)
        run.commit()
        with closing(sqlite3.connect(folder / JOURNAL, timeout=0)) as other:
            blocked.append(other.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0])
        return []

    with reading(folder) as db:
        db.execute("SELECT COUNT(*) FROM scans").fetchone()
        interrupting()
    monkeypatch.setattr("spm_gym.web.report.area_maps", interrupting)
    render_report(folder)
    assert blocked == [1, 0]
