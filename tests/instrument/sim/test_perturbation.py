"""Perturbed tables are tables of transitions, the further from the original the larger sigma."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spm_gym.config import PAPER_ACTIONS, load_config
from spm_gym.envs.optimum import reference_process
from spm_gym.instrument.sim.dynamics import ProbeDynamics, TransitionTable, read_table
from spm_gym.instrument.sim.perturbation import perturbed, write_perturbed

ORIGINAL = read_table()


def matrices(table: TransitionTable) -> np.ndarray:
    """Probabilities (A, 16, 16) of the paper's actions."""
    return np.stack([table.of(a.conditioning).matrix(table.damping) for a in PAPER_ACTIONS])


@given(sigma=st.floats(0, 3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_rows_are_distributions_and_what_is_impossible_stays_so(sigma: float, seed: int) -> None:
    before = matrices(ORIGINAL)
    after = matrices(perturbed(ORIGINAL, sigma, np.random.default_rng(seed)))
    assert (after >= 0).all()
    np.testing.assert_allclose(after.sum(axis=2), 1, atol=1e-9)
    assert not after[before == 0].any()


def test_sigma_0_changes_nothing_and_a_larger_one_changes_more() -> None:
    def distance(sigma: float) -> float:
        tables = [perturbed(ORIGINAL, sigma, np.random.default_rng(seed)) for seed in range(10)]
        return float(
            np.mean([np.abs(matrices(each) - matrices(ORIGINAL)).mean() for each in tables])
        )

    assert distance(0.0) < 1e-12
    assert 0.001 < distance(0.5) < distance(1.0) < distance(1.5)


def test_odds_of_a_flag_change_by_the_quotient_of_two_log_normals() -> None:
    def odds(table: TransitionTable) -> float:
        return float(np.log(table.stall.desorb / (1 - table.stall.desorb)))

    rng = np.random.default_rng(0)
    changes = [odds(perturbed(ORIGINAL, 0.5, rng)) - odds(ORIGINAL) for _ in range(1000)]
    assert abs(np.mean(changes)) < 0.1
    assert np.std(changes) == pytest.approx(0.5 * np.sqrt(2), rel=0.1)


def test_events_that_share_a_row_in_the_file_are_perturbed_apart() -> None:
    table = perturbed(ORIGINAL, 1.0, np.random.default_rng(0))
    assert ORIGINAL.pulses[2.5].shape == ORIGINAL.pulses[-2.5].shape
    assert table.pulses[2.5].shape != table.pulses[-2.5].shape


def test_the_same_seed_writes_the_same_table_which_the_simulator_reads(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.yaml" for name in ("a", "b", "c")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        write_perturbed(path, 1.0, seed)
    first, same, other = (read_table(path) for path in paths)
    assert first == same == perturbed(ORIGINAL, 1.0, np.random.default_rng(1))
    assert first != other
    action = PAPER_ACTIONS[6].conditioning
    np.testing.assert_array_equal(
        ProbeDynamics(paths[0]).action_matrix(action), first.of(action).matrix(first.damping)
    )


def test_settings_name_a_perturbed_table_whose_optimum_is_another(tmp_path: Path) -> None:
    write_perturbed(tmp_path / "table.yaml", 1.0, 0)
    there = load_config(None, [f"simulator.transitions={tmp_path / 'table.yaml'}"])
    lengths = [reference_process(each, 4).oracle_length for each in (load_config(None), there)]
    assert abs(lengths[0] - lengths[1]) > 0.05
