"""Answers of the server of the live page, without a browser."""

from __future__ import annotations

import re
import threading
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from spm_gym.journal.reader import Label
from tests.support.invented_runs import InventedRun
from tests.support.waiting import wait_until
from tests.support.watching import watched

pytestmark = pytest.mark.slow


def status_of(address: str, path: str) -> int:
    try:
        with urlopen(address + path) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code


def test_an_update_without_news_is_empty_and_nothing_is_written(run: InventedRun) -> None:
    folder = run.journal.run
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with watched(folder) as address:

        def version() -> str:
            with urlopen(address + "now") as answer:
                found = re.search(r'name="version" value="(\w+)"', answer.read().decode())
            assert found is not None
            return found[1]

        # Until everything is painted.
        wait_until(lambda: status_of(address, f"now?version={version()}") == 204)
        last = version()
        assert status_of(address, f"now?version={last}&scan=2") == 200
        run.commit(state="pause")
        assert status_of(address, f"now?version={last}") == 200
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert set(after) == set(before)
    assert {path.name for path in after if after[path] != before[path]} <= {
        "journal.sqlite-wal", "journal.sqlite-shm"}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("scans/2/levelled.png", 200),
        ("scans/2/network.png?of=1", 200),
        ("scans/9999/levelled.png", 404),
        ("scans/2/other.png", 404),
        ("scans/99999999999999999999999/levelled.png", 404),
        ("areas/0/9_9.webp", 404),
        ("areas/0/a_b.webp", 404),
        ("areas/77777777777777777777777/0_0.webp", 404),
        ("?scan=x&kind=<b>&area=-1&rows=99999999999999999999&events=%00", 200),
        ("?scan=999999999&area=999999999&rows=999999999", 200),
        ("series?after=999999999", 200),
        ("series?after=x", 200),
        ("areas/0/at?x=nan&y=1", 200),
        ("areas/0/at?x=a", 400),
        ("nothing", 404),
    ],
)
def test_whatever_is_asked_for_is_answered(run: InventedRun, path: str, status: int) -> None:
    with watched(run.journal.run) as address:
        assert status_of(address, path) == status


def test_many_windows_at_once(run: InventedRun) -> None:
    """Handlers run in threads, over one painter."""
    statuses: list[int] = []
    with watched(run.journal.run) as address:

        def ask() -> None:
            for _ in range(10):
                statuses.append(status_of(address, "now"))
                statuses.append(status_of(address, "areas/0/0_0.webp"))

        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for number in range(20):
            run.scan(Label.GOOD, 0.9)
            run.commit(state="image", images=number)
        for thread in threads:
            thread.join()
    assert set(statuses) <= {200, 404}
    assert statuses.count(200) > len(statuses) / 2
