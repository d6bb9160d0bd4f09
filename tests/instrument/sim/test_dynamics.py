"""The hidden process: its table, and draws that follow it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.stats import chisquare

from spm_gym.config import PAPER_ACTIONS, ConfigError
from spm_gym.instrument.sim.dynamics import STATES, HiddenState, ProbeDynamics, Shape
from spm_gym.types import Dip, Pulse, Stall

ACTIONS = [action.conditioning for action in PAPER_ACTIONS]


def table() -> dict[str, Any]:
    source = resources.files("spm_gym.instrument.sim") / "transitions.yaml"
    tree: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
    return tree


def test_states_are_numbered_and_only_the_first_is_good() -> None:
    states = [HiddenState.of(index) for index in range(STATES)]
    assert [state.index for state in states] == list(range(STATES))
    assert [state.good for state in states] == [True] + [False] * (STATES - 1)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: str(action))
def test_every_row_is_a_distribution(action: Stall | Pulse | Dip) -> None:
    matrix = ProbeDynamics().action_matrix(action)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    assert matrix.min() >= 0


def test_a_probability_by_hand() -> None:
    """Dip of 0.8 nm, weak and unstable: becomes sharp, stays clean, settles."""
    matrix = ProbeDynamics().action_matrix(Dip(0.8e-9))
    assert matrix[HiddenState(Shape.WEAK, False, True).index, 0] == pytest.approx(0.62 * 0.97 * 0.2)


def test_a_contaminated_probe_is_reshaped_less_by_shallow_dips_only() -> None:
    dynamics = ProbeDynamics()
    weak = HiddenState(Shape.WEAK, contaminated=True).index
    sharp = slice(0, 4)
    shallow, deep = (dynamics.action_matrix(Dip(d))[weak, sharp].sum() for d in (0.8e-9, 1.8e-9))
    assert shallow == pytest.approx(0.3 * 0.62)
    assert deep == pytest.approx(0.18)


def test_the_nearest_row_is_taken() -> None:
    dynamics = ProbeDynamics()
    for asked, nearest in ((Pulse(-7.0), Pulse(-8.0)), (Dip(1.05e-9), Dip(1.0e-9))):
        assert np.array_equal(dynamics.action_matrix(asked), dynamics.action_matrix(nearest))
    assert not np.array_equal(
        dynamics.action_matrix(Pulse(2.5)), dynamics.action_matrix(Pulse(-2.5))
    )


def test_a_scan_without_tip_changes_changes_nothing() -> None:
    assert np.array_equal(ProbeDynamics().scan_matrix(0.0), np.eye(STATES))


@pytest.mark.parametrize("start", [0, 5, 10, 15])
def test_draws_follow_the_matrix(start: int) -> None:
    dynamics, rng = ProbeDynamics(), np.random.default_rng(start)
    action = Dip(1.8e-9)
    drawn = [dynamics.act(HiddenState.of(start), action, rng).index for _ in range(4000)]
    expected = dynamics.action_matrix(action)[start] * len(drawn)
    counted = np.bincount(drawn, minlength=STATES)
    likely = expected >= 5
    rare = expected[~likely].sum()
    assert counted[~likely].sum() <= rare + 5 * np.sqrt(rare)
    scaled = expected[likely] * counted[likely].sum() / expected[likely].sum()
    assert chisquare(counted[likely], scaled).pvalue > 1e-3
    other = dynamics.action_matrix(Dip(0.8e-9))[start] * len(drawn)
    assert np.abs(counted - other).max() > 5 * np.sqrt(len(drawn)), "negative control"


def test_a_row_that_does_not_sum_to_one_is_named(tmp_path: Path) -> None:
    tree = table()
    tree["stall"] = {**tree["stall"], "shape": [[0.9, 0, 0, 0], *tree["stall"]["shape"][1:]]}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=r"stall.*SHARP.*sum to 1, not 0\.9"):
        ProbeDynamics(tmp_path / "t.yaml")


def test_an_impossible_probability_is_named(tmp_path: Path) -> None:
    tree = table()
    tree["tip_change"]["stabilise"] = 1.5
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=r"tip_change\.stabilise"):
        ProbeDynamics(tmp_path / "t.yaml")


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        ProbeDynamics(tmp_path / "absent.yaml")
