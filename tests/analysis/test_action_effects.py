"""Effects of conditioning, and the figures of a report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from spm_gym.analysis.action_effects import achievements
from spm_gym.analysis.report import episodes, good_over_time, overview
from spm_gym.journal.reader import Label, reading
from tests.support.invented_runs import DIP, PULSE, InventedRun, eventful


@pytest.fixture
def run(tmp_path: Path) -> Iterator[InventedRun]:
    with eventful(tmp_path) as run:
        yield run


def test_actions_are_credited_with_the_image_after_them(run: InventedRun) -> None:
    with reading(run.journal.run) as db:
        pulse, dip = achievements(db)
    assert (pulse.name, pulse.chosen, pulse.classified, pulse.good) == (PULSE, 3, 3, 0)
    assert pulse.change[0] == pytest.approx((0.1 + 0.0 + 0.1) / 3)
    assert (dip.name, dip.classified, dip.good) == (DIP, 2, 1)
    assert dip.change[0] == pytest.approx((0.75 + 0.1) / 2)
    spread = np.std([0.75, 0.1], ddof=1) / np.sqrt(2)
    assert dip.change[1] == pytest.approx(1.96 * spread)
    assert dip.good_interval == pytest.approx((0.0945, 0.9055), abs=1e-3)


def test_refused_and_uncertain_actions_get_no_credit(run: InventedRun) -> None:
    for state in ({"refused": 1}, {"uncertain": 1}):
        step = run.journal.add_step(
            3, 9, scan=1, action=7, name=DIP, policy="agent", mask="[]", q="null", **state
        )
        run.journal.end_step(step, scan_after=run.scan(Label.CONDITIONING, 1.0), terminated=1)
        run.commit()
        with reading(run.journal.run) as db:
            _, dip = achievements(db)
            assert f"({next(iter(state))})" in episodes(db)[-1]["sequence"]
        assert (dip.chosen, dip.refused, dip.uncertain) == (
            3, state.get("refused", 0), state.get("uncertain", 0)
        )  # fmt: skip
        assert (dip.classified, dip.good) == (2, 1)
        run.journal._db.execute("DELETE FROM steps WHERE id = ?", (step,))


def test_good_images_add_up_over_the_hours(run: InventedRun) -> None:
    with reading(run.journal.run) as db:
        counted = overview(db)
        good = good_over_time(db, counted.elapsed)
    assert good.edges[-1] == pytest.approx(counted.elapsed)
    assert good.good[-1] == counted.good
    assert np.all(np.diff(good.good) >= 0)
    known = good.share[np.isfinite(good.share)]
    assert known.min() >= 0
    assert known.max() <= 1
