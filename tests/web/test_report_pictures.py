"""Pictures and tables of a report: what their axes and colours mean, also on a phone."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from spm_gym.figures.canvas import new_figure
from spm_gym.figures.report_charts import label_time
from spm_gym.journal.reader import Label
from spm_gym.web.report import render_report
from tests.support.browsing import overflow
from tests.support.invented_runs import InventedRun, eventful
from tests.support.watching import watched

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InventedRun]:
    with eventful(tmp_path) as run:
        yield run


@pytest.mark.parametrize(
    ("longest", "unit", "labels"),
    [
        (180.0, "min", ["0", "0.5", "1", "1.5", "2", "2.5", "3"]),
        (7200.0, "h", ["0", "0.5", "1", "1.5", "2"]),
        (5 * 86400.0, "days", ["0", "1", "2", "3", "4", "5"]),
    ],
)
def test_axes_of_time_suit_minutes_and_days(longest: float, unit: str, labels: list[str]) -> None:
    axes = new_figure(8, 2).subplots()
    axes.set_xlim(0, longest)
    label_time(axes, longest)
    assert axes.get_xlabel() == f"time of operation ({unit})"
    drawn = {text.get_text() for text in axes.get_xticklabels() if text.get_position()[0] >= 0}
    assert set(labels) <= drawn | {"0"}
    assert len(axes.get_xticks()) <= 9


def test_examples_have_a_bar_and_say_what_their_grey_means(run: InventedRun) -> None:
    page = render_report(run.journal.run).html
    assert page.count("bar 5 nm, grey 300 pm") >= 10
    assert "from black to white 300 pm" in page
    [picture, *_] = re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="Scan', page)
    data = base64.b64decode(picture)
    grey = np.asarray(Image.open(io.BytesIO(data)).convert("L"), int)
    # Half as long as the image is wide; WebP blurs.
    assert (grey[88:90, 8:50] > 200).all()


@pytest.mark.parametrize("config", ["env: {regions: {area_nm: 640}}", "c" * 64])
def test_maps_outline_the_usable_area(tmp_path: Path, config: str) -> None:
    with InventedRun(tmp_path, config) as run:
        run.enter_area()
        run.scan(Label.GOOD, 0.9)
        run.commit()
        report = render_report(tmp_path).html
        with watched(tmp_path) as address, urlopen(address) as answer:
            live = answer.read().decode()
    for page in (report, live):
        outlines = re.findall(r'<rect class="usable" x="([-\d.]+)" y="\1" width="([\d.]+)"', page)
        if config.startswith("c"):  # settings that this program does not read
            assert not outlines
            assert "How large the usable area is, is not known" in page
            continue
        assert [(float(x), float(width)) for x, width in outlines] == [(-320, 640)] * 2
        assert "Usable: 640 × 640 nm around 0, 0, outlined" in page


def test_wide_tables_scroll_by_themselves(page: Page, run: InventedRun) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.set_content(render_report(run.journal.run).html)
    page.eval_on_selector_all("details", "all => all.forEach(each => (each.open = true))")
    tables = page.locator("table")
    assert tables.count() == page.locator(".scroll > table").count() > 5
    wide = page.locator(".scroll").evaluate_all(
        "all => all.filter(each => each.scrollWidth > each.clientWidth).length"
    )
    assert wide > 0
    assert overflow(page) == 0
