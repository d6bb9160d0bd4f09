"""Actions that the settings do not allow are never done, whatever asks for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.baselines import RandomPolicy
from spm_gym.assembly.drivers import allowed_acts
from spm_gym.assembly.environment import make_env, make_vector_env
from spm_gym.config import ConfigError, load_config
from spm_gym.errors import LimitExceeded
from spm_gym.instrument.guard import Guard
from spm_gym.types import Pulse
from tests.support.scripted_runs import Verdicts, lab

GENTLE = "env.allowed_actions=[stall, pulse +2.5 V, dip 5.0 nm, pulse -8.0 V]"
ALLOWED = {"stall", "pulse +2.5 V", "dip 5.0 nm", "pulse -8.0 V"}
TRUTH = ("env.ground_truth=true", "env.creep_wait_s=0", "operation.clean_action=pulse +2.5 V")


def test_the_mask_never_has_the_others_and_episodes_do_without() -> None:
    config = load_config(None, [GENTLE, *TRUTH])
    env, policy = make_env(config), RandomPolicy(np.random.default_rng(1))
    done: list[str] = []
    observation, info = env.reset(seed=3)
    for _ in range(60):
        mask = info["action_mask"]
        assert mask.shape == (12,)
        assert {config.env.actions[each].name for each in np.flatnonzero(mask)} <= ALLOWED
        [action], _ = policy.predict(observation[None], action_masks=mask[None])
        observation, _, terminated, truncated, info = env.step(int(action))
        done.append(info["action"])
        if terminated or truncated:
            observation, info = env.reset()
            done += [event for event in info["events"] if event.startswith(("pulse", "dip"))]
    assert {"pulse +2.5 V", "dip 5.0 nm"} <= set(done) <= ALLOWED


def test_an_action_that_is_not_allowed_is_refused_as_a_masked_one() -> None:
    env = make_env(load_config(None, [GENTLE, *TRUTH]))
    _, info = env.reset(seed=0)
    pulse = [action.name for action in env.unwrapped.config.actions].index("pulse +4.0 V")
    *_, info = env.step(pulse)
    assert "refused pulse +4.0 V" in info["events"]


def test_vector_environments_have_the_same_masks() -> None:
    config = load_config(None, [GENTLE, *TRUTH])
    single, vector = make_env(config), make_vector_env(2, config)
    _, info = single.reset(seed=7)
    vector.reset(seed=[7, 8])
    assert (vector.action_masks()[0] == info["action_mask"]).all()


def test_the_guard_refuses_what_no_mask_has_left_out() -> None:
    config = load_config(None, [GENTLE, *TRUTH])
    guard = Guard(make_env(config).unwrapped.instrument, None, allowed=allowed_acts(config))
    guard.approach()
    guard.condition(Pulse(2.5, 0.2), 0.0, 0.0)
    for pulse in (Pulse(4.0, 0.2), Pulse(2.5, 0.3)):
        with pytest.raises(LimitExceeded, match=r"is not one of env\.allowed_actions"):
            guard.condition(pulse, 0.0, 0.0)


def test_a_run_conditions_with_what_is_allowed(tmp_path: Path) -> None:
    bad = Verdicts(0.01)
    settings = (GENTLE, "operation.clean_action=null", "operation.condition_after=1",
                "operation.scans=12")  # fmt: skip
    with lab(tmp_path, bad, *settings) as it:
        it.runner.run()
        names = {name for (name,) in it.rows("SELECT DISTINCT name FROM steps")}
    assert names
    assert names <= ALLOWED


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["env.allowed_actions=[stall, puls]"], "has 'puls', which is none of the actions: stall,"),
        (["env.allowed_actions=[pulse +2.5 V]"], "add 'stall'"),
        (["env.allowed_actions=[stall]"], "operation.clean_action = 'pulse +4.0 V' is not one of"),
        (["env.allowed_actions=[]", "operation.clean_action=null"], "add 'stall'"),
    ],
)
def test_impossible_lists_are_refused(settings: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=r".") as refused:
        load_config(None, settings)
    assert told in str(refused.value)


def test_a_reset_that_could_not_damage_says_so() -> None:
    config = load_config(
        None, ["env.allowed_actions=[stall, pulse +4.0 V]", "env.ground_truth=true"]
    )
    with pytest.raises(ConfigError, match=r"env\.damage=false"):
        make_env(config).reset(seed=0)
    _, info = make_env(config).reset(seed=0, options={"damage": False})
    assert info["action_mask"].any()
