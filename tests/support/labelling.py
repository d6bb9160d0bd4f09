"""Scans, people who label them, and the page, for tests of labelling."""

from __future__ import annotations

import csv
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spm_gym.datasets.manifest import MANIFEST
from spm_gym.imaging.preprocessing import Preprocessing
from spm_gym.web.access import Access
from spm_gym.web.labelling.candidates import (
    Candidate,
    Image,
    find_candidates,
    in_order,
    read_images,
)
from spm_gym.web.labelling.desk import Desk
from spm_gym.web.labelling.labels import Labels
from spm_gym.web.labelling.page import Setup, labelling
from tests.support.browsing import served

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTILE = "<img src=x onerror=alert(1)>'\"&{{ 7*7 }}"
FREE = Access(None, "127.0.0.1", acting_is_free=True)
FILES = ("1.npy", "b/2.gsf", '=cmd|"x".npy', "3,;\t4.sxm", "-5.npy")


def desk_of(folder: Path, labels: Labels, files: tuple[str, ...] = FILES) -> Desk:
    return Desk([Image(file, folder / file, 64, 1e-8, 1e-8) for file in files], labels)


def candidates(folder: Path, files: tuple[str, ...] = FILES) -> list[Candidate]:
    return [Candidate(file, folder / file, "=night") for file in files]


def written(folder: Path) -> list[dict[str, str]]:
    with (folder / MANIFEST).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


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


def ten_scans(folder: Path) -> Path:
    """A new folder of ten scans, one of them larger."""
    folder.mkdir()
    for n in range(10):
        np.save(folder / f"{n}.npy", scan(n, 160 if n == 3 else 64))
    return folder


@contextmanager
def page_for(folder: Path, access: Access = FREE, labeller: str | None = None) -> Iterator[str]:
    """Serve the page, in the order of names; gives its address."""
    found = find_candidates(folder)
    with Labels(folder, found) as labels:
        images, refused = read_images(found, 64, Preprocessing(), None, lambda count: None)
        labels.leave_out(refused)
        desk = Desk(in_order(images, "name", labels.labelled_before, labels.labelled), labels)
        setup = Setup(folder, 64, Preprocessing(), labeller, list(refused.values()))
        with served(labelling(desk, setup, access)) as address:
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


def displayed_file(page: Page) -> str:
    return page.locator("#desk .file").inner_text()


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / MANIFEST).open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def labels_in(folder: Path, column: str = "label") -> dict[str, str]:
    return {file: row[column] for file, row in rows(folder).items()}


def answer(address: str, file: str, **more: str) -> int:
    return answered(address, file, **more)[0]


def answered(address: str, file: str, **more: str) -> tuple[int, str]:
    """Status and text that an answer of Anna gets."""
    fields = {"labeller": "Anna", "file": file, "answer": "good", **more}
    data = urllib.parse.urlencode(fields).encode()
    request = urllib.request.Request(address + "answers", data, {"Sec-Fetch-Site": "same-origin"})
    request.add_header("HX-Request", "true")
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
