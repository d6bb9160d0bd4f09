"""A surface that drifts along z: the tip approaches again before the z piezo is at its end."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from spm_gym.assembly.simulator import build_microscope
from spm_gym.cli import main
from spm_gym.config import load_config
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.journal.reader import reading
from spm_gym.runner.states import State
from spm_gym.types import Frame, Scan
from tests.support.controller_runs import ask, is_safe, on
from tests.support.mishaps import Mishap
from tests.support.scripted_runs import CALM, Verdicts, lab
from tests.support.virtual import virtual_nanonis

GOOD, BAD = 0.95, 0.02
WINDOW = (0.4, 0.95)
SHORT = "env.creep_wait_s=0"


def drifting(pm_per_s: float) -> str:
    return f"simulator.z_drift_pm_per_s={pm_per_s}"


@pytest.mark.parametrize(
    ("pm_per_s", "trouble"), [(800.0, "crash"), (-150.0, "lost contact")], ids=["nearer", "away"]
)
@pytest.mark.parametrize("window", [WINDOW, None], ids=["window", "none"])
def test_a_drifting_surface_is_approached_again_before_contact_is_lost_or_the_tip_crashes(
    tmp_path: Path, pm_per_s: float, trouble: str, window: tuple[float, float] | None
) -> None:
    with lab(tmp_path, Verdicts(GOOD), drifting(pm_per_s), SHORT, "operation.scans=40",
             z_window=window) as it:  # fmt: skip
        assert not it.runner.run().failed
        troubles = {kind for (kind,) in it.rows("SELECT trouble FROM recoveries")}
        events = it.rows("SELECT text FROM events WHERE kind = 'z window'")
        assert troubles == (set() if window else {trouble})
        assert bool(events) is (window is not None)
        if window:
            acts = [act for (act,) in it.rows("SELECT act FROM acts ORDER BY id")]
            assert acts == ["withdraw", "approach"] * len(events) + ["withdraw"]
            assert it.rows("SELECT COUNT(*) FROM marks WHERE reason != 'image'") == [(0,)]


def test_no_adjustment_comes_between_an_action_and_its_image(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(BAD), drifting(800.0), SHORT, "operation.condition_after=1",
             "operation.scans=60", z_window=WINDOW) as it:  # fmt: skip
        it.runner.run()
        visited = it.visited
        assert State.RECOVER in visited
        acted = False
        for before, state in pairwise(visited):
            if before is State.CONDITION and state is State.CHOOSE:
                acted = True
            elif state is State.CLASSIFY:
                acted = False
            assert not (acted and state is State.RECOVER)
        adjusted = it.rows("SELECT COUNT(*) FROM events WHERE kind = 'z window'")[0][0]
        assert adjusted == it.rows("SELECT COUNT(*) FROM acts WHERE act = 'approach'")[0][0] > 1


class Landing(SimulatedMicroscope):
    """Lands with the z piezo extended by the same share every time; counts approaches."""

    def __init__(self, extension: float) -> None:
        super().__init__(load_config(None, list(CALM)).simulator, seed=5)
        self.lands_at, self.approaches = extension, 0
        super().approach(extension)

    def approach(self, extension: float = 0.8) -> None:
        self.approaches += 1
        super().approach(self.lands_at)


def test_a_surface_that_stays_near_the_retracted_end_ends_the_run(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD), SHORT, microscope=Landing(0.05), z_window=WINDOW) as it:
        outcome = it.runner.run()
        assert outcome.failed
        assert outcome.safe
        assert "outside real.z_window = [0.4, 0.95], also after 3 further" in outcome.ending
        assert it.microscope.approaches == 3
        assert not it.rows("SELECT * FROM recoveries")


def test_a_surface_that_stays_near_the_extended_end_is_imaged_there(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD), SHORT, "operation.scans=9", microscope=Landing(0.97),
             z_window=WINDOW) as it:  # fmt: skip
        assert not it.runner.run().failed
        assert it.microscope.approaches == 3
        assert len(it.rows("SELECT * FROM events WHERE text LIKE '%left so'")) == 1


def test_a_height_that_nobody_knows_moves_nothing(tmp_path: Path) -> None:
    class Unknown(Mishap):
        """Does not know its z range, or knows no height at all."""

        def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
            scan = super().scan(frame, fraction)
            blank = self.counted["scan"] == 4
            return replace(
                scan, z=np.full_like(scan.z, math.nan) if blank else scan.z, z_range=None
            )

    with lab(tmp_path, Verdicts(GOOD), "operation.scans=5", microscope=Unknown(),
             z_window=(0.1, 0.2)) as it:  # fmt: skip
        it.runner.run()
        assert it.rows("SELECT DISTINCT act FROM acts") == [("withdraw",)]


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("act", ["withdraw", "approach"])
def test_an_adjustment_that_is_cut_off_goes_on_from_what_the_instrument_says(
    tmp_path: Path, act: str, done: bool
) -> None:
    settings = (drifting(800.0), SHORT, "operation.scans=30")
    with lab(tmp_path, Verdicts(GOOD), *settings, z_window=WINDOW) as it:
        it.until(State.RECOVER)
        if act == "approach":
            it.runner.step()
        before = it.microscope.get_state()
        it.journal.commit = lambda *state: it.journal.rollback()  # type: ignore[method-assign]
        it.runner.step()
        kept = it.microscope.get_state() if done else before
    with lab(tmp_path, Verdicts(GOOD), *settings, z_window=WINDOW) as it:
        it.microscope.set_state(kept)
        assert not it.runner.run().failed
        acts = it.rows("SELECT act, result FROM acts ORDER BY id")
        unknown = acts.index((act, "unknown"))
        # An approach that was carried out is not done again; a withdrawal may be.
        assert State.RECOVER not in it.visited[: it.visited.index(State.IMAGE)]
        again = [("approach", "done")] if (act, done) != ("approach", True) else []
        if act == "withdraw":
            again = [("withdraw", "done"), *again]
        assert acts[unknown + 1 :][: len(again)] == again
        assert (acts.count((act, "unknown")), it.rows("SELECT * FROM recoveries")) == (1, [])


def test_a_tilted_sample_stays_within_the_default_window() -> None:
    """So that the default disturbs no simulated microscope at any place of its area."""
    config = load_config()
    least, most = config.real.z_window or (0, 1)
    corners = []
    for seed in range(40):
        microscope = build_microscope(config, seed)
        low, high = microscope.z_range
        for x in (-0.95, 0.95):
            for y in (-0.95, 0.95):
                microscope.move_to(x * microscope.reach, y * microscope.reach)
                corners.append((high - microscope.status().z) / (high - low))
    assert least < min(corners) < max(corners) < most


def test_a_run_on_a_nanonis_steps_away_from_a_surface_that_comes_nearer(tmp_path: Path) -> None:
    """Without the window it ends in the surface, and the tip cannot be withdrawn any more."""
    run = tmp_path / "run"
    with virtual_nanonis("--set", drifting(300.0)) as ports:
        settings = [on(ports), "real.nanonis.coarse.retract=z+", SHORT]
        survey = ["--no-conditioning", "--scans", "45", "--run-dir", str(run)]
        assert main(["run", "--env", "real", *survey, "--set", *settings]) == 0
        assert is_safe(ports)
        assert ask(ports, "Motor.StepCounterGet", reset_x=0, reset_y=0, reset_z=0)["z"] > 0
    with reading(run) as db:
        assert not db.execute("SELECT * FROM recoveries").fetchall()
        acts = [tuple(row) for row in db.execute("SELECT act, result FROM acts ORDER BY id")]
        notes = [text for (text,) in db.execute("SELECT text FROM events WHERE kind='z window'")]
    assert acts[:2] == [("withdraw", "done"), ("approach", "done")]
    assert len(acts) == 2 * len(notes) + 1 >= 3
