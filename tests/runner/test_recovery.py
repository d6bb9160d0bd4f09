"""Trouble in a run, and how it is recovered from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from spm_gym.config import Config, load_config
from spm_gym.errors import (
    CommandFailed,
    ConnectionLost,
    ContactLost,
    InstrumentError,
)
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.runner.control import Request
from spm_gym.runner.states import State
from spm_gym.types import Conditioning, Frame, Scan, Status
from tests.support.mishaps import Mishap, always
from tests.support.scripted_runs import Verdicts, lab

NM = 1e-9
GOOD, BAD = 0.95, 0.02


def test_lost_contact_is_approached_again_and_the_same_place_imaged(tmp_path: Path) -> None:
    microscope = Mishap(scan={6: "lost contact"})
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=5", microscope=microscope) as it:
        outcome = it.runner.run()
        assert not outcome.failed
        assert it.labels() == ["good", "good", "unusable", "good", "good"]
        images = it.rows("SELECT x, y FROM scans WHERE fraction = 1 ORDER BY id")
        assert images[2] == images[3]
        assert it.rows("SELECT trouble, result FROM recoveries") == [("lost contact", "recovered")]
        assert it.rows("SELECT act, result FROM acts") == [
            ("approach", "done"),
            ("withdraw", "done"),
        ]
        recover = it.visited.index(State.RECOVER)
        assert it.visited[recover : recover + 4] == [
            State.RECOVER, State.APPROACH, State.SETTLE, State.PARTIAL
        ]  # fmt: skip


def test_a_crash_is_retracted_from_cleaned_and_its_place_blocked(tmp_path: Path) -> None:
    microscope = Mishap(scan={4: "crash"})
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=4", microscope=microscope) as it:
        it.runner.run()
        acts = [act for (act,) in it.rows("SELECT act FROM acts ORDER BY id")]
        assert acts == ["retract", "approach", "pulse", "withdraw"]
        assert it.rows("SELECT trouble, result FROM recoveries") == [("crash", "recovered")]
        ((x, y),) = it.rows("SELECT x, y FROM marks WHERE reason = 'crash'")
        assert (x, y) in it.rows("SELECT x, y FROM scans WHERE label = 'unusable'")
        assert it.rows("SELECT x, y FROM scans WHERE id > 4 AND ABS(x - ?) < 2e-8 "
                       "AND ABS(y - ?) < 2e-8", x, y) == []  # fmt: skip


def test_cleaning_after_a_crash_can_be_switched_off(tmp_path: Path) -> None:
    microscope = Mishap(scan={4: "crash"})
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=4", "operation.clean_action=null",
             microscope=microscope) as it:  # fmt: skip
        it.runner.run()
        assert it.rows("SELECT act FROM acts") == [("retract",), ("approach",), ("withdraw",)]


def test_a_crash_seen_in_the_partial_image_spares_the_whole_one(tmp_path: Path) -> None:
    microscope = Mishap(scan={3: "crash"})
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=2", microscope=microscope) as it:
        it.runner.run()
        assert it.rows("SELECT fraction FROM scans WHERE label = 'unusable'") == [(0.25,)]


class Current(SimulatedMicroscope):
    """A microscope whose current shows what it is told to."""

    def __init__(self, *currents: float) -> None:
        self.currents = list(currents)
        super().__init__(Config().simulator, seed=5)
        self.config = self.config.model_copy(update={"tip_change_rate": 0.0})

    def status(self) -> Status:
        status = super().status()
        asked = [
            self.currents.pop(0) if len(self.currents) > 1 else self.currents[0]
            for _ in range(1) if self.watched
        ]  # fmt: skip
        return Status(**{name: getattr(status, name) for name in Status.__slots__}
                      | {"current": asked[0] if asked else status.current})  # fmt: skip

    watched = False


@pytest.mark.parametrize(
    ("currents", "crashed"),
    [((6e-9, 6e-9), True), ((6e-9, 1e-11), False), ((4e-9, 6e-9), False), ((-6e-9, -7e-9), True)],
)
def test_an_over_current_counts_if_it_lasts(currents: tuple[float, ...], crashed: bool) -> None:
    from spm_gym.runner.watchdog import lasting_current

    microscope = Current(*currents)
    microscope.watched = True
    assert (abs(lasting_current(microscope, 5e-9, 2.5)) > 5e-9) is crashed


def test_the_current_of_a_deliberate_dip_is_no_crash(tmp_path: Path) -> None:
    class Loud(SimulatedMicroscope):
        """Draws a microampere while it is conditioned, and for a second after."""

        until = -1.0

        def condition(self, action: Conditioning, x: float, y: float) -> None:
            super().condition(action, x, y)
            self.until = super().status().time + 1.0

        def status(self) -> Status:
            status = super().status()
            loud = status.time < self.until
            return Status(**{name: getattr(status, name) for name in Status.__slots__}
                          | {"current": 1e-6 if loud else status.current})  # fmt: skip

    microscope = Loud(load_config(None, ["simulator.rough_fraction=0"]).simulator, seed=5)
    with lab(tmp_path, Verdicts(BAD), "operation.condition_after=1", "operation.scans=6",
             microscope=microscope) as it:  # fmt: skip
        it.runner.run()
        assert it.rows("SELECT COUNT(*) FROM steps WHERE act IS NOT NULL")[0][0] >= 4
        assert it.rows("SELECT * FROM recoveries WHERE trouble = 'crash'") == []


def test_trouble_without_end_ends_the_run_withdrawn_and_told(tmp_path: Path) -> None:
    microscope = Mishap(scan=always("lost contact"))
    with lab(tmp_path, Verdicts(GOOD), "operation.max_recoveries=4", microscope=microscope) as it:
        outcome = it.runner.run()
        assert (outcome.failed, outcome.safe) == (True, True)
        assert not it.microscope.status().approached
        assert it.rows("SELECT result, COUNT(*) FROM recoveries GROUP BY 1") == [("failed", 5)]
        assert [kind for kind, _ in it.notified] == ["recovery failed"]
        assert "lost contact" in it.notified[0][1]


@pytest.mark.parametrize("error", [ConnectionLost("gone"), CommandFailed("no"), ContactLost("up")])
def test_whatever_goes_wrong_for_ever_is_given_up(tmp_path: Path, error: InstrumentError) -> None:
    microscope = Mishap(scan=always(error))
    with lab(tmp_path, Verdicts(GOOD), microscope=microscope) as it:
        assert it.runner.run().failed
        assert len(it.rows("SELECT * FROM recoveries")) == 6


@pytest.mark.parametrize("again", [False, True])
def test_a_tip_that_somebody_else_has_withdrawn_is_left_so_unless_allowed(
    tmp_path: Path, again: bool
) -> None:
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=4",
             f"operation.approach_withdrawn={again}") as it:  # fmt: skip
        it.until(State.COLLECT)
        it.microscope.withdraw()
        outcome = it.runner.run()
        assert outcome.failed is not again
        assert it.rows("SELECT COUNT(*) FROM acts WHERE act = 'approach'") == [(int(again),)]
        assert again or "approach_withdrawn" in outcome.ending


def test_a_tip_withdrawn_while_the_connection_was_lost_is_left_so(tmp_path: Path) -> None:
    microscope = Mishap(scan={4: ConnectionLost("cut")})
    with lab(tmp_path, Verdicts(GOOD), microscope=microscope) as it:
        it.until(State.RECOVER)
        it.microscope.withdraw()
        assert "withdrawn while" in it.runner.run().ending


def test_repeated_trouble_at_one_spot_blocks_it(tmp_path: Path) -> None:
    microscope = Mishap(scan={2: "lost contact", 4: "lost contact"})
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=4", microscope=microscope) as it:
        it.runner.run()
        images = it.rows("SELECT x, y, label FROM scans WHERE fraction = 1 ORDER BY id")
        assert images[0][:2] == images[1][:2] != images[2][:2]
        ((x, y),) = it.rows("SELECT x, y FROM marks WHERE reason = 'lost contact'")
        assert (x, y) == images[0][:2]
        away = max(abs(images[2][0] - x), abs(images[2][1] - y))
        assert away >= 25 * NM


def test_a_broken_connection_is_repaired_and_the_same_place_imaged(tmp_path: Path) -> None:
    microscope = Mishap(scan={4: ConnectionLost("cut")}, reconnect={1: ConnectionLost("still")})
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=3", microscope=microscope) as it:
        it.runner.run()
        assert (
            it.rows("SELECT trouble, result FROM recoveries") == [("connection", "recovered")] * 2
        )
        assert it.labels() == ["good"] * 3
        parts = it.rows("SELECT x, y FROM scans WHERE label = 'discarded' ORDER BY id")
        assert parts[1] == parts[2]


def test_a_current_that_cannot_be_read_leaves_no_image_unclassified(tmp_path: Path) -> None:
    class Dumb(Mishap):
        """Does not say anything of itself after its third scan."""

        def status(self) -> Status:
            if self.counted.get("scan") == 4:
                raise CommandFailed("no status just now")
            return super().status()

    with lab(tmp_path, Verdicts(GOOD), "operation.scans=4", microscope=Dumb(),
             clock=lambda: 0.0) as it:  # fmt: skip
        it.runner.run()
        assert it.labels() == ["good"] * 4
        assert it.rows("SELECT text FROM events WHERE kind = 'watchdog'")


def test_a_cut_off_approach_is_looked_at_before_another_one(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD), microscope=Mishap(scan={2: "lost contact"})) as it:
        it.until(State.APPROACH)
        it.journal.commit = lambda *state: it.journal.rollback()  # type: ignore[method-assign]
        it.runner.step()
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=3", microscope=Mishap()) as it:
        it.microscope.approach()  # what was cut off had been carried out
        it.runner.run()
        assert it.rows("SELECT act, result FROM acts") == [
            ("approach", "unknown"), ("withdraw", "done")
        ]  # fmt: skip


@pytest.mark.parametrize("scan", [3, 4], ids=["partial image", "image"])
def test_a_tip_that_somebody_withdraws_in_mid_scan_has_not_crashed(
    tmp_path: Path, scan: int
) -> None:
    class Hand(Mishap):
        """Withdraws the tip in the middle of a scan."""

        def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
            recorded = super().scan(frame, fraction)
            if self.counted["scan"] == scan:
                SimulatedMicroscope.withdraw(self)
                z = recorded.z.copy()
                z[5:][np.isfinite(z[5:])] = self.z_range[1]
                return dataclasses.replace(recorded, z=z)
            return recorded

    with lab(tmp_path, Verdicts(GOOD), "operation.scans=9", microscope=Hand()) as it:
        it.runner.run()
        assert it.runner.run_state.ending.failed
        assert "approach_withdrawn" in it.runner.run_state.ending.reason
        assert not it.rows("SELECT * FROM acts WHERE act IN ('approach', 'retract')")
        assert not it.microscope.status().approached


@pytest.mark.parametrize("number", [4, 5])
def test_a_connection_lost_while_a_crash_is_recovered_forgets_no_step_of_it(
    tmp_path: Path, number: int
) -> None:
    """No pulse, no scan and no approach before the tip was taken away."""
    microscope = Mishap(scan={number: "crash"}, retract={1: ConnectionLost("cut")})
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=5", microscope=microscope) as it:
        it.runner.run()
        acts = it.rows("SELECT act, result FROM acts ORDER BY id")
        assert acts[:5] == [("retract", "failed"), ("reconnect", "done"), ("retract", "done"),
                            ("approach", "done"), ("pulse", "done")]  # fmt: skip


def test_a_pause_waits_until_a_crashed_tip_was_taken_away(tmp_path: Path) -> None:
    requested: list[Request | None] = [None]
    with lab(tmp_path, Verdicts(GOOD), microscope=Mishap(scan={4: "crash"}),
             requests=lambda: requested[0], sleep=lambda seconds: None) as it:  # fmt: skip
        it.until(State.RECOVER)
        requested[0] = Request.PAUSE
        it.until(State.PAUSE)
        assert it.rows("SELECT act, result FROM acts") == [("retract", "done")]


def test_a_connection_lost_while_paused_is_repaired_and_the_pause_goes_on(tmp_path: Path) -> None:
    requested: list[Request | None] = [None]
    with lab(tmp_path, Verdicts(GOOD), requests=lambda: requested[0],
             microscope=Mishap(withdraw={1: ConnectionLost("cut")}),
             sleep=lambda seconds: None) as it:  # fmt: skip
        it.until(State.COLLECT)
        requested[0] = Request.PAUSE
        it.until(State.RECOVER)
        it.until(State.PAUSE)
        elapsed = it.runner.run_state.clock.elapsed
        for _ in range(3):
            it.microscope.wait(100)
            assert it.runner.step() is State.PAUSE
        assert it.runner.run_state.clock.elapsed == elapsed
        assert not it.microscope.status().approached
        requested[0] = Request.RESUME
        it.until(State.COLLECT)


def test_at_the_end_a_connection_that_is_hard_to_get_is_tried_until_the_tip_is_up(
    tmp_path: Path,
) -> None:
    gone = ConnectionLost("gone")
    microscope = Mishap(withdraw=dict.fromkeys(range(1, 7), gone))
    microscope.reconnect = lambda: microscope._raise("reconnect")  # type: ignore[method-assign]
    microscope.calls["reconnect"] = dict.fromkeys(range(1, 6), gone)
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=1", microscope=microscope) as it:
        it.until(State.STOP)
        microscope.status = lambda: microscope._raise("status") or Mishap.status(microscope)  # type: ignore[method-assign]
        microscope.calls["status"] = dict.fromkeys(range(1, 14), gone)
        outcome = it.runner.run()
        assert outcome.where == "tip withdrawn"
    assert microscope.counted["withdraw"] == 7
