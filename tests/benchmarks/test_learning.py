"""The comparison of learners: what it keeps, what it refuses, that every agent takes part."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import learners
import learning
import learning_report

from agents.evaluation import run_episode
from spm_gym.assembly.environment import make_env, measured
from spm_gym.config import load_config

TINY = ["--budget", "64", "--at", "32", "--episodes", "3", "--set", "env.max_steps=10"]
SOON = ["agent.prefill=20", "agent.epsilon_steps=20", "agent.batch_size=8", "env.max_steps=10"]


def run(path: Path, *arguments: str) -> int:
    return learning.main([*TINY, "--json", str(path), *arguments])


def kept(path: Path) -> dict[tuple[str, int], list[dict[str, Any]]]:
    results = json.loads(path.read_text("utf-8"))["results"]
    return {(result["agent"], result["seed"]): result["evaluations"] for result in results}


def without_processor(evaluations: list[dict[str, Any]]) -> str:
    """Leave out the time of the processor, which no two runs share."""
    rest = json.loads(json.dumps(evaluations))
    for evaluation in rest:
        del evaluation["spent"]["cpu_seconds"]
        for policy in evaluation["policies"].values():
            del policy["mean_cpu_seconds"], policy["cpu_seconds_ci95"]
    return json.dumps(rest)


@pytest.mark.slow
def test_every_agent_takes_part_and_an_interrupted_comparison_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, picture = tmp_path / "learning.json", tmp_path / "learning.png"
    measure, asked = learning.measure, []

    def interrupted(agent: str, seed: int, plan: learning.Plan) -> dict[str, Any]:
        asked.append(agent)
        if len(asked) == 9:
            raise KeyboardInterrupt
        return measure(agent, seed, plan)

    monkeypatch.setattr(learning, "measure", interrupted)
    options = ["--seeds", "1", "--plot", str(picture)]
    assert run(path, *options) == 130
    before = kept(path)
    assert [agent for agent, _ in before] == [*learning.AGENTS[:8]]
    assert run(path, *options) == 0
    assert asked == [*learning.AGENTS[:9], *learning.AGENTS[8:]]
    after = kept(path)
    assert {each: after[each] for each in before} == before
    assert picture.stat().st_size > 10_000
    printed = capsys.readouterr().out
    for agent in learning.AGENTS:
        assert printed.count(f"| {agent} ") == 2
    for (agent, _), evaluations in after.items():
        learns = agent in learning.LEARNERS
        assert [each["stage"] for each in evaluations] == ([32, 64] if learns else [0])
        for each in evaluations:
            assert set(each["policies"]) == {"agent", "random", "oracle"}
            assert each["policies"]["agent"]["episodes"] == 3
            spent = each["spent"]
            assert spent["actions"] >= each["stage"]
            assert (spent["cpu_seconds"] > 0) == learns
            assert 0 <= spent["reset_seconds"] <= spent["instrument_seconds"]
            assert (spent["instrument_seconds"] > 0) == learns


@pytest.mark.slow
def test_agents_that_are_measured_together_are_the_same(tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    options = ["--seeds", "1", "--agents", "random", "belief"]
    assert run(one, *options) == run(two, *options, "--jobs", "2") == 0
    first, second = kept(one), kept(two)
    assert first.keys() == second.keys()
    for each in first:
        assert without_processor(first[each]) == without_processor(second[each])


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["double-dqn", "belief", "qr-dqn", "recurrent-ppo"])
def test_an_evaluation_leaves_no_trace_in_the_agent(agent: str) -> None:
    config = load_config(None, SOON)
    plans = [learning.Plan(config, stages, 3, False) for stages in ((30, 120), (120,))]
    ends = [learning.measure(agent, 5, plan)["evaluations"][-1:] for plan in plans]
    assert without_processor(ends[0]) == without_processor(ends[1])


def test_figures_of_other_settings_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "learning.json"
    options = ["--seeds", "1", "--agents", "random"]
    assert run(path, *options) == 0
    before = path.read_bytes()
    for other, key in (
        (["--budget", "65"], "stages"),
        (["--episodes", "4"], "episodes"),
        (["--set", "simulator.mode=linear"], "config"),
    ):
        capsys.readouterr()
        assert run(path, *options, *other) == 2
        error = capsys.readouterr().err
        assert f"not made with the same {key}" in error
        assert error.count("\n") == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"stages": [1]}'])
def test_a_file_of_something_else_is_refused_and_stays(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.json"
    path.write_text(content, "utf-8")
    assert run(path, "--seeds", "1", "--agents", "random") == 2
    assert capsys.readouterr().err.startswith("error: --json")
    assert path.read_text("utf-8") == content


@pytest.mark.parametrize(
    "wrong",
    [
        ["--budget", "0"], ["--seeds", "-1"], ["--episodes", "many"], ["--jobs", "0"],
        ["--at", "-1"], ["--agents", "wizard"], ["--first-seed", "-1"],
    ],
)  # fmt: skip
def test_impossible_options_are_refused(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        learning.main(wrong)
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def evaluation(stage: int, score: float | None, ci95: list[float] | None = None) -> dict[str, Any]:
    agent = {
        "mean_length": 4.0, "ci95": [3.0, 5.0], "mean_seconds": 80.0, "seconds_ci95": None,
        "mean_cpu_seconds": 0.01, "cpu_seconds_ci95": None,
    }  # fmt: skip
    figures = {"value": score, "ci95": ci95}
    return {
        "stage": stage,
        "spent": vars(learning.Spent(stage, 20.0 * stage, 5.0 * stage, stage // 4, 1.0)),
        "policies": {"agent": agent},
        "normalised_score": figures,
        "normalised_score_seconds": figures,
    }


def test_scores_are_means_over_seeds_with_their_interval() -> None:
    results = [
        {"agent": "belief", "seed": seed, "evaluations": [evaluation(100, score)]}
        for seed, score in enumerate((0.7, 0.8, 0.9))
    ]
    results.append({"agent": "random", "seed": 0, "evaluations": [evaluation(0, 0.0, [-0.1, 0.1])]})
    results.append({"agent": "mask", "seed": 0, "evaluations": [evaluation(0, None)]})
    head, _, *rows = learning_report.curves(results, learning.AGENTS).splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in (head, *rows)]
    assert cells[0] == ["score after actions", "0", "100"]
    assert cells[1:] == [
        ["random", "0.00 (-0.10 to 0.10)", ""],
        ["mask", "", ""],
        # Student's t of three values.
        ["belief", "", "0.80 (0.55 to 1.05)"],
    ]


@pytest.mark.parametrize("agents", [["belief", "random"], ["random"], ["mask"], []])
def test_whatever_there_is_can_be_drawn(agents: list[str], tmp_path: Path) -> None:
    of = {"belief": [evaluation(0, 0.8), evaluation(64, 0.9)], "random": [evaluation(0, 0.0)],
          "mask": [evaluation(0, None)]}  # fmt: skip
    results = [{"agent": agent, "seed": 0, "evaluations": of[agent]} for agent in agents]
    learning_report.plot(results, learning.AGENTS, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_prices_of_learning_are_those_of_its_episodes() -> None:
    config = load_config(None, ["env.max_steps=5"])
    env, counted = measured(make_env(config)), []
    account = learning.Account(env, lambda: counted.append(1))
    policy = learners.Maskless(Constant())
    episodes = [run_episode(account, policy, seed) for seed in (3, None, None)]
    spent = account.paused()
    assert spent.actions == len(counted) == sum(each.length for each in episodes)
    assert spent.reset_actions == sum(each.reset_actions or 0 for each in episodes)
    resets = sum(each.reset_seconds or 0.0 for each in episodes)
    assert spent.reset_seconds == pytest.approx(resets)
    steps = sum(each.seconds or 0.0 for each in episodes)
    assert spent.instrument_seconds == pytest.approx(resets + steps)


class Constant:
    """A model as of stable-baselines3, which takes no masks."""

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        return np.array(11), state


def test_a_recurrent_agent_remembers_until_the_episode_ends() -> None:
    config = load_config(None, [])
    env = measured(make_env(config))
    learner = learners.LEARNERS["recurrent-ppo"](config, env, 0, 100)
    image, _ = env.reset(seed=0)
    mask = np.ones(12, bool)
    model = learner.policy._model  # type: ignore[attr-defined]
    state = None
    for step in range(3):
        before, start = state, np.array([step == 0])
        action, state = learner.policy.predict(image, before, None, True, mask)
        own_action, own_state = model.predict(image, before, start, True)
        assert action == own_action
        assert np.array_equal(state[0], own_state[0])
        assert before is None or not np.array_equal(before[0], state[0])


@pytest.mark.parametrize("agent", ["dqn", "qr-dqn", "ppo", "maskable-ppo", "recurrent-ppo"])
def test_agents_of_the_libraries_begin_with_the_classifier_s_eyes(agent: str) -> None:
    config = load_config(None, [])
    learner = learners.LEARNERS[agent](config, measured(make_env(config)), 0, 100)
    model = learner.policy if agent == "maskable-ppo" else learner.policy._model  # type: ignore[attr-defined]
    network = learners.settings_classifier(config).network
    weights = model.policy.state_dict()
    trunks = [name for name in weights if name.endswith("trunk.0.weight")]
    assert trunks
    for name in trunks:
        assert np.array_equal(weights[name], network.trunk[0].weight.detach())
    assert all(parameter.requires_grad for parameter in model.policy.parameters())
