from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from agents.evaluation import Episode, summarise
from agents.stopping import StoppingRule

ALL = ("agent", "random", "oracle")
SHARES = {"agent": 0.28, "random": 0.1, "oracle": 0.36}
"""Of the episodes that each action ends."""


def episodes(number: int, names: Sequence[str] = ALL, seed: int = 0) -> dict[str, list[Episode]]:
    rng = np.random.default_rng(seed)
    return {
        name: [Episode(int(n), 0.0, True) for n in rng.geometric(SHARES[name], number)]
        for name in names
    }


def first(results: dict[str, list[Episode]], number: int) -> dict[str, list[Episode]]:
    return {name: each[:number] for name, each in results.items()}


def test_a_fixed_rule_ends_after_its_blocks() -> None:
    rule, results = StoppingRule(60), episodes(60)
    met = [rule.met(first(results, blocks), 0) for blocks in range(61)]
    assert met == [False] * 60 + [True]
    assert rule.ending(results, 0) == "all blocks"
    assert rule.ending(first(results, 59), 0) == "interrupted"
    assert "60 episodes" in rule.text
    assert rule.document()["half_width"] is None


@pytest.mark.parametrize("names", [ALL, ALL[:2]])
def test_it_ends_where_two_planned_analyses_in_a_row_are_precise(names: tuple[str]) -> None:
    results, key = episodes(400, names), "normalised_score" if len(names) == 3 else "saved_share"
    rule = StoppingRule.of(names, 400, 0.07)
    widths = {}
    for blocks in range(50, 400, 25):
        low, high = summarise(first(results, blocks), 0)[key]["ci95"]
        widths[blocks] = high - low
    expected = [n for n in widths if n > 50 and max(widths[n], widths[n - 25]) <= 0.14]
    assert rule.document()["quantity"] == key
    met = [blocks for blocks in range(1, 400) if rule.met(first(results, blocks), 0)]
    assert met == expected != []
    assert rule.ending(first(results, met[0]), 0) == "precise"
    assert rule.ending(first(results, met[0] - 1), 0) == "interrupted"


def test_it_does_not_end_in_the_middle_of_a_block() -> None:
    results = episodes(100)
    rule = StoppingRule.of(ALL, 200, 0.5)
    assert rule.met(results, 0)
    for name in ALL:
        assert not rule.met(results | {name: results[name][:-1]}, 0)


def test_where_the_oracle_does_not_win_nothing_is_precise() -> None:
    same = [Episode(3, 0.0, True)] * 50
    assert not StoppingRule.of(ALL, 200, 0.5).met(dict.fromkeys(ALL, same), 0)


@pytest.mark.parametrize(
    ("policies", "blocks", "half_width", "words"),
    [
        (ALL, 100, 0.0, "between 0 and 1"),
        (ALL, 100, float("nan"), "between 0 and 1"),
        (ALL, 74, 0.1, "after 75 episodes"),
        (("agent", "oracle"), 100, 0.1, "agent and random"),
    ],
)
def test_an_impossible_rule_is_refused(
    policies: tuple[str], blocks: int, half_width: float, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        StoppingRule.of(policies, blocks, half_width)
