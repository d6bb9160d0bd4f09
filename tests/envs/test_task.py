"""The rules of the task: what is paid, what ends an episode, how one begins, what is refused."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from spm_gym.assembly.environment import make_env
from spm_gym.config import PAPER_ACTIONS, EnvConfig
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import (
    BadReply,
    CommandFailed,
    ConnectionLost,
    ContactLost,
    OutcomeUnknown,
    TimedOut,
    TipCrashed,
)
from spm_gym.instrument.sim.dynamics import HiddenState
from tests.support.scripted_envs import Failing, Script, scripted

TRUTH = ("env.ground_truth=true",)
NM = 1e-9


def test_success_pays_ten_instead_of_minus_one_and_ends_the_episode() -> None:
    env = scripted(0.95, 0.05, 0.5, 0.9, 0.901)
    _, info = env.reset(seed=0)
    assert info["probability"] == pytest.approx(0.05)
    assert not info["good"]
    outcomes = [env.step(0)[1:4] for _ in range(3)]
    assert outcomes == [(-1.0, False, False), (-1.0, False, False), (10.0, True, False)]


def test_success_can_be_added_to_the_price_of_the_step() -> None:
    env = scripted(0.95, 0.05, 0.99, success_replaces_step=False)
    env.reset(seed=0)
    assert env.step(0)[1] == 9.0


def test_the_hundredth_step_truncates_and_success_wins() -> None:
    env = scripted(0.05)
    env.reset(seed=0)
    ends = [env.step(0)[2:4] for _ in range(100)]
    assert ends[:99] == [(False, False)] * 99
    assert ends[99] == (False, True)
    env = scripted(*[0.05] * 100, 0.95)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(100)][99] == (True, False)


def test_reset_damages_until_the_probe_is_bad_or_says_that_it_is_not() -> None:
    env = scripted(0.95)
    _, info = env.reset(seed=0)
    acts = [event for event in info["events"] if event.startswith(("dip", "pulse"))]
    assert len(acts) == EnvConfig().damage_actions
    damaging = {action.name for action in PAPER_ACTIONS if action.damaging}
    assert set(acts) <= damaging
    assert info["events"][-1].startswith("not damaged: p = 0.950 after 20 tries")
    env = scripted(0.95, 0.5, 0.2, 0.099)
    _, info = env.reset(seed=0)
    assert len(info["events"]) == 3


def test_reset_without_damage_only_looks() -> None:
    env = make_env(overrides=TRUTH)
    _, info = env.reset(seed=0, options={"damage": False})
    assert info["events"] == ()
    assert info["good"]
    first = info["x"], info["y"]
    _, info = env.reset(options={"damage": False})
    assert (info["x"], info["y"]) != first


def test_damage_respects_the_mask() -> None:
    harmless = tuple(a.model_copy(update={"clean_nm": 9.9}) if a.damaging else a
                     for a in PAPER_ACTIONS)  # fmt: skip
    env = scripted(0.95, actions=harmless)
    _, info = env.reset(seed=0)
    assert [event[:11] for event in info["events"]] == ["not damaged"]


def test_after_a_truncation_an_episode_begins_with_an_image_of_its_own() -> None:
    env = make_env(overrides=(*TRUTH, "env.max_steps=1", "simulator.tip_change_rate=0"))
    for seed in range(5):
        before, info = env.reset(seed=seed)
        while True:  # until a step leaves the probe bad
            before, _, terminated, truncated, info = env.step(0)
            if truncated:
                break
            assert terminated
            env.reset()
        probe, place = env.instrument.truth, (info["x"], info["y"])
        observation, info = env.reset()
        assert (info["x"], info["y"]) != place
        assert observation.tobytes() != before.tobytes()
        assert info["events"] == ()
        assert env.instrument.truth == probe, "a bad probe is not damaged further"


def test_episodes_begin_with_a_bad_probe() -> None:
    env = make_env(overrides=TRUTH)
    env.reset(seed=0)
    for _ in range(150):
        env.instrument.set_probe(HiddenState())
        _, info = env.reset(options={"damage": False})
        assert info["good"]
        _, info = env.reset()
        assert not env.instrument.truth.good


def test_a_forbidden_action_is_refused_and_touches_nothing() -> None:
    env = make_env(overrides=(*TRUTH, "simulator.molecules_per_nm2=0.2",
                              "simulator.min_distance_nm=1.45",
                              "simulator.tip_change_rate=0"))  # fmt: skip
    _, info = env.reset(seed=1)
    forbidden = np.flatnonzero(~info["action_mask"])
    assert forbidden.size
    before = env.instrument.truth
    _, reward, _, _, info = env.step(forbidden[-1])
    assert info["refused"]
    assert reward == -1
    assert env.instrument.truth == before
    assert not any(mark.reason.startswith("dip") and mark.radius == 25 * NM
                   for mark in env.navigator.regions.marks[-3:])  # fmt: skip


@pytest.mark.parametrize(
    ("error", "event", "reconnects"),
    [(OutcomeUnknown("lost"), "outcome unknown: lost", 1), (ConnectionLost("lost"), "not done", 1),
     (TimedOut("late"), "not done: late", 1), (BadReply("hm"), "not done: hm", 1),
     (ContactLost("far"), "not done: far", 0), (TipCrashed("in"), "not done: in", 0)],
)  # fmt: skip
def test_an_act_that_fails_is_never_repeated_but_looked_at(
    error: Exception, event: str, reconnects: int
) -> None:
    microscope = Failing("condition", error)
    env = ProbeConditioningEnv(microscope, Script(0.05), EnvConfig())
    env.reset(seed=0, options={"damage": False})
    marks = len(env.navigator.regions.marks)
    del microscope.calls[:]
    _, reward, terminated, _, info = env.step(1)
    assert microscope.calls == ["condition", *["reconnect"] * reconnects, "scan", "scan"]
    assert info["uncertain"]
    assert any(each.startswith(event) for each in info["events"])
    assert reward == -1
    assert not terminated
    assert len(env.navigator.regions.marks) == marks + 2  # the place is used up, and the image's
    _, _, _, _, info = env.step(1)
    assert not info["uncertain"]


def test_an_act_that_the_instrument_refuses_ends_the_episode() -> None:
    env = ProbeConditioningEnv(Failing("condition", CommandFailed("no")), Script(0.05), EnvConfig())
    env.reset(seed=0, options={"damage": False})
    with pytest.raises(CommandFailed):
        env.step(1)


def test_stepping_before_reset_is_an_error() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        make_env(overrides=TRUTH).step(0)
