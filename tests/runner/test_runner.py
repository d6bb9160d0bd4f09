from __future__ import annotations

import dataclasses
import math
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.run_policies import RandomRunPolicy
from spm_gym.assembly.build import build_classifier, build_microscope
from spm_gym.config import PAPER_ACTIONS, Config, load_config
from spm_gym.envs import observation
from spm_gym.errors import (
    CommandFailed,
    ConnectionLost,
    ContactLost,
    InstrumentError,
    OutcomeUnknown,
)
from spm_gym.instrument.sim.dynamics import HiddenState, Shape
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.journal.reader import JournalError
from spm_gym.runner import image_handlers
from spm_gym.runner.control import Request
from spm_gym.runner.states import State
from spm_gym.types import Conditioning, Decision, Direction, Frame, Scan, Status
from tests.support.scripted_runs import Lab, Verdicts, everything, lab

NM = 1e-9
GOOD, BAD = 0.95, 0.02


class Mishap(SimulatedMicroscope):
    """A simulated microscope to which something happens at a certain call.

    Args:
        calls: Number of a call by method, from 1, and what to do instead; None: an accident
            has happened by then.
    """

    def __init__(self, **calls: dict[int, Any]) -> None:
        self.calls = calls
        self.counted: dict[str, int] = {}
        super().__init__(load_config(None, ["simulator.rough_fraction=0"]).simulator, seed=5)
        self.config = self.config.model_copy(
            update={"tip_change_rate": 0, "contact_loss_rate": 0, "crash_rate": 0}
        )

    def _due(self, name: str) -> Any:
        self.counted[name] = self.counted.get(name, 0) + 1
        return self.calls.get(name, {}).get(self.counted[name])

    def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
        what = self._due("scan")
        if isinstance(what, BaseException):
            raise what
        if what is not None:
            self.inject(what)
        return super().scan(frame, fraction)

    def condition(self, action: Conditioning, x: float, y: float) -> None:
        self._raise("condition")
        super().condition(action, x, y)

    def retract(self) -> None:
        self._raise("retract")
        super().withdraw()

    def withdraw(self) -> None:
        self._raise("withdraw")
        super().withdraw()

    def approach(self) -> None:
        self._raise("approach")
        super().approach()

    def move_area(self, direction: Direction) -> None:
        what = self._due("move_area")
        if isinstance(what, OutcomeUnknown):
            super().move_area(direction)
        if what is not None:
            raise what
        super().move_area(direction)

    def reconnect(self) -> None:
        self._raise("reconnect")

    def _raise(self, name: str) -> None:
        what = self._due(name)
        if what is not None:
            raise what


def always(error: Any) -> Any:
    class Always(dict[int, Any]):
        def get(self, key: int, default: Any = None) -> Any:
            return error

    return Always()


# --- conditioning ---------------------------------------------------------------------------------


def test_conditioning_begins_after_ten_bad_images_in_a_row_not_after_nine(tmp_path: Path) -> None:
    verdicts = [BAD] * 9 + [GOOD] + [BAD] * 10 + [BAD, BAD, GOOD, GOOD]
    with lab(tmp_path, Verdicts(*verdicts), "operation.scans=25") as it:
        it.until(State.CONDITION)
        assert it.labels() == ["bad probe"] * 9 + ["good"] + ["bad probe"] * 10
        outcome = it.runner.run()
        assert it.labels()[20:] == ["conditioning"] * 3 + ["good"] * 2
        assert it.rows("SELECT outcome, actions, first_scan FROM episodes") == [("good", 3, 40)]
        assert not outcome.failed


def test_the_number_of_bad_images_is_a_setting(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(BAD), "operation.condition_after=2") as it:
        it.until(State.CONDITION)
        assert it.labels() == ["bad probe"] * 2


def test_no_probe_is_damaged_on_purpose(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(*[BAD] * 12, GOOD), "operation.condition_after=3",
             "operation.scans=20") as it:  # fmt: skip
        it.runner.run()
        acts = it.rows("SELECT act FROM acts WHERE act IN ('pulse', 'dip', 'stall')")
        assert len(acts) == len(it.rows("SELECT * FROM steps"))


def test_bad_sample_in_between_does_not_interrupt_the_count(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(BAD), "simulator.rough_fraction=0.4") as it:
        it.until(State.CONDITION)
        assert it.labels().count("bad probe") == 10
        assert "bad sample" in it.labels()


def test_at_the_time_limit_the_area_is_changed_and_one_bad_image_goes_on(tmp_path: Path) -> None:
    settings = ("env.max_steps=4", "operation.condition_after=3")
    with lab(tmp_path, Verdicts(BAD), *settings) as it:
        it.until(State.CHANGE_AREA)
        assert it.rows("SELECT outcome, actions FROM episodes") == [("limit", 4)]
        it.until(State.CONDITION)
        assert it.labels()[-1] == "bad probe"
        assert it.labels().count("bad probe") == 3 + 1
        assert it.rows("SELECT number, reason FROM areas") == [(0, "start"), (1, "time limit")]


def test_every_decision_is_written_with_what_it_rested_on_and_what_came_of_it(
    tmp_path: Path,
) -> None:
    with lab(tmp_path, Verdicts(BAD, BAD, BAD, GOOD), "operation.condition_after=2",
             "operation.scans=5") as it:  # fmt: skip
        it.runner.run()
        steps = it.rows("SELECT number, scan, scan_after, reward, terminated, act FROM steps")
        assert [step[:5] for step in steps] == [(1, 4, 6, -1.0, 0), (2, 6, 8, 10.0, 1)]
        acts = it.rows("SELECT number, result FROM acts WHERE act != 'withdraw'")
        assert acts == [(step[5], "done") for step in steps]
        taught = it.rows("SELECT action, reward, terminated FROM steps")
        assert it.policy.taught == taught


def test_learning_in_operation_can_be_switched_off(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(BAD, BAD, BAD, GOOD), "operation.condition_after=2",
             "operation.scans=5", "operation.learn=false") as it:  # fmt: skip
        it.runner.run()
        assert it.rows("SELECT COUNT(*) FROM steps") == [(2,)]
        assert not it.policy.taught
        assert not it.policy.saved


def test_checkpoints_follow_the_journal_and_never_run_ahead(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(BAD), "operation.condition_after=1", "operation.scans=12",
             "operation.checkpoint_every=4") as it:  # fmt: skip
        it.runner.run()
        assert it.policy.saved == [4, 8, 11]


def test_a_refused_action_is_an_act_of_nobody(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(BAD), "operation.condition_after=1", "operation.scans=8") as it:
        it.env.config = it.env.config.model_copy(  # more than any image has
            update={"actions": (*PAPER_ACTIONS[:-1],
                                PAPER_ACTIONS[-1].model_copy(update={"clean_nm": 99.0}))}
        )  # fmt: skip
        it.policy.choose = lambda observation, mask, episode: Decision(len(mask) - 1, "random")  # type: ignore[method-assign]
        it.runner.run()
        steps = it.rows("SELECT refused, act, uncertain FROM steps")
        assert steps == [(1, None, 0)] * 7
        assert not it.rows("SELECT * FROM acts WHERE act IN ('pulse', 'dip', 'stall')")


# --- regions and areas ----------------------------------------------------------------------------


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


# --- trouble --------------------------------------------------------------------------------------


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
    from spm_gym.runner.watchdog import over_current

    microscope = Current(*currents)
    microscope.watched = True
    assert over_current(microscope, 5e-9, 2.5) is crashed


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
        assert [kind for kind, _ in it.told] == ["recovery failed"]
        assert "lost contact" in it.told[0][1]


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


def test_an_action_of_unknown_outcome_is_looked_at_not_repeated_and_teaches_nothing(
    tmp_path: Path,
) -> None:
    microscope = Mishap(condition={1: OutcomeUnknown("no reply")})
    with lab(tmp_path, Verdicts(BAD), "operation.condition_after=1", "operation.scans=4",
             microscope=microscope) as it:  # fmt: skip
        it.runner.run()
        assert it.rows("SELECT result FROM acts WHERE number = 1") == [("unknown",)]
        assert it.rows("SELECT uncertain, scan_after IS NOT NULL FROM steps")[0] == (1, 1)
        assert microscope.counted["condition"] == len(it.rows("SELECT * FROM steps")) == 3
        assert len(it.policy.taught) == 2


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


# --- the end --------------------------------------------------------------------------------------


def test_a_run_ends_after_its_images_or_hours_with_the_tip_withdrawn(tmp_path: Path) -> None:
    with lab(tmp_path / "a", Verdicts(GOOD), "operation.scans=3") as it:
        outcome = it.runner.run()
        assert it.labels() == ["good"] * 3
        assert outcome.safe
        assert not it.microscope.status().approached
        assert it.told[-1][0] == "stop"
    with lab(tmp_path / "b", Verdicts(GOOD), "operation.hours=0.1") as it:
        it.runner.run()
        assert 360 <= it.runner.run_state.clock.elapsed < 360 + 60


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


def test_a_fault_of_the_program_withdraws_before_it_shows(tmp_path: Path) -> None:
    def broken(images: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("a bug")

    with lab(tmp_path, broken) as it:
        with pytest.raises(ZeroDivisionError):
            it.runner.run()
        assert not it.microscope.status().approached
        assert it.told == [("recovery failed", it.told[0][1])]


@pytest.mark.parametrize("answer", [-1, 12, 1.5, True])
def test_an_answer_that_is_no_action_is_neither_done_nor_written_down(
    tmp_path: Path, answer: Any
) -> None:
    with lab(tmp_path, Verdicts(BAD)) as it:
        it.until(State.CONDITION)
        it.policy.choose = lambda observation, mask, episode: Decision(answer, "random")  # type: ignore[method-assign]
        with pytest.raises(ValueError, match="from 0 to 11"):
            it.runner.run()
        assert not it.rows("SELECT * FROM steps")
        assert not it.rows("SELECT * FROM acts WHERE act IN ('pulse', 'dip', 'stall')")
        assert not it.microscope.status().approached


def test_who_chooses_cannot_widen_the_mask(tmp_path: Path) -> None:
    def greedy(observation: np.ndarray, mask: np.ndarray, episode: int) -> Decision:
        mask[:], observation[:] = True, 0
        return Decision(11, "random")

    with lab(tmp_path, Verdicts(BAD), "simulator.molecules_per_nm2=0.2",
             "simulator.min_distance_nm=1.45") as it:  # fmt: skip
        it.until(State.CONDITION)
        assert it.env.processed is not None
        assert not it.env.action_masks()[11]
        it.policy.choose = greedy  # type: ignore[assignment,method-assign]
        it.runner.step()
        assert it.rows("SELECT action, refused FROM steps") == [(11, 1)]
        assert not it.rows("SELECT * FROM acts WHERE act = 'dip'")


def test_a_tip_that_cannot_be_withdrawn_is_said(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=1") as it:

        def stuck() -> None:
            raise CommandFailed("the motor is stuck")

        it.microscope.withdraw = stuck  # type: ignore[method-assign]
        outcome = it.runner.run()
        assert not outcome.safe
        assert "stuck" in outcome.trouble
        assert "NOT WITHDRAWN" in it.told[-1][1]


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


def test_a_disk_that_is_full_does_not_keep_the_tip_at_the_surface(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD)) as it:
        it.until(State.IMAGE)

        def full(*_: Any, **__: Any) -> Any:
            raise sqlite3.OperationalError("database or disk is full")

        it.journal._insert = full  # type: ignore[method-assign]
        with pytest.raises(sqlite3.OperationalError):
            it.runner.run()
        assert not it.microscope.status().approached
        assert it.told[-1][0] == "recovery failed"
        assert "disk is full; tip withdrawn" in it.told[-1][1]


def test_an_act_has_one_result(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD)) as it:
        entry = {"time": 0.0, "act": "dip", "number": 1}
        it.journal.record_act(entry | {"result": "intended"})
        it.journal.record_act(entry | {"result": "done"})
        with pytest.raises(JournalError, match="act 1 has a result"):
            it.journal.record_act(entry | {"result": "failed"})


def test_requests_are_obeyed_before_the_next_command(tmp_path: Path) -> None:
    requested: list[Request | None] = [None]
    with lab(tmp_path, Verdicts(GOOD), requests=lambda: requested[0]) as it:
        it.until(State.IMAGE)
        requested[0] = Request.PAUSE
        assert it.runner.step() is State.PAUSE
        assert it.runner.step() is State.PAUSE
        assert not it.microscope.status().approached
        requested[0] = Request.RESUME
        assert it.runner.step() is State.APPROACH
        it.until(State.COLLECT)
        requested[0] = Request.STOP
        outcome = it.runner.run()
        assert outcome.ending == "asked to stop"
        assert it.labels() == ["good"]


def test_a_stop_does_not_leave_an_image_unclassified(tmp_path: Path) -> None:
    requested: list[Request | None] = [None]
    with lab(tmp_path, Verdicts(GOOD), requests=lambda: requested[0]) as it:
        it.until(State.DIAGNOSE)
        requested[0] = Request.STOP
        it.runner.run()
        assert it.labels() == ["good"]


# --- going on -------------------------------------------------------------------------------------

WORLD = ("env.ground_truth=true", "simulator.tip_change_rate=0.15",
         "simulator.contact_loss_rate=0.02", "simulator.crash_rate=0.02",
         "simulator.rough_fraction=0.1", "env.regions.area_nm=100",
         "operation.condition_after=2", "operation.scans=60")  # fmt: skip


def lively(folder: Path) -> Lab:
    made = Lab(folder, Verdicts(GOOD), *WORLD, microscope=build_microscope(
        load_config(None, list(WORLD)), 11))  # fmt: skip
    microscope = made.microscope
    made.env.classifier = lambda images: np.full(len(images), microscope.truth.good, np.float32)
    return made


def test_a_run_cut_into_pieces_is_the_run_in_one_piece(tmp_path: Path) -> None:
    whole = lively(tmp_path / "whole")
    whole.runner.run()
    whole.journal.close()
    rng = np.random.default_rng(0)
    ended = False
    while not ended:
        piece = lively(tmp_path / "pieces")
        for _ in range(int(rng.integers(1, 40))):
            if piece.runner.state is State.STOP or piece.runner.step() is State.STOP:
                ended = True
                piece.runner.run()
                break
        piece.journal.close()
    one, other = everything(tmp_path / "whole"), everything(tmp_path / "pieces")
    assert len(one["steps"]) > 5
    assert len(one["recoveries"]) > 1
    for table in one:
        assert one[table] == other[table], table


def interrupted_in_compiled_code() -> SystemError:
    """What becomes of Ctrl-C while a compiled function is being entered."""
    error = SystemError("a function returned a result with an exception set")
    error.__cause__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), interrupted_in_compiled_code()])
def test_an_interrupt_in_a_scan_withdraws_and_loses_nothing(
    tmp_path: Path, interrupt: BaseException
) -> None:
    microscope = Mishap(scan={4: interrupt})
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=3", microscope=microscope) as it:
        outcome = it.runner.run()
        assert outcome.ending == "interrupted"
        assert outcome.safe
        assert not it.microscope.status().approached
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=3", microscope=Mishap()) as it:
        assert it.runner.state is State.IMAGE
        it.runner.run()
    with lab(tmp_path.with_name("other"), Verdicts(GOOD), "operation.scans=3",
             microscope=Mishap()) as it:  # fmt: skip
        it.runner.run()
    interrupted, straight = everything(tmp_path), everything(tmp_path.with_name("other"))
    assert interrupted["scans"] == straight["scans"]
    assert interrupted["files"] == straight["files"]


def test_an_interrupt_in_an_act_leaves_it_unknown_and_its_step_knows_it(tmp_path: Path) -> None:
    settings = ("operation.condition_after=1", "operation.scans=6")
    microscope = Mishap(condition={2: KeyboardInterrupt()})
    with lab(tmp_path, Verdicts(BAD), *settings, microscope=microscope) as it:
        assert it.runner.run().ending == "interrupted"
    with lab(tmp_path, Verdicts(BAD), *settings, microscope=Mishap()) as it:
        it.runner.run()
        acts = it.rows("SELECT number, act, result FROM acts")
        assert [result for _, act, result in acts if act != "withdraw"].count("unknown") == 1
        steps = it.rows("SELECT act, uncertain FROM steps ORDER BY id")
        assert [number for number, act, _ in acts if act != "withdraw"] == [a for a, _ in steps]
        assert [uncertain for _, uncertain in steps].count(1) == 1


@pytest.mark.parametrize(
    ("state", "goes_on"),
    [(State.CONDITION, State.CHOOSE), (State.CHANGE_AREA, State.APPROACH),
     (State.CLEAN, State.APPROACH), (State.APPROACH, State.APPROACH)],
)  # fmt: skip
def test_an_act_that_a_kill_has_cut_off_is_unknown_and_not_repeated(
    tmp_path: Path, state: State, goes_on: State
) -> None:
    settings = ("operation.condition_after=1", "env.regions.area_nm=20", "operation.scans=40")
    accident = {"scan": {2: "crash"}} if state in (State.CLEAN, State.APPROACH) else {}
    classifier = Verdicts(BAD if state is State.CONDITION else GOOD)
    with lab(tmp_path, classifier, *settings, microscope=Mishap(**accident)) as it:
        it.until(state)
        intents = len(it.rows("SELECT * FROM acts"))
        it.journal.commit = lambda *state: it.journal.rollback()  # type: ignore[method-assign]
        it.runner.step()  # its intent is there, its result is not
    with lab(tmp_path, classifier, *settings, microscope=Mishap()) as it:
        assert it.runner.state is goes_on
        act, result = it.rows("SELECT act, result FROM acts ORDER BY id DESC LIMIT 1")[0]
        assert (result, len(it.rows("SELECT * FROM acts"))) == ("unknown", intents + 1)
        assert act in ("dip", "pulse", "stall", "move area", "approach")
        if state is State.CONDITION:
            it.until(State.CLASSIFY)
            it.runner.step()
            assert it.rows("SELECT uncertain, scan_after IS NULL FROM steps")[0] == (1, 0)
            assert not it.policy.taught
        if state is State.CHANGE_AREA:
            assert it.rows("SELECT certain FROM areas") == [(1,), (0,)]
        if state is State.CLEAN:
            assert it.runner.run_state.place.clean_at is None


def test_the_map_survives_and_equals_that_of_the_journal(tmp_path: Path) -> None:
    first = lively(tmp_path)
    for _ in range(200):
        first.runner.step()
    free = first.env.navigator.regions.free.copy()
    first.journal.close()
    again = lively(tmp_path)
    assert np.array_equal(again.env.navigator.regions.free, free)
    assert again.env.navigator.regions.marks == again.journal.marks(
        again.runner.run_state.place.area
    )
    again.journal.close()


def test_a_daily_summary_comes_daily(tmp_path: Path) -> None:
    with lab(tmp_path, Verdicts(GOOD), "operation.scans=6") as it:
        it.env.navigator.await_creep = lambda: None  # type: ignore[method-assign]
        for _ in range(8):
            it.runner.step()
        it.microscope.wait(86_400)
        it.runner.run()
        assert [kind for kind, _ in it.told] == ["daily summary", "stop"]


def test_an_image_is_diagnosed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole one, also in conditioning, together with all else that is read from it."""
    counted: list[str] = []

    def count(module: Any, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a: counted.append(name) or function(*a))

    count(observation, "read_scans")
    count(image_handlers, "diagnose")
    settings = ("operation.scans=8", "operation.condition_after=1")
    with lab(tmp_path, Verdicts(GOOD, BAD, BAD, BAD, GOOD), *settings) as it:
        it.until(State.CLASSIFY)
        assert counted == ["diagnose", "read_scans"]
        it.runner.run()
        assert counted.count("read_scans") == 8
        [(partial,)] = it.rows("SELECT COUNT(*) FROM scans WHERE fraction < 1")
        assert counted.count("diagnose") == partial
        assert it.rows("SELECT outcome FROM episodes") == [("good",)]


def test_an_image_in_hand_is_read_again_after_a_restart(tmp_path: Path) -> None:
    with lab(tmp_path / "cut", Verdicts(GOOD), "operation.scans=3") as it:
        it.until(State.CLASSIFY)
    for folder in ("cut", "whole"):
        with lab(tmp_path / folder, Verdicts(GOOD), "operation.scans=3") as it:
            it.runner.run()
    assert everything(tmp_path / "cut") == everything(tmp_path / "whole")


def test_a_bad_probe_is_really_repaired(tmp_path: Path) -> None:
    """Nothing scripted: the shipped classifier, the true physics, actions at random."""
    config = Config()
    policy = RandomRunPolicy(np.random.default_rng(1))
    with lab(tmp_path, build_classifier(config), "operation.scans=80", policy=policy) as it:
        it.microscope.set_probe(HiddenState(Shape.MULTIPLE, contaminated=True))
        it.runner.run()
        assert it.labels()[:10] == ["bad probe"] * 10
        assert it.rows("SELECT outcome FROM episodes")[0] == ("good",)
        assert it.labels().count("good") > 5
