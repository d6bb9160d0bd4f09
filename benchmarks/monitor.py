"""Cost of the live page: first paint, an update, and the scans of a run that is watched.

Run ``python benchmarks/monitor.py``: it makes a simulated run of 16,000 scans first, which takes
some minutes; ``--run DIR`` takes one that is there. Needs Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

os.environ.setdefault("OMP_NUM_THREADS", "1")

from playwright.sync_api import Browser, Page, sync_playwright

from spm_gym.journal.reader import reading

ARGUMENTS = ("--no-sandbox", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync")  # fmt: skip
_PROGRAM = (sys.executable, "-m", "spm_gym")
_SETTLING_S, _PERIOD_S = 3.0, 6.0
_FIRST_PAINT = (
    "performance.getEntriesByType('paint')"
    ".find(entry => entry.name === 'first-contentful-paint')?.startTime"
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, metavar="DIR", help="a run of many scans")
    parser.add_argument("--scans", type=int, default=16_000, help="of the run that is made")
    parser.add_argument("--updates", type=int, default=30, metavar="N")
    parser.add_argument(
        "--pairs", type=int, default=5, metavar="N", help="of periods, watched and not"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(ARGUMENTS)
        )
        run = arguments.run or _simulated(Path(folder) / "large", arguments.scans)
        found: dict[str, object] = {}
        with _monitor(run) as address:
            found["first paint, ms"] = _figures(_first_paints(browser, address, arguments.updates))
            found["page, ms"] = _figures(_answers(address, arguments.updates))
            found["update, ms"] = _figures(_answers(f"{address}now", arguments.updates))
            found["update without news, ms"] = _figures(_unchanged(address, arguments.updates))
            found["all points of the chart, ms"] = _figures(_answers(f"{address}series", 10))
        for name, pace in (("full speed", "0"), ("100 times real time", "100")):
            ratios = _ratios(Path(folder) / pace, pace, arguments.pairs, browser)
            found[f"images in a second, watched / unwatched, {name}"] = _figures(ratios)
        browser.close()
    for name, figures in found.items():
        print(f"{name:60} {figures}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _figures(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "best": round(min(values), 3),
        "worst": round(max(values), 3),
        "of": len(values),
    }


def _simulated(folder: Path, scans: int, seed: int = 0) -> Path:
    command = [*_PROGRAM, "run", "--env", "sim", "--scans", str(scans), "--faults", "random",
               "--seed", str(seed), "--run-dir", str(folder)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return folder


@contextmanager
def _monitor(run: Path) -> Iterator[str]:
    """The page as users start it; gives its address."""
    command = [*_PROGRAM, "monitor", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        try:
            yield found[0]
        finally:
            process.terminate()
            process.wait()


def _first_paints(browser: Browser, address: str, times: int) -> list[float]:
    """First contentful paint, ms, of windows that have nothing in store."""
    paints: list[float] = []
    while len(paints) < times:
        with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
            page = context.new_page()
            page.goto(address)
            page.wait_for_function(_FIRST_PAINT)
            paints.append(page.evaluate(_FIRST_PAINT))
    return paints


def _answers(address: str, times: int) -> list[float]:
    """Time, ms, from a request to the last byte of its answer."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        with urlopen(address) as answer:
            answer.read()
        took.append(1e3 * (time.perf_counter() - start))
    return took


def _unchanged(address: str, times: int) -> list[float]:
    with urlopen(f"{address}now") as answer:
        version = re.search(r'name="version" value="(\w+)"', answer.read().decode())
    assert version is not None
    return _answers(f"{address}now?version={version[1]}", times)


def _ratios(run: Path, pace: str, pairs: int, browser: Browser) -> list[float]:
    """Scans of one run in neighbouring periods, with an open page and without any: their ratios."""
    command = [*_PROGRAM, "run", "--env", "sim", "--policy", "random", "--time-scale", pace,
               "--run-dir", str(run)]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        while not (run / "scans" / "000002.gsf").exists():
            time.sleep(0.05)
        with _monitor(run) as address, browser.new_context() as context:
            page = context.new_page()
            counts = []
            for period in range(2 * pairs):
                # Watched first and last by turns, for a run may slow down by itself.
                watched = period % 4 in (0, 3)
                page.goto(address if watched else "about:blank")
                page.wait_for_timeout(1e3 * _SETTLING_S)
                counts.append((watched, _scans_of_period(run, page)))
    finally:
        process.kill()
        process.wait()
    taken = [sorted(pair, reverse=True) for pair in zip(counts[::2], counts[1::2], strict=True)]
    return [watched / unwatched for (_, watched), (_, unwatched) in taken]


def _scans_of_period(run: Path, page: Page) -> int:
    with reading(run) as db:
        before = db.execute("SELECT MAX(id) FROM scans").fetchone()[0]
    page.wait_for_timeout(1e3 * _PERIOD_S)
    with reading(run) as db:
        return int(db.execute("SELECT MAX(id) FROM scans").fetchone()[0] - before)


if __name__ == "__main__":
    main()
