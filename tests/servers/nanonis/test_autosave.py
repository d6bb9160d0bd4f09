"""Files that the virtual controller saves."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from spm_gym.imaging.files import read_topography
from spm_gym.servers.nanonis.autosave import dated
from spm_gym.servers.nanonis.controller import Refused
from spm_gym.servers.nanonis.session import plain_name
from tests.support.settings_pages import (
    DOWN,
    UP,
    CommandPanel,
    frame,
)


def test_saved_scans_can_be_read(tmp_path: Path) -> None:
    nanonispy = pytest.importorskip("nanonispy2")
    panel = CommandPanel(session=tmp_path / "session")
    assert panel("Util.SessionPathGet") == str(tmp_path / "session")
    panel("Scan.PropsSet", 0, 0, 2, "tip", "as it was", [], 0)
    z = panel.scan(frame(20, -30), direction=UP)
    reply = panel("Scan.WaitEndOfScan", -1)
    assert reply == {"timed_out": 0, "path": str(tmp_path / "session" / "tip0001.sxm")}
    signals = nanonispy.read.Scan(reply["path"]).signals
    assert set(signals) == {"Current", "Z"}
    assert np.array_equal(np.flipud(signals["Z"]["forward"]), z)
    panel.scan(frame())
    assert panel("Scan.WaitEndOfScan", -1)["path"] == ""
    panel("Scan.Save", 1, -1)
    panel("Scan.PropsSet", 0, 0, 1, "", "", [], 0)
    panel.scan(frame())
    assert sorted(path.name for path in (tmp_path / "session").iterdir()) == [
        "tip0001.sxm", "tip0002.sxm", "tip0003.sxm",
    ]  # fmt: skip


@pytest.mark.parametrize("direction", [DOWN, UP])
def test_a_saved_preview_can_be_read(tmp_path: Path, direction: int) -> None:
    panel = CommandPanel(session=tmp_path / "session")
    panel("Scan.PropsSet", 0, 0, 1, "", "", [], 0)
    z = panel.scan(replace(frame(20, -30), lines=16), direction=direction)
    path = Path(panel("Scan.WaitEndOfScan", -1)["path"])
    read = read_topography(path)
    assert z.shape == (16, 64)
    assert np.array_equal(read.z.astype(np.float32), z)
    assert (read.width, read.height) == pytest.approx((10e-9, 10e-9))
    text = path.read_bytes().partition(b"\x1a")[0].decode()
    assert re.search(r":SCAN_PIXELS:\n +64 +16\n", text)
    assert re.search(r":ACQ_TIME:\n +4\.0\n", text)


def test_a_series_name_cannot_leave_the_session(tmp_path: Path) -> None:
    panel = CommandPanel(session=tmp_path / "session")
    panel("Scan.PropsSet", 0, 0, 1, "../../out", "", [], 0)
    panel.scan(frame())
    assert [path.parent for path in tmp_path.rglob("*.sxm")] == [tmp_path / "session"]


def test_time_codes_in_the_series_name_are_replaced(tmp_path: Path) -> None:
    panel = CommandPanel(session=tmp_path / "session")
    panel("Scan.PropsSet", 0, 0, 1, "%y%m%d_%H-%M-%S_SPM", "", [], 0)
    panel.scan(frame())
    path = Path(panel("Scan.WaitEndOfScan", -1)["path"])
    stamp = re.fullmatch(r"(\d{6}_\d\d-\d\d-\d\d)_SPM0001\.sxm", path.name)
    assert stamp is not None
    taken = datetime.strptime(stamp[1], "%y%m%d_%H-%M-%S")
    assert abs(datetime.now() - taken) < timedelta(hours=1)
    assert panel("Scan.PropsGet")["series_name"] == "%y%m%d_%H-%M-%S_SPM"


@pytest.mark.parametrize(
    ("series", "name"),
    [("%Y-%j/%X", "2024-061_12_34_56"), ("100 %%", "100 %"), ("5 % of %Q", "5 % of %Q")],
)
def test_what_is_no_time_code_stays_as_it_is(series: str, name: str) -> None:
    assert plain_name(dated(series, datetime(2024, 3, 1, 12, 34, 56))) == name


def test_nothing_is_saved_beside_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    panel = CommandPanel(session=tmp_path / "session")
    panel("Scan.PropsSet", 0, 0, 1, "", "", [], 0)
    for path in ("", "elsewhere"):
        with pytest.raises(Refused, match="below"):
            panel("Util.SessionPathSet", path, 0)
    panel.scan(frame())
    assert Path(panel("Scan.WaitEndOfScan", -1)["path"]).parent == tmp_path / "session"
    assert [path.name for path in tmp_path.iterdir()] == ["session"]


def test_a_scan_that_cannot_be_saved_has_no_path(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    panel = CommandPanel(session=tmp_path / "taken")
    panel("Scan.PropsSet", 0, 0, 1, "", "", [], 0)
    panel.scan(frame())
    assert panel("Scan.WaitEndOfScan", -1)["path"] == ""
