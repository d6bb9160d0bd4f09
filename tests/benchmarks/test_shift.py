"""The comparison of agents on shifted microscopes: what it shifts, keeps and refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import shift

from spm_gym.assembly.environment import make_env
from spm_gym.config import load_config

TINY = ["--seeds", "1", "--at", "0", "20", "--episodes", "2", "--images", "40",
        "--set", "env.max_steps=6", "agent.prefill=5"]  # fmt: skip


def run(path: Path, *arguments: str) -> int:
    return shift.main([*TINY, "--json", str(path), *arguments])


@pytest.mark.parametrize("name", shift.SHIFTS)
def test_every_shift_is_a_microscope_that_differs_from_the_default(name: str) -> None:
    given = shift.SHIFTS[name]
    config = load_config(None, given.settings)
    make_env(config)
    changed = config != load_config(None)
    assert (name != "none") == (changed or given.sigma is not None or given.wrong > 0)


def test_one_verdict_in_twenty_is_wrong_and_the_same_seed_errs_alike() -> None:
    def sure(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full(len(images), 0.75, np.float32)

    images = np.zeros((4000, 1, 8, 8), np.float32)
    answers, again = (
        shift.Misjudging(sure, 0.05, np.random.default_rng(1))(images) for _ in range(2)
    )
    np.testing.assert_array_equal(answers, again)
    assert np.mean(answers < 0.5) == pytest.approx(0.05, abs=0.015)
    assert np.unique(answers).tolist() == [0.25, 0.75]
    right = shift.Misjudging(sure, 0.0, np.random.default_rng(1))(images)
    np.testing.assert_array_equal(right, sure(images))


@pytest.mark.slow
def test_agents_learn_on_shifted_microscopes_and_an_interrupted_comparison_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, picture = tmp_path / "shift.json", tmp_path / "shift.png"
    measure, asked = shift.measure, []

    def interrupted(name: str, agent: str, *rest: Any) -> list[dict[str, Any]]:
        asked.append((name, agent))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return measure(name, agent, *rest)

    monkeypatch.setattr(shift, "measure", interrupted)
    options = ["--shifts", "table-1.0", "classifier-95", "--plot", str(picture)]
    assert run(path, *options) == 130
    before = json.loads(path.read_text("utf-8"))["results"]
    assert run(path, *options) == 0
    results = json.loads(path.read_text("utf-8"))["results"]
    assert results[:2] == before
    assert len(asked) == 3 + len(results) - len(before)
    assert len(results) == 2 * len(shift.AGENTS)
    for result in results:
        learns_first = result["agent"] in {"double-dqn", "belief"}
        stages = [each["stage"] for each in result["evaluations"]]
        assert stages == ([20] if learns_first else [0, 20])
        for each in result["evaluations"]:
            assert each["policies"]["agent"]["episodes"] == 2
    printed = capsys.readouterr().out
    assert printed.count("| table-1.0 ") == len(shift.AGENTS) + 1
    assert picture.stat().st_size > 10_000


@pytest.mark.slow
def test_every_seed_has_a_table_and_a_world_of_its_own() -> None:
    lengths = [
        shift.measure("table-1.5", "belief-prior", seed, [0], 5, [])[0]["policies"]["random"]
        for seed in (0, 0, 1)
    ]
    first, same, other = (policy["lengths"] for policy in lengths)
    assert first == same != other


def evaluation(stage: int, score: float | None, good: float = 1.0) -> dict[str, Any]:
    return {
        "stage": stage,
        "policies": {"agent": {"truly_good_rate": good}},
        "normalised_score": {"value": score},
    }


def test_the_table_has_mean_and_range_over_seeds_and_leaves_out_what_is_unknown() -> None:
    found = [("noise", 0, 0.7, 0.9), ("noise", 1, 0.9, 1.0), ("none", 0, None, 1.0)]
    results = [
        {"shift": name, "agent": "belief", "seed": seed, "evaluations": [evaluation(300, *figures)]}
        for name, seed, *figures in found
    ]
    _, _, *rows = shift.table(results, [0, 300]).splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells == [
        ["none", "belief", "", "", "1.000"],
        ["noise", "belief", "", "0.80 (0.70 to 0.90)", "0.950"],
    ]


@pytest.mark.parametrize("scores", [[0.5, -3.0], [None]])
def test_whatever_there_is_can_be_drawn(scores: list[float | None], tmp_path: Path) -> None:
    results = [
        {"shift": "none", "agent": "belief", "seed": n, "evaluations": [evaluation(300, score)]}
        for n, score in enumerate(scores)
    ]
    shift.plot(results, [0, 300], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_figures_of_other_settings_are_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shift.json"
    own = {"stages": [0, 20], "episodes": 3}
    path.write_text(json.dumps(own | {"results": []}), "utf-8")
    assert run(path, "--shifts", "none") == 2
    assert "not made with the same episodes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [["--shifts", "moon"], ["--agents", "wizard"], ["--at", "-1"], ["--seeds", "0"],
     ["--episodes", "x"], ["--images", "0"]],
)  # fmt: skip
def test_impossible_options_are_refused(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        shift.main(wrong)
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err
