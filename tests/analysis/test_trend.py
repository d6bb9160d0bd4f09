"""Height and current of a run over its time, and in which chart they are drawn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from spm_gym.analysis.trend import Trend, trend
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import load_config
from spm_gym.figures.report_charts import trend_chart
from spm_gym.figures.trend import small_charts
from spm_gym.instrument.contract import Status
from spm_gym.journal.reader import Label, read_scan, reading
from spm_gym.runner.states import State
from tests.support.invented_runs import NM, InventedRun
from tests.support.scripted_runs import CALM, Verdicts, lab

RANGE = (-100 * NM, 100 * NM)


def flat(height: float) -> np.ndarray:
    return np.full((64, 64), height, np.float32)


def found(run: InventedRun) -> Trend:
    run.commit()
    with reading(run.journal.run) as db:
        there = trend(db)
    assert there is not None
    return there


def test_it_has_the_height_and_the_current_of_every_scan(run: InventedRun) -> None:
    for number in range(5):
        scan = run.scan(Label.GOOD, 0.9, z=flat((number - 50) * NM), z_range=RANGE)
        run.journal.record_reading(scan, current=number * 1e-12)
    it = found(run)
    assert [low for _, low, _ in it.z] == pytest.approx([(n - 50) * NM for n in range(5)])
    assert it.current == [(20.0 * (n + 1), n * 1e-12, n * 1e-12) for n in range(5)]
    assert (it.last_z, it.last_current) == pytest.approx((-46 * NM, 4e-12))
    assert it.z_range == RANGE


def test_a_jump_of_one_scan_is_not_lost_among_thousands(run: InventedRun) -> None:
    for number in range(1000):
        scan = run.scan(Label.GOOD, z=flat(90 * NM if number == 700 else 0.0)[:2])
        run.journal.record_reading(scan, current=8e-9 if number == 300 else 25e-12)
    it = found(run)
    assert len(it.z) <= 250
    assert max(high for _, _, high in it.z) == pytest.approx(90 * NM)
    assert max(high for _, _, high in it.current) == 8e-9


def test_what_is_not_known_is_left_out(run: InventedRun) -> None:
    run.journal.record_reading(run.scan(Label.GOOD, 0.9, z=flat(1 * NM)), current=math.nan)
    run.scan(Label.UNUSABLE, z=flat(math.nan))
    it = found(run)
    assert [high for *_, high in it.z] == pytest.approx([1 * NM])
    assert (it.current, it.last_current, it.z_range) == ([], None, None)
    assert [chart.name for chart in small_charts(it)] == ["z"]
    assert trend_chart(it) is not None


def test_before_the_first_scan_there_is_none(run: InventedRun) -> None:
    run.commit()
    with reading(run.journal.run) as db:
        assert trend(db) is None
    assert small_charts(None) == []
    assert trend_chart(Trend(20.0, [], [], None, None, None)) is None


def test_charts_have_room_for_the_range_and_for_what_exceeds_it() -> None:
    z = [(10.0, -40 * NM, -30 * NM), (20.0, 120 * NM, 120 * NM)]
    (chart,) = small_charts(Trend(20.0, z, [], RANGE, 120 * NM, None))
    points = [tuple(map(float, point.split())) for point in chart.path[1:].split("L")]
    assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in points)
    assert chart.band is not None
    top, height = chart.band
    # Half of the band above none, and the last point above it.
    assert points[-1][1] < top < points[0][1] < top + height < 100
    assert (chart.bottom, chart.top) == (-100 * NM, 120 * NM)


def test_a_run_records_both_with_every_image_and_asks_no_more_of_the_instrument(
    tmp_path: Path,
) -> None:
    microscope = build_microscope(load_config(None, CALM), 5)
    asked: list[Status] = []
    status = microscope.status
    # Not counted is what only the clock of a simulated microscope asks.
    with lab(
        tmp_path, Verdicts(0.99), "operation.scans=3", microscope=microscope,
        clock=lambda: status().time,
    ) as it:  # fmt: skip

        def counted() -> Status:
            asked.append(status())
            return asked[-1]

        it.microscope.status = counted  # type: ignore[method-assign]
        it.until(State.IMAGE)
        before = len(asked)
        it.runner.step()
        # Once, to see whether the tip has crashed.
        assert len(asked) == before + 1
        it.until(State.STOP)
        rows = it.rows("SELECT z, current, id FROM scans WHERE fraction = 1")
        partial = it.rows("SELECT z, current FROM scans WHERE fraction < 1")
        with reading(tmp_path) as db:
            scans = db.execute("SELECT * FROM scans WHERE fraction = 1").fetchall()
    medians = [float(np.median(read_scan(tmp_path, row).z)) for row in scans]
    assert [z for z, _, _ in rows] == medians
    assert {current for _, current, _ in rows} == {25e-12}  # its setpoint
    assert all(z is not None and current is None for z, current in partial)
