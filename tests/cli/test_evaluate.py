"""The plan of an evaluation: its blocks, its stopping rule, and how both get into the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents import stopping
from agents.baselines import RandomPolicy
from spm_gym.cli import evaluate, train

ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "configs" / "smoke.yaml")
BRIEF = ("--set", "env.max_steps=6")
THREE = (*BRIEF, "--policies", "random", "agent", "shuffled")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert train.main(["--config", SMOKE, "--run-dir", str(folder)]) == 0
    return str(folder)


@pytest.fixture(autouse=True)
def few_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stopping, "FIRST_ANALYSIS", 12)
    monkeypatch.setattr(stopping, "ANALYSES_EVERY", 3)


def evaluated(run: str, *arguments: str) -> dict[str, Any]:
    assert evaluate.main(["--run", run, *arguments, "--json", "e.json", "--force"]) == 0
    return dict(json.loads(Path("e.json").read_text()))


def test_blocks_are_in_an_order_that_the_seed_repeats(run: str) -> None:
    found = evaluated(run, *THREE, "--episodes", "8")
    assert len(found["order"]) == 8
    assert all(sorted(block) == ["agent", "random", "shuffled"] for block in found["order"])
    assert len(set(map(tuple, found["order"]))) > 2
    again = evaluated(run, *THREE, "--episodes", "8")
    assert again["order"] == found["order"]
    assert again["policies"]["random"]["lengths"] == found["policies"]["random"]["lengths"]
    assert evaluated(run, *THREE, "--episodes", "8", "--seed", "5")["order"] != found["order"]
    alternating = evaluated(run, *THREE, "--episodes", "3", "--in-turn")
    assert alternating["order"] == [["random", "agent", "shuffled"]] * 3


def test_the_rule_is_stated_before_the_results(
    run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(run, *THREE, "--episodes", "3")
    assert list(found)[:3] == ["stopping_rule", "ended", "order"]
    assert found["stopping_rule"]["blocks"] == 3
    assert found["ended"] == "all blocks"
    out = capsys.readouterr().out
    assert out.index(found["stopping_rule"]["text"]) < out.index("95 % interval")


@pytest.mark.parametrize("learning", ["--frozen", "--learn"])
@pytest.mark.parametrize("policies", [["agent", "random", "oracle"], ["random", "agent"]])
def test_it_ends_early_at_a_planned_analysis(
    run: str, learning: str, policies: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(run, "--policies", *policies, "--episodes", "20", learning,
                      *BRIEF, "--until-halfwidth", "0.99")  # fmt: skip
    rule, blocks = found["stopping_rule"], len(found["order"])
    key = "normalised_score" if "oracle" in policies else "saved_share"
    assert rule["quantity"] == key
    assert rule["half_width"] == 0.99
    assert f"+-{rule['half_width']}" in rule["text"]
    assert (blocks - rule["first_analysis"]) % rule["analyses_every"] == 0 or blocks == 20
    low, high = found[key]["ci95"]
    assert (found["ended"] == "precise") == (high - low <= 1.98 and blocks < 20)
    assert {policy["episodes"] for policy in found["policies"].values()} == {blocks}
    assert "log-rank test of agent against random choice: p = " in capsys.readouterr().out


def test_a_policy_that_is_named_twice_plays_once(run: str) -> None:
    found = evaluated(run, *BRIEF, "--policies", "random", "agent", "random", "--episodes", "2")
    assert [sorted(block) for block in found["order"]] == [["agent", "random"]] * 2


def test_what_was_interrupted_says_so(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choose, left = RandomPolicy.choose, [5]

    def fails(self: RandomPolicy, *arguments: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return choose(self, *arguments)

    monkeypatch.setattr(RandomPolicy, "choose", fails)
    assert evaluate.main(["--run", run, *THREE, "--episodes", "30", "--json", "e.json"]) == 130
    found = json.loads(Path("e.json").read_text())
    assert found["ended"] == "interrupted"
    played = [name for block in found["order"] for name in block]
    for name, policy in found["policies"].items():
        assert policy["episodes"] == played.count(name)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["0", "--policies", "agent", "random"], "between 0 and 1, not 0"),
        (["nan", "--policies", "agent", "random"], "between 0 and 1, not nan"),
        (["0.1", "--policies", "random", "oracle"], "agent and random"),
        (["0.1", "--policies", "agent", "random", "--episodes", "14"], "15 episodes"),
    ],
)
def test_an_impossible_rule_gets_one_line(
    run: str, arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["--run", run, "--json", "e.json", "--until-halfwidth", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: --until-halfwidth")
    assert word in error
    assert "\n" not in error
    assert not Path("e.json").exists()
