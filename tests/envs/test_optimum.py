from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy import stats

from agents.baselines import CountingPolicy, MixturePolicy, OraclePolicy, RandomPolicy
from agents.evaluation import interleave
from spm_gym.assembly.environment import make_env
from spm_gym.config import EnvConfig, load_config
from spm_gym.envs.counting import counting_length, counting_plan
from spm_gym.envs.optimum import level_of, mask_levels, measure_masks, reference_process

TRUTH = load_config(None, ["env.ground_truth=true"])


def test_levels_are_the_six_masks_of_the_paper_s_table() -> None:
    levels = mask_levels(EnvConfig())
    assert sorted(levels.sum(axis=1)) == [1, 6, 8, 10, 11, 12]
    for row, mask in enumerate(levels):
        assert level_of(mask, levels) == row


def test_measured_masks_are_distributions_and_blunt_probes_allow_less() -> None:
    shares = measure_masks(TRUTH, images_per_state=12, seed=0)
    assert np.allclose(shares.sum(axis=1), 1)
    allowed = mask_levels(EnvConfig()).sum(axis=1)
    mean_allowed = shares @ allowed
    assert mean_allowed[0] > mean_allowed[12:].mean()


@pytest.mark.slow
@pytest.mark.parametrize("previews", ["null", "16"])
def test_the_environment_reproduces_the_exact_values(previews: str) -> None:
    """With the ground truth, mean lengths of every policy lie within 4 standard errors."""
    config = load_config(None, ["env.ground_truth=true", f"env.preview_lines={previews}"])
    process = reference_process(config, images_per_state=80, seed=5)
    env = make_env(config)
    rng = np.random.default_rng(0)
    level = partial(level_of, levels=process.allowed)
    plans = {f"counting, mask {sees}": counting_plan(process, sees) for sees in (False, True)}
    policies = {
        "random": RandomPolicy(rng),
        "blind": MixturePolicy(process.blind, rng),
        "mask": MixturePolicy(process.mask_only, rng, level),
        **{name: CountingPolicy(plan, rng, level) for name, plan in plans.items()},
        "oracle": OraclePolicy(process.oracle, lambda: env.instrument.truth.index),
    }
    exact = {
        "random": process.random_length,
        "blind": process.length(process.blind),
        "mask": process.length(process.mask_only),
        **{name: counting_length(process, plan) for name, plan in plans.items()},
        "oracle": process.oracle_length,
    }
    assert 8 <= exact["random"] <= 15
    assert 2.5 <= exact["oracle"] <= 4
    assert exact["oracle"] + 1 < exact["blind"] < exact["random"] - 1
    lengths: dict[str, list[int]] = {name: [] for name in policies}
    for name, episode in interleave(env, policies, 80, seed=7):
        lengths[name].append(episode.length)
    for name, length in exact.items():
        assert abs(np.mean(lengths[name]) - length) < 4 * stats.sem(lengths[name]), name
