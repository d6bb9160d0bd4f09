"""Conditioning that does not help is ended; conditioning that helps is not disturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spm_gym.assembly.environment import make_env
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import BudgetConfig, load_config
from spm_gym.envs.budget import Budget, BudgetSpent
from spm_gym.instrument.guard import Guard
from spm_gym.runner.states import State
from tests.support.scripted_runs import Verdicts, lab

HOUR = 3600.0


def spend(budget: Budget, most: int = 1000) -> int:
    """Actions until the budget is spent."""
    for done in range(most):
        try:
            budget.spend()
        except BudgetSpent:
            return done
    return most


def test_before_the_first_good_image_the_budget_is_small() -> None:
    budget = Budget(BudgetConfig(unproven_actions=7, fruitless_actions=20))
    assert spend(budget) == 7
    budget.observe_image(good=True)
    assert spend(budget) == 20
    budget.observe_image(good=False)
    assert spend(budget) == 0
    budget.observe_image(good=True)
    assert spend(budget) == 20


def test_failed_conditionings_end_it_in_a_row_or_within_a_night() -> None:
    now = [0.0]
    budget = Budget(BudgetConfig(failed_in_a_row=2, failed_per_night=3), lambda: now[0])
    budget.fail_episode()
    budget.check_episodes()
    budget.fail_episode()
    with pytest.raises(BudgetSpent, match="2 conditionings in a row"):
        budget.check_episodes()
    budget.observe_image(good=True)
    budget.check_episodes()
    budget.fail_episode()
    with pytest.raises(BudgetSpent, match="3 conditionings have failed within 12 hours"):
        budget.check_episodes()
    now[0] += 13 * HOUR
    budget.check_episodes()


events = st.lists(st.sampled_from(["act", "good", "bad", "failed"]), max_size=80)


@given(events, st.integers(0, 80))
def test_a_budget_goes_on_from_its_state(happened: list[str], cut: int) -> None:
    config = BudgetConfig(
        unproven_actions=5, fruitless_actions=9, failed_in_a_row=2, failed_per_night=4
    )

    def play(budget: Budget, part: list[str]) -> list[bool]:
        refused = []
        for event in part:
            if event == "act":
                try:
                    budget.spend()
                    refused.append(False)
                except BudgetSpent:
                    refused.append(True)
            elif event == "failed":
                budget.fail_episode()
            else:
                budget.observe_image(event == "good")
        return refused

    whole = play(Budget(config), happened)
    first, second = Budget(config), Budget(config)
    started = play(first, happened[:cut])
    second.set_state(first.get_state())
    assert started + play(second, happened[cut:]) == whole


@given(st.lists(st.integers(1, 39), min_size=1, max_size=60))
def test_what_succeeds_in_time_is_never_disturbed(lengths: list[int]) -> None:
    budget = Budget(BudgetConfig())
    for length in lengths:
        for _ in range(length):
            budget.spend()
            budget.observe_image(good=False)
        budget.observe_image(good=True)


def bad(images: np.ndarray) -> np.ndarray:
    return np.full(len(images), 0.5, np.float32)


def test_an_environment_on_a_microscope_that_can_be_harmed_ends_before_the_act() -> None:
    config = load_config(None, ["budget.unproven_actions=4", "env.damage=false"])
    acts: list[dict[str, Any]] = []
    guard = Guard(build_microscope(config), None, acts.append)
    env = make_env(config, instrument=guard)
    env.classifier = bad
    env.reset(seed=1)
    for _ in range(4):
        env.step(0)
    done = len(acts)
    with pytest.raises(BudgetSpent, match=r"budget\.unproven_actions = 4"):
        env.step(0)
    assert len(acts) == done


def test_a_classifier_that_calls_every_tip_good_has_it_damaged_once() -> None:
    config = load_config(None, ["env.damage_actions=6"])
    acts: list[dict[str, Any]] = []
    guard = Guard(build_microscope(config), None, acts.append)
    env = make_env(config, instrument=guard)
    env.classifier = lambda images: np.full(len(images), 0.97, np.float32)
    with pytest.raises(BudgetSpent, match=r"after 6 attempts.*budget\.failed_damage"):
        env.reset(seed=1)
    assert sum(act["result"] == "done" for act in acts) <= 6


def test_a_simulated_environment_has_no_budget() -> None:
    env = make_env(load_config(None, ["budget.unproven_actions=1"]))
    assert env.unwrapped.budget is None


def test_a_run_that_helps_nothing_withdraws_tells_and_fails(tmp_path: Path) -> None:
    with lab(tmp_path, bad, "budget.unproven_actions=12") as made:
        outcome = made.runner.run()
        assert outcome.failed
        assert outcome.safe
        assert "12 actions, and not one image was called good" in outcome.ending
        assert not made.microscope.status().approached
        acts = made.rows(
            "SELECT count(*) FROM acts WHERE act IN ('pulse', 'dip', 'stall') AND result = 'done'"
        )
        assert acts == [(12,)]
        assert [kind for kind, _ in made.notified] == ["recovery failed"]
        # Every act was looked at: the last image came after the last act.
        assert made.rows("SELECT count(*) FROM steps WHERE scan_after IS NULL") == [(0,)]


def test_conditionings_that_fail_one_after_the_other_end_a_run(tmp_path: Path) -> None:
    good_at_first = Verdicts(0.99, 0.5)
    settings = ("env.max_steps=5", "budget.failed_in_a_row=2")
    with lab(tmp_path, good_at_first, *settings) as made:
        outcome = made.runner.run()
        assert "2 conditionings in a row have failed" in outcome.ending
        ends = made.rows("SELECT outcome FROM episodes")
        assert ends == [("limit",), ("limit",)]


def test_acts_that_kills_have_cut_off_are_counted(tmp_path: Path) -> None:
    """Or a run that is killed in every act, and resumed, would go on for ever."""
    settings = ("budget.unproven_actions=5",)
    for kills in range(8):
        with lab(tmp_path, bad, *settings) as made:
            if kills:
                made.runner.step()  # whatever is next
            try:
                made.until(State.CONDITION)
                made.microscope.condition = killed  # type: ignore[method-assign]
                made.runner.step()
            except Killed:
                continue
            except AssertionError:
                pass  # never reached: the run has ended
            break
    assert kills == 5
    assert "5 actions" in made.runner.run_state.ending.reason


class Killed(BaseException):
    """An exception that nothing catches, like a kill."""


def killed(*_: object) -> None:
    raise Killed


def test_a_run_counts_on_after_a_kill_and_again_after_a_look(tmp_path: Path) -> None:
    settings = ("budget.unproven_actions=12",)
    with lab(tmp_path, bad, *settings) as made:
        made.until(State.CONDITION)
        for _ in range(4):
            made.until(State.CONDITION)
    with lab(tmp_path, bad, *settings) as resumed:
        outcome = resumed.runner.run()
        assert outcome.failed
        done = (
            "SELECT count(*) FROM acts WHERE act IN ('pulse', 'dip', 'stall') AND result = 'done'"
        )
        ((first,),) = resumed.rows(done)
        assert first == 12
    with lab(tmp_path, bad, *settings) as looked_at:
        assert looked_at.runner.run().failed
        assert looked_at.rows(done) == [(24,)]


@pytest.mark.parametrize(
    ("verdicts", "ends"),
    [((0.99,), False), ((0.5, 0.99), False), ((0.5, 0.5, 0.99), True), ((0.0,), True)],
)
def test_a_tip_that_a_person_calls_good_must_be_called_good(
    verdicts: tuple[float, ...], ends: bool, tmp_path: Path
) -> None:
    settings = ("operation.require_good_start=true", "operation.condition_after=1",
                "operation.scans=6")  # fmt: skip
    with lab(tmp_path, Verdicts(*verdicts), *settings) as made:
        outcome = made.runner.run()
        assert outcome.failed is ends
        assert ("operation.require_good_start" in outcome.ending) is ends
        if ends:
            assert made.rows("SELECT count(*) FROM acts WHERE act = 'dip'") == [(0,)]
            assert made.runner.run_state.imaging.images == 3


def test_without_a_promise_a_bad_tip_is_conditioned_from_the_start(tmp_path: Path) -> None:
    with lab(tmp_path, bad, "operation.condition_after=1") as made:
        made.until(State.CONDITION, most=20)
