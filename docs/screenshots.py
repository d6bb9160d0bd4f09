"""Pictures of the pages for the docs, taken in Chromium: ``make figures``."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright
from small import shrink

from spm_gym.analysis.decisions import LastDecision, last_decision
from spm_gym.analysis.policies import AGENT
from spm_gym.analysis.session import last_session
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import load_config
from spm_gym.imaging.files import write_gsf
from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.journal.reader import JournalError, reading
from spm_gym.types import Frame

PICTURES = Path(__file__).parent / "pictures"
ARGUMENTS = ("--no-sandbox", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync")  # fmt: skip
_PROGRAM = (sys.executable, "-m", "spm_gym")
_PATIENCE_S = 300.0
_IMAGES_BEFORE = 400


def main() -> None:
    """Take all of them."""
    PICTURES.mkdir(exist_ok=True)
    draw_live_page(PICTURES)
    draw_labelling_page(PICTURES)


def draw_live_page(folder: Path) -> None:
    """Take the live page of a simulated run in the middle of conditioning, on a desk and a phone.

    Args:
        folder: Gets ``monitor.png`` and ``monitor_phone.png``.
    """
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "monday"
        begin = ("--env", "sim", "--hours", "12", "--faults", "random", "--seed", "3",
                 "--policy", "interleaved", "--set", "operation.condition_after=3",
                 "simulator.tip_change_rate=0.03", "--run-dir", str(run))  # fmt: skip
        with _running("--time-scale", "400", *begin):
            _wait_for_conditioning(run)
        with (
            _running("--time-scale", "4", "--resume", "--run-dir", str(run)),
            page_of("monitor", str(run), "--token", "a token") as address,
            open_page(f"{address}?token=a token", 1440, 1060) as page,
        ):
            doing = page.locator("#sentence").filter(has_text="to see what")
            doing.wait_for(timeout=1e3 * _PATIENCE_S)
            # Not by a function, which the page's policy lets be asked only once.
            page.locator("#map").filter(has_not_text="painted").wait_for()
            page.wait_for_timeout(1000)
            page.screenshot(path=folder / "monitor.png")
            page.set_viewport_size({"width": 390, "height": 1560})
            page.wait_for_timeout(500)
            page.screenshot(path=folder / "monitor_phone.png")
    for name in ("monitor.png", "monitor_phone.png"):
        shrink(folder / name)


@contextmanager
def _running(*arguments: str) -> Iterator[None]:
    """A run in the background; it is stopped gently."""
    command = [*_PROGRAM, "run", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_for_conditioning(run: Path) -> None:
    """Wait until the agent's second action or a later one is done, with many images before it."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        decision = None
        with suppress(JournalError), reading(run) as db:
            decision = last_decision(db, last_session(db))
        if decision is not None and _is_worth_a_picture(decision):
            return
        time.sleep(0.01)
    raise TimeoutError("the run has not started to condition")


def _is_worth_a_picture(decision: LastDecision) -> bool:
    by_agent = decision.policy == AGENT and decision.outcome is None
    return by_agent and decision.number > 1 and decision.scan > _IMAGES_BEFORE


@contextmanager
def page_of(command: str, *arguments: str) -> Iterator[str]:
    """A page of ``spm-gym COMMAND``; gives its address."""
    full = [*_PROGRAM, command, *arguments, "--port", "0"]
    with subprocess.Popen(full, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = next(word for word in process.stdout.readline().split() if "://" in word)
        try:
            yield address
        finally:
            process.terminate()
            process.wait()


@contextmanager
def open_page(address: str, width: int, height: int, scheme: str = "light") -> Iterator[Page]:
    """A page in a window of this size."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(ARGUMENTS)
        )
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            locale="en-GB",
        )
        page = context.new_page()
        page.goto(address)
        yield page
        browser.close()


def draw_labelling_page(folder: Path) -> None:
    """Take the labelling page after a few answers.

    Args:
        folder: Gets ``label.png``.
    """
    with tempfile.TemporaryDirectory() as temporary:
        scans = Path(temporary) / "mgpc_on_silver"
        _simulate(scans, 40)
        with (
            page_of("label", str(scans), "--labeller", "Anna") as address,
            open_page(address, 1280, 800) as page,
        ):
            for key in "gbbgbsbgbbgg":
                before = page.locator(".file").inner_text()
                page.keyboard.press(key)
                page.locator(".file").filter(has_not_text=before).wait_for()
                page.locator("#desk .scan:not(.loading)").wait_for()
            page.screenshot(path=folder / "label.png")
    shrink(folder / "label.png")


def _simulate(folder: Path, count: int) -> None:
    """Fill a folder with images of good and of bad probes."""
    folder.mkdir()
    config = load_config(None, [])
    for n in range(count):
        rng = np.random.default_rng(n)
        microscope = build_microscope(config, seed=n)
        microscope.set_probe(HiddenState(contaminated=n % 2 == 0, unstable=n % 5 == 0))
        x, y = rng.uniform(-2e-7, 2e-7, 2)
        scan = microscope.scan(Frame(float(x), float(y), config.env.image_nm * 1e-9, 256))
        write_gsf(folder / f"2026-03-{1 + n // 14:02d}_{n % 14:03d}.gsf", scan)


if __name__ == "__main__":
    main()
