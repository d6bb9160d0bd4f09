"""Takes the pictures of the pages in the docs, in Chromium: python docs/screenshots.py."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from spm_gym.build import build_microscope
from spm_gym.config import load_config
from spm_gym.imaging.files import write_gsf
from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.types import Frame

PICTURES = Path(__file__).parent / "pictures"


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=PICTURES, metavar="FOLDER")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    draw_labelling_page(arguments.output)


def draw_labelling_page(folder: Path) -> None:
    """Draw the labelling page, after a few answers: label.png."""
    with tempfile.TemporaryDirectory() as name:
        scans = Path(name) / "mgpc_on_silver"
        simulate(scans, 40)
        with (
            started("label", str(scans), "--labeller", "Anna", "--port", "0") as address,
            chromium() as page,
        ):
            page.goto(address)
            for key in "gbbgbsbgbbgg":
                before = page.locator(".file").inner_text()
                page.keyboard.press(key)
                page.locator(".file").filter(has_not_text=before).wait_for()
                page.locator("#desk .scan:not(.loading)").wait_for()
            page.screenshot(path=folder / "label.png")


def simulate(folder: Path, count: int) -> None:
    """Fill a folder with images of good and of bad probes."""
    folder.mkdir()
    config = load_config(None, [])
    for n in range(count):
        rng = np.random.default_rng(n)
        microscope = build_microscope(config, seed=n)
        microscope.equip(HiddenState(contaminated=n % 2 == 0, unstable=n % 5 == 0))
        x, y = rng.uniform(-2e-7, 2e-7, 2)
        scan = microscope.scan(Frame(float(x), float(y), config.env.image_nm * 1e-9, 256))
        write_gsf(folder / f"2026-03-{1 + n // 14:02d}_{n % 14:03d}.gsf", scan)


@contextmanager
def started(*arguments: str) -> Iterator[str]:
    """A command that serves a page, in a process of its own; gives its address."""
    command = [sys.executable, "-m", "spm_gym", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            found = (re.search(r"http://\S+", line) for line in process.stdout)
            yield next(match[0] for match in found if match)
        finally:
            process.terminate()
            process.communicate()


@contextmanager
def chromium(width: int = 1280, height: int = 800) -> Iterator[Page]:
    """A page in Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield browser.new_page(viewport={"width": width, "height": height})
        browser.close()


if __name__ == "__main__":
    main()
