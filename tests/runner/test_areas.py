"""Regions and areas in a run: what is avoided, left and remembered."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from spm_gym.errors import (
    OutcomeUnknown,
)
from spm_gym.runner.states import State
from tests.support.mishaps import Mishap, always
from tests.support.scripted_runs import Verdicts, lab

NM = 1e-9
GOOD = 0.95


def test_rough_places_are_left_the_faster_the_more_there_are(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD), "simulator.rough_fraction=0.9",
             "operation.scans=8") as it:  # fmt: skip
        it.runner.run()
        radii = it.rows("SELECT radius FROM marks WHERE reason = 'bad sample' ORDER BY id")
        assert [round(r / NM, 6) for (r,) in radii[:3]] == [
            25.0, round(25 * math.sqrt(2), 6), round(25 * math.sqrt(3), 6)
        ]  # fmt: skip


def test_bad_sample_everywhere_is_left_and_finally_given_up(tmp_path: Path) -> None:
    settings = ("simulator.rough_fraction=0.99", "operation.max_bad_sample=3")
    with lab(tmp_path, Verdicts(GOOD), *settings) as it:
        outcome = it.runner.run()
        assert outcome.failed
        assert outcome.safe
        assert len(it.rows("SELECT * FROM areas")) > 3
        assert not it.microscope.status().approached


def test_used_up_areas_are_left_in_a_spiral_and_remembered(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD), "env.regions.area_nm=30", "operation.scans=30") as it:
        it.runner.run()
        places = it.rows("SELECT coarse_x, coarse_y, certain FROM areas ORDER BY number")
        assert places[:4] == [(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]
        assert len(set(places)) == len(places)
        marks = it.rows("SELECT COUNT(*) FROM marks WHERE area = 0 AND reason = 'image'")
        assert marks == [(9,)]


def test_after_a_coarse_move_the_creep_is_waited_for_on_the_instruments_clock(
    tmp_path: Path,
) -> None:
    with lab(tmp_path, Verdicts(GOOD), "env.regions.area_nm=20", "env.creep_wait_s=500") as it:
        it.until(State.SETTLE)
        before, began = it.microscope.status().time, time.monotonic()
        it.runner.step()
        assert it.microscope.status().time == before + 500
        assert time.monotonic() - began < 500
        assert it.runner.state is State.CHOOSE


def test_every_image_follows_a_discarded_part_of_one_at_the_same_place(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=5") as it:
        it.runner.run()
        scans = it.rows("SELECT x, y, fraction, label FROM scans ORDER BY id")
        for part, image in zip(scans[::2], scans[1::2], strict=True):
            assert part[:2] == image[:2]
            assert (part[2:], image[2:]) == ((0.25, "discarded"), (1.0, "good"))


def test_a_move_of_unknown_outcome_is_not_repeated_either(tmp_path: Path) -> None:
    microscope = Mishap(move_area={1: OutcomeUnknown("no reply")})
    with lab(tmp_path, Verdicts(GOOD), "env.regions.area_nm=20", "operation.scans=6",
             microscope=microscope) as it:  # fmt: skip
        it.runner.run()
        assert it.rows("SELECT number, certain FROM areas")[:2] == [(0, 1), (1, 0)]
        assert microscope.counted["move_area"] == len(it.rows("SELECT * FROM areas")) - 1


def test_without_a_way_to_change_the_area_the_run_ends(tmp_path: Path) -> None:
    from spm_gym.errors import LimitExceeded

    microscope = Mishap(move_area=always(LimitExceeded("set real.nanonis.coarse.retract")))
    with lab(tmp_path, Verdicts(GOOD), "env.regions.area_nm=20", microscope=microscope) as it:
        outcome = it.runner.run()
        assert outcome.failed
        assert "real.nanonis.coarse.retract" in outcome.ending


@pytest.mark.parametrize("cut_off", [False, True])
def test_after_a_move_of_unknown_outcome_the_creep_is_waited_for_as_well(
    tmp_path: Path, cut_off: bool
) -> None:
    settings = ("env.regions.area_nm=20", "operation.scans=6")
    microscope = Mishap(move_area={} if cut_off else {1: OutcomeUnknown("no reply")})
    with lab(tmp_path, Verdicts(GOOD), *settings, microscope=microscope) as it:
        it.until(State.CHANGE_AREA)
        if cut_off:
            it.journal.commit = lambda *state: it.journal.rollback()  # type: ignore[method-assign]
        it.runner.step()
        kept = microscope.get_state()
        if not cut_off:
            it.until(State.SETTLE)
            it.until(State.PARTIAL)
            assert it.runner.run_state.tip.in_contact
    if cut_off:
        with lab(tmp_path, Verdicts(GOOD), *settings, microscope=Mishap()) as it:
            it.microscope.set_state(kept)
            assert it.runner.step() is State.SETTLE
