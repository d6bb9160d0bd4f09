"""The page says what fifty more labels would bring, without waiting for it."""

from __future__ import annotations

import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from spm_gym.datasets.manifest import MANIFEST
from spm_gym.web.labelling import forecasts
from tests.support.browsing import inaccessible, overflow
from tests.support.labelling import answer, page_for, press, scan, ten_scans
from tests.support.waiting import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 scans of six evenings, 49 of which Anna has labelled."""
    folder = tmp_path_factory.mktemp("labelled")
    lines = ["file,label,session,by Anna"]
    for n in range(60):
        np.save(folder / f"{n:02d}.npy", scan(n))
        # Some wrong ones, or the forecast would be that there is nothing to gain.
        label = ("bad", "good")[(n + (n % 7 == 0)) % 2] if n < 49 else ""
        lines.append(f"{n:02d}.npy,{label},evening {n // 2 % 6},{label}")
    (folder / MANIFEST).write_text("\n".join(lines) + "\n")
    return folder


def part(address: str) -> str:
    with urllib.request.urlopen(address + "forecast") as response:
        text: str = response.read().decode()
    return text


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1400, "light")])
def test_everybody_can_read_the_forecast(
    page: Page, labelled: Path, width: int, scheme: str
) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    with page_for(labelled, labeller="Anna") as address:
        page.goto(address + "done")
        chart = page.get_by_role("img", name="Learning curve: AUC")
        chart.wait_for()
        assert chart.evaluate("image => image.decode().then(() => image.naturalWidth > 0)")
        text = page.locator("#forecast").inner_text()
        assert "A quick model on these 49 labels: AUC 0." in text
        assert "with 50 more about 0." in text
        assert "on sessions that it has not learned from" in text
        assert page.locator("[aria-busy=true]").count() == 0
        assert inaccessible(page) == []
        assert overflow(page) == 0


def test_after_fifty_labels_the_desk_points_to_the_forecast(page: Page, labelled: Path) -> None:
    manifest = labelled / MANIFEST
    before = manifest.read_text()
    with page_for(labelled, labeller="Anna") as address:
        page.goto(address)
        link = page.get_by_role("link", name="What would 50 more bring?")
        assert link.count() == 0
        press(page, "g")
        link.click()
        page.get_by_text("on these 50 labels").wait_for()
    manifest.write_text(before)


def test_few_labels_are_told_how_many_are_needed(tmp_path: Path) -> None:
    with page_for(ten_scans(tmp_path / "scans"), labeller="Anna") as address:
        assert answer(address, "0.npy") == 200
        assert answer(address, "1.npy", answer="sample") == 200
        text = part(address)
    assert "20 good and 20 bad images are needed; there are 1 and 0" in text


def test_labels_are_taken_while_a_forecast_is_made(
    labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, ends = threading.Event(), threading.Event()

    def slow(*given: np.ndarray) -> None:
        under_way.set()
        assert ends.wait(PATIENCE_S)

    monkeypatch.setattr(forecasts, "forecast_labels", slow)
    manifest = labelled / MANIFEST
    before = manifest.read_text()
    with page_for(labelled, labeller="Anna") as address:
        asking = threading.Thread(target=part, args=(address,))
        asking.start()
        try:
            assert under_way.wait(PATIENCE_S)
            assert answer(address, "55.npy") == 200
        finally:
            ends.set()
            asking.join()
    manifest.write_text(before)


def test_the_same_labels_are_forecast_once(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    forecast = forecasts.forecast_labels

    def counted(*given: np.ndarray) -> object:
        counts.append(len(given[0]))
        return forecast(*given)

    monkeypatch.setattr(forecasts, "forecast_labels", counted)
    manifest = labelled / MANIFEST
    before = manifest.read_text()
    with page_for(labelled, labeller="Anna") as address:
        assert part(address) == part(address)
        assert counts == [49]
        assert answer(address, "55.npy") == 200
        assert answer(address, "56.npy", answer="sample") == 200
        part(address)
        assert counts == [49, 50]
    manifest.write_text(before)
