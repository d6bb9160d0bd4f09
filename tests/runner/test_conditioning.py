"""Conditioning in a run: when it begins, what is decided, done, written down and learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.run_policies import RandomRunPolicy
from spm_gym.assembly.classifier import build_classifier
from spm_gym.config import PAPER_ACTIONS, Config
from spm_gym.errors import (
    OutcomeUnknown,
)
from spm_gym.instrument.sim.dynamics import HiddenState, Shape
from spm_gym.runner.states import State
from spm_gym.types import Decision, Forecast
from tests.support.mishaps import Mishap
from tests.support.scripted_runs import Verdicts, lab

GOOD, BAD = 0.95, 0.02


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


def test_nothing_is_done_on_a_forecast_that_is_no_number(tmp_path: Path) -> None:
    nonsense = Forecast((1.0,), (0.5,) * 12, (float("nan"),) * 12)
    with lab(tmp_path, Verdicts(BAD), "operation.condition_after=2") as it:
        it.policy.choose = lambda *_: Decision(0, "agent", forecast=nonsense)  # type: ignore[method-assign]
        outcome = it.runner.run()
        assert outcome.failed
        assert outcome.safe
        assert "not all finite" in outcome.ending
        assert not it.rows("SELECT * FROM steps")
        assert not it.rows("SELECT * FROM acts WHERE act IN ('dip', 'pulse', 'stall')")
