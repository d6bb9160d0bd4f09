from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest

from agents.evaluation import (
    Episode,
    Transition,
    interleave,
    normalised_score,
    run_episode,
    summarise,
)
from spm_gym.figures.evaluation import plot_lengths


class Countdown(gymnasium.Env):
    """Ends after as many steps as the episode's number; records which action came when."""

    observation_space = gymnasium.spaces.Box(-1.5, 1.5, (1, 8, 8), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self) -> None:
        self.played: list[list[int]] = []
        self.seeds: list[int | None] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.seeds.append(seed)
        self.played.append([])
        return self._observe(), self._info()

    def step(self, action: int) -> Any:
        self.played[-1].append(action)
        ended = len(self.played[-1]) == len(self.played)
        return self._observe(), 10.0 if ended else -1.0, ended, False, self._info()

    def _observe(self) -> np.ndarray:
        return np.full((1, 8, 8), len(self.played[-1]) / 10, np.float32)

    def _info(self) -> dict[str, Any]:
        return {"action_mask": np.array([True, len(self.played) % 2 == 0, False])}


class Priced(Countdown):
    """Every step takes ten seconds of the instrument, and every reset two acts and five."""

    def _info(self) -> dict[str, Any]:
        return super()._info() | {
            "episode_seconds": 10.0 * len(self.played[-1]),
            "reset_actions": 2,
            "reset_seconds": 5.0,
        }


class Constant:
    def __init__(self, action: int) -> None:
        self.action = action
        self.masks: list[np.ndarray] = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False,
                action_masks=None):  # fmt: skip
        self.masks.append(action_masks)
        return self.action, None


def test_policies_alternate_on_one_world() -> None:
    env = Countdown()
    results = list(interleave(env, {"a": Constant(0), "b": Constant(1)}, 2, seed=5))
    assert [name for name, _ in results] == ["a", "b", "a", "b"]
    assert env.played == [[0], [1, 1], [0, 0, 0], [1, 1, 1, 1]]
    assert env.seeds == [5, None, None, None]
    assert [episode.length for _, episode in results] == [1, 2, 3, 4]
    assert results[2][1] == Episode(3, 8.0, True)


def test_every_block_has_each_policy_once_in_an_order_of_its_own() -> None:
    class Draws(Constant):
        def __init__(self, numbers: int) -> None:
            super().__init__(0)
            self.rng, self.numbers = np.random.default_rng(0), numbers

        def predict(self, *arguments, **others):  # type: ignore[no-untyped-def]
            self.rng.random(self.numbers)
            return super().predict(*arguments, **others)

    def orders(numbers: int, seed: int = 3, share: bool = False) -> list[tuple[str, ...]]:
        policies = {name: Draws(numbers) for name in "abc"}
        turns = interleave(Countdown(), policies, 60, 5, rng=np.random.default_rng(seed))
        names = [name for name, _ in turns]
        return [tuple(names[first : first + 3]) for first in range(0, 180, 3)]

    found = orders(0)
    assert all(sorted(block) == ["a", "b", "c"] for block in found)
    counts = Counter(found)
    assert len(counts) == 6
    assert max(counts.values()) < 25
    assert orders(7) == found
    assert orders(0, seed=4) != found


def test_policies_are_given_the_mask_of_every_image() -> None:
    policy = Constant(0)
    run_episode(Countdown(), policy)
    assert policy.masks[0].tolist() == [True, False, False]


def test_transitions_join_up() -> None:
    taken: list[Transition] = []
    env = Countdown()
    env.played = [[]] * 2
    run_episode(env, Constant(1), on_transition=taken.append)
    assert len(taken) == 3
    for earlier, later in itertools.pairwise(taken):
        assert np.array_equal(earlier.next_observation, later.observation)
    assert [t.terminated for t in taken] == [False, False, True]


def test_seconds_are_those_of_the_steps_and_the_reset_is_counted_apart() -> None:
    results = list(interleave(Priced(), {"a": Constant(0)}, 3, seed=5))
    assert [episode.seconds for _, episode in results] == [10, 20, 30]
    summary = summarise({"a": [episode for _, episode in results]}, seed=0)["policies"]["a"]
    assert summary["mean_seconds"] == 20
    assert summary["seconds"] == [10, 20, 30]
    assert summary["resets"] == {
        "mean_actions": 2, "actions_ci95": None, "mean_seconds": 5, "seconds_ci95": None,
    }  # fmt: skip


def test_seconds_of_an_instrument_without_a_clock_are_unknown() -> None:
    results = [episode for _, episode in interleave(Countdown(), {"a": Constant(0)}, 12, seed=5)]
    summary = summarise(dict.fromkeys(("agent", "random", "oracle"), results), seed=0)
    figures = summary["policies"]["agent"]
    assert figures["mean_seconds"] is figures["seconds_ci95"] is figures["seconds"] is None
    assert set(figures["resets"].values()) == {None}
    assert summary["normalised_score_seconds"] is None
    assert figures["mean_length"] == 6.5


def test_processor_time_is_that_of_the_decisions_and_makes_no_other_episode() -> None:
    class Slow(Constant):
        def predict(self, *arguments, **others):  # type: ignore[no-untyped-def]
            began = time.process_time()
            while time.process_time() < began + 0.01:
                pass
            return super().predict(*arguments, **others)

    slow, quick = run_episode(Countdown(), Slow(0)), run_episode(Countdown(), Constant(0))
    assert slow.cpu_seconds >= 0.01 > quick.cpu_seconds
    assert slow == quick


def test_seconds_are_scored_and_bounded_as_actions_are() -> None:
    rng = np.random.default_rng(1)
    results = {
        name: [
            Episode(int(n), 11.0 - n, True, seconds=20.0 * n, cpu_seconds=rng.random())
            for n in 1 + rng.geometric(1 / mean, 50)
        ]
        for name, mean in {"agent": 4, "random": 11, "oracle": 3}.items()
    }
    summary = summarise(results, seed=0)
    actions, seconds = (summary[key] for key in ("normalised_score", "normalised_score_seconds"))
    assert seconds["value"] == pytest.approx(actions["value"])
    assert seconds["ci95"] == pytest.approx(actions["ci95"])
    figures = summary["policies"]["agent"]
    assert figures["mean_seconds"] == pytest.approx(20 * figures["mean_length"])
    assert figures["seconds_ci95"] == pytest.approx([20 * end for end in figures["ci95"]])
    low, high = figures["cpu_seconds_ci95"]
    assert low < figures["mean_cpu_seconds"] < high


def test_score_is_nought_for_random_and_one_for_the_optimum() -> None:
    rng = np.random.default_rng(0)
    random, oracle = [10, 12, 8, 10], [3, 3, 2, 4]
    assert normalised_score(random, random, oracle, rng)[0] == 0
    assert normalised_score(random, oracle, oracle, rng)[0] == 1
    value, (low, high) = normalised_score(random, [5, 6, 4, 5], oracle, rng)
    assert value == pytest.approx(5 / 7)
    assert low < value < high


def test_score_is_undefined_where_the_oracle_does_not_win() -> None:
    lost = [Episode(3, 8.0, True)] * 2
    summary = summarise({"random": lost, "agent": lost, "oracle": lost}, seed=0)
    assert summary["normalised_score"] == {"value": None, "ci95": None}


def test_few_episodes_have_no_interval_and_more_a_possible_one() -> None:
    lucky = [Episode(1, 10.0, True)] * 9
    unlucky = Episode(100, -100.0, False)
    few = summarise(dict.fromkeys(("agent", "random", "oracle"), lucky), seed=0)
    assert all(policy["ci95"] is None for policy in few["policies"].values())
    json.dumps(summarise({"agent": [unlucky]}, seed=0), allow_nan=False)
    low, high = summarise({"agent": [*lucky, unlucky]}, seed=0)["policies"]["agent"]["ci95"]
    assert low == 1 < 10.9 < high
    score = summarise({"random": [unlucky] * 9, "agent": lucky, "oracle": lucky}, seed=0)[
        "normalised_score"
    ]
    assert score == {"value": 1.0, "ci95": None}


def test_what_the_classifier_says_is_held_against_the_truth() -> None:
    episodes = [
        Episode(2, 9.0, True, (False, True)),  # found
        Episode(1, 10.0, True, (False,)),  # called good in error
        Episode(3, -3.0, False, (True, False, True)),  # good twice, and never called so
    ]
    policy = summarise({"agent": episodes}, seed=0)["policies"]["agent"]
    assert policy["success_rate"] == pytest.approx(2 / 3)
    assert policy["truly_good_rate"] == pytest.approx(2 / 3)
    assert policy["classifier"] == {
        "images": 6, "called_good": 2, "precision": 0.5, "recall": pytest.approx(1 / 3),
        "false_positive_rate": pytest.approx(1 / 3),
    }  # fmt: skip
    unknown = summarise({"agent": [Episode(2, 9.0, True)]}, seed=0)["policies"]["agent"]
    assert unknown["classifier"] is unknown["truly_good_rate"] is None
    assert unknown.keys() == policy.keys()
    never = summarise({"agent": [Episode(1, -1.0, False, (False,))]}, seed=0)["policies"]["agent"]
    assert never["classifier"]["precision"] is None


def test_a_policy_gets_its_own_state_back_within_an_episode() -> None:
    class Counts(Constant):
        taken: ClassVar[list[Any]] = []

        def predict(self, observation, state=None, **others):  # type: ignore[no-untyped-def]
            self.taken.append(state)
            return 0, (state or 0) + 1

    list(interleave(Countdown(), {"a": Counts(0)}, 3, seed=0))
    assert Counts.taken == [None, None, 1, None, 1, 2]


def test_without_an_oracle_the_share_of_saved_actions_compares() -> None:
    rng = np.random.default_rng(3)
    lengths = {"random": rng.geometric(0.1, 80), "agent": rng.geometric(0.3, 80)}
    results = {
        name: [Episode(int(n), 0.0, True, seconds=30.0 * n) for n in found]
        for name, found in lengths.items()
    }
    summary = summarise(results, seed=0)
    assert summary["normalised_score"] is summary["normalised_score_seconds"] is None
    saved = 1 - lengths["agent"].mean() / lengths["random"].mean()
    for key in ("saved_share", "saved_share_seconds"):
        assert summary[key]["value"] == pytest.approx(saved)
        low, high = summary[key]["ci95"]
        assert saved - 0.2 < low < saved < high < saved + 0.2
    assert summary["logrank"]["actions"] == pytest.approx(summary["logrank"]["seconds"])
    assert summary["logrank"]["actions"] < 1e-6
    few = summarise({name: found[:9] for name, found in results.items()}, seed=0)
    assert few["saved_share"]["ci95"] is few["logrank"]["actions"] is None
    alone = summarise({"random": results["random"]}, seed=0)
    assert alone["saved_share"] is alone["logrank"]["actions"] is None


def test_episodes_that_were_cut_off_are_censored() -> None:
    results = {
        "agent": [Episode(n, 0.0, n < 12, seconds=20.0 * n) for n in (1, 2, 3, 12)],
        "random": [Episode(n, 0.0, True, seconds=20.0 * n) for n in (4, 8, 12, 16)],
    }
    summary = summarise(results, seed=0)
    assert summary["policies"]["agent"]["cut_off"] == [3]
    assert summary["policies"]["random"]["cut_off"] == []
    curves = {name: each["survival"] for name, each in summary["policies"].items()}
    assert curves["agent"]["actions"]["prices"] == [1, 2, 3, 12]
    assert curves["agent"]["actions"]["shares"] == [0.75, 0.5, 0.25, 0.25]
    assert curves["random"]["seconds"]["shares"] == [0.75, 0.5, 0.25, 0]
    assert summary["restricted_means"]["actions"]["until"] == 12
    assert summary["restricted_means"]["seconds"]["means"]["random"] == (180, None)
    json.dumps(summary, allow_nan=False)


def test_few_episodes_leave_finite_intervals() -> None:
    rng = np.random.default_rng(0)
    value, interval = normalised_score([2, 3], [1, 10], [1, 3], rng)
    assert np.isfinite([value, *interval]).all()


def test_summary_has_the_promised_keys_and_a_picture(tmp_path) -> None:
    rng = np.random.default_rng(1)
    results = {
        name: [Episode(int(n), 11.0 - n, n < 100) for n in 1 + rng.geometric(1 / mean, 50)]
        for name, mean in {"agent": 4, "random": 11, "oracle": 3}.items()
    }
    summary = summarise(results, seed=0)
    assert summary["policies"]["agent"].keys() >= {
        "episodes", "mean_length", "ci95", "success_rate", "mean_return",
    }  # fmt: skip
    assert summary["normalised_score"].keys() == {"value", "ci95"}
    assert summarise({"random": results["random"]}, seed=0)["normalised_score"] is None
    plot_lengths(summary, tmp_path / "evaluation.png")
    assert (tmp_path / "evaluation.png").read_bytes().startswith(b"\x89PNG")
