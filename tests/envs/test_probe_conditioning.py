from __future__ import annotations

import copy
import dataclasses
import itertools
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import DQN
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import spm_gym  # noqa: F401  (registers the environment)
from spm_gym.assembly.build import build_microscope, make_env
from spm_gym.config import PAPER_ACTIONS, Config, EnvConfig, SimulatorConfig, load_config
from spm_gym.envs.navigation import Navigator
from spm_gym.envs.observation import allowed_actions
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import (
    BadReply,
    CommandFailed,
    ConnectionLost,
    ContactLost,
    InstrumentError,
    OutcomeUnknown,
    TimedOut,
    TipCrashed,
    TipWithdrawn,
)
from spm_gym.imaging import Square
from spm_gym.instrument.sim.dynamics import HiddenState
from spm_gym.instrument.sim.simulated import SimulatedMicroscope
from spm_gym.plain_state import from_bytes, to_bytes
from spm_gym.types import Direction, Frame, Scan

ID = "spm_gym/ProbeConditioning-v0"
TRUTH = ("env.ground_truth=true",)
NM = 1e-9


def play(env: gymnasium.Env[Any, Any], seed: int) -> Iterator[Any]:
    """Observations, rewards and infos of random allowed actions, in plain comparable form."""
    rng = np.random.default_rng(seed)
    observation, info = env.reset(seed=seed)
    yield observation.tobytes(), str(info)
    while True:
        action = rng.choice(np.flatnonzero(info["action_mask"]))
        observation, reward, terminated, truncated, info = env.step(action)
        yield observation.tobytes(), reward, terminated, truncated, str(info)
        if terminated or truncated:
            observation, info = env.reset()
            yield observation.tobytes(), str(info)


def rollout(env: gymnasium.Env[Any, Any], count: int, seed: int) -> list[Any]:
    return list(itertools.islice(play(env, seed), count))


class Script:
    """A classifier that reads its verdicts from a list and repeats the last one."""

    def __init__(self, *probabilities: float) -> None:
        self.left = list(probabilities)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        assert images.shape == (1, 1, 64, 64)
        assert images.dtype == np.float32
        verdict = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        return np.full(len(images), verdict, np.float32)


def scripted(*probabilities: float, **settings: Any) -> ProbeConditioningEnv:
    return ProbeConditioningEnv(
        build_microscope(Config()), Script(*probabilities), EnvConfig(**settings)
    )


def test_checkers_have_nothing_to_say() -> None:
    env = gymnasium.make(ID, overrides=TRUTH, render_mode="rgb_array").unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    sb3_check_env(env, warn=False)


def test_spaces_are_the_published_ones() -> None:
    env = gymnasium.make(ID)
    assert env.observation_space == gymnasium.spaces.Box(-1.5, 1.5, (1, 64, 64), np.float32)
    assert env.action_space == gymnasium.spaces.Discrete(12)


def test_same_seed_same_trajectory() -> None:
    first, second = make_env(overrides=TRUTH), make_env(overrides=TRUTH)
    assert rollout(first, 30, seed=7) == rollout(second, 30, seed=7)
    assert rollout(first, 5, seed=7) != rollout(first, 5, seed=8)


def test_two_environments_do_not_disturb_each_other() -> None:
    alone = rollout(make_env(overrides=TRUTH), 12, seed=3)
    one, other = make_env(overrides=TRUTH), make_env(overrides=TRUTH)
    beside = []
    for played, _ in zip(play(one, 3), play(other, 9), strict=False):
        beside.append(played)
        if len(beside) == len(alone):
            break
    assert beside == alone


def test_make_vec_works_with_plain_vectorisation() -> None:
    envs = gymnasium.make_vec(ID, num_envs=2, vectorization_mode="sync", overrides=TRUTH)
    observations, infos = envs.reset(seed=0)
    assert observations.shape == (2, 1, 64, 64)
    assert infos["action_mask"].shape == (2, 12)
    envs.close()


@pytest.mark.parametrize(
    ("side_nm", "names"),
    [
        (0.0, ["stall"]),
        (0.2, ["stall", "pulse +2.5 V", "pulse +4.0 V", "pulse -2.5 V", "pulse -4.0 V",
               "pulse -8.0 V"]),
        (1.0, ["dip 0.8 nm", "dip 1.0 nm"]),
        (2.0, ["dip 1.2 nm", "dip 1.8 nm"]),
        (3.0, ["dip 2.5 nm"]),
        (4.0, ["dip 5.0 nm"]),
    ],
)  # fmt: skip
def test_each_clean_square_adds_its_actions(side_nm: float, names: list[str]) -> None:
    allowed = allowed_actions(PAPER_ACTIONS, side_nm * NM)
    below = allowed_actions(PAPER_ACTIONS, side_nm * NM * 0.999)
    added = [a.name for a, now, before in zip(PAPER_ACTIONS, allowed, below, strict=True)
             if now and (side_nm < 1 or not before)]  # fmt: skip
    assert added == names


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


@pytest.mark.parametrize("truth", ["false", "true"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_and_pickles_of_an_environment_go_on_alike_and_apart(
    truth: str, copied: Callable[[Any], Any]
) -> None:
    env = gymnasium.make(ID, overrides=(f"env.ground_truth={truth}",))
    env.reset(seed=4)
    env.step(1)
    twin = copied(env)
    assert twin.unwrapped.navigator.instrument is twin.unwrapped.instrument
    ahead = [twin.step(k) for k in (2, 0, 3)]
    for theirs, ours in zip(ahead, (env.step(k) for k in (2, 0, 3)), strict=True):
        assert theirs[0].tobytes() == ours[0].tobytes()
        assert str(theirs[1:]) == str(ours[1:])


def test_the_mask_is_found_and_sampled_from_as_the_docs_say() -> None:
    env = gymnasium.make(ID, overrides=TRUTH)
    _, info = env.reset(seed=0)
    only = np.arange(12) == 7
    for mask in (only, only.astype(np.int8)):
        assert env.action_space.sample(mask=mask) == 7
    drawn = {int(env.action_space.sample(info["action_mask"])) for _ in range(300)}
    assert drawn == set(np.flatnonzero(info["action_mask"]))
    assert env.action_space.sample() in env.action_space
    assert np.array_equal(env.action_masks(), info["action_mask"])
    wrapped = gymnasium.wrappers.RecordEpisodeStatistics(env)
    assert np.array_equal(wrapped.get_wrapper_attr("action_masks")(), info["action_mask"])


def test_stable_baselines_takes_the_images_unless_it_is_to_rescale_them() -> None:
    env = gymnasium.make(ID, overrides=TRUTH)
    model = DQN("CnnPolicy", env, policy_kwargs={"normalize_images": False}, buffer_size=10)
    observation, _ = env.reset(seed=0)
    assert model.predict(observation)[0] in env.action_space


@pytest.mark.parametrize(("overrides", "threads"), [((), 1), (("run.threads=null",), 3)])
def test_building_an_environment_sets_the_threads_of_torch(
    overrides: tuple[str, ...], threads: int
) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        gymnasium.make(ID, overrides=overrides)
        assert torch.get_num_threads() == threads
        torch.set_num_threads(3)
        gymnasium.make_vec(ID, 2, overrides=overrides)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


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


class Failing:
    """A microscope of which one verb fails a given number of times."""

    def __init__(self, verb: str, error: Exception, times: int = 1) -> None:
        self._inner = build_microscope(Config())
        self._verb, self._error, self._times = verb, error, times
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._inner, name)
        if name not in ("scan", "condition", "reconnect", "approach", "withdraw"):
            return inner

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            if name == self._verb and self._times:
                self._times -= 1
                raise self._error
            return inner(*arguments)

        return call


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


@pytest.mark.parametrize("error", [ConnectionLost("x"), TimedOut("x"), BadReply("x"),
                                   CommandFailed("x")])  # fmt: skip
def test_a_scan_that_fails_is_repeated_at_the_same_place(error: Exception) -> None:
    microscope = Failing("scan", error, times=3)
    env = ProbeConditioningEnv(microscope, Script(0.05), EnvConfig())
    _, info = env.reset(seed=0, options={"damage": False})
    assert microscope.calls == [*["scan", "reconnect"] * 3, "scan", "scan"]
    assert (info["x"], info["y"]) == (0, 0)
    endless = ProbeConditioningEnv(Failing("scan", error, times=99), Script(0.05), EnvConfig())
    with pytest.raises(InstrumentError, match="no usable image in 10 attempts"):
        endless.reset(seed=0, options={"damage": False})


def test_a_fresh_area_forgets_what_was_used_up() -> None:
    env = scripted(0.05)
    env.reset(seed=0, options={"damage": False})
    env.step(1)
    assert env.navigator.regions.marks
    env.enter_fresh_area()
    assert not env.navigator.regions.marks
    _, info = env.reset(options={"damage": False})
    assert (info["x"], info["y"], info["area"]) == (0, 0, 1)


def test_actions_are_done_at_the_centre_of_the_clean_square() -> None:
    env = scripted(0.05)
    env.reset(seed=0, options={"damage": False})
    frame, square = env.processed.scan.frame, env.processed.square
    env.step(1)
    name, x, y = env.last_act
    assert name == "pulse +2.5 V"
    assert (x, y) == frame.position(square.row + (square.side - 1) / 2,
                                    square.col + (square.side - 1) / 2)  # fmt: skip
    env.processed = dataclasses.replace(env.processed, square=Square(0, 0, 0))
    frame = env.processed.scan.frame
    env.step(0)
    assert env.last_act == ("stall", frame.x, frame.y)


def test_every_image_lies_on_fresh_ground() -> None:
    env = make_env(overrides=TRUTH)
    _, info = env.reset(seed=5)
    rng = np.random.default_rng(5)
    for _ in range(60):
        spoilt = list(env.navigator.regions.marks)
        _, _, terminated, truncated, info = env.step(
            rng.choice(np.flatnonzero(info["action_mask"]))
        )
        acted = [m for m in spoilt if m.reason != "image"]
        gaps = [np.hypot(max(abs(info["x"] - m.x) - 5 * NM, 0),
                         max(abs(info["y"] - m.y) - 5 * NM, 0)) - m.radius
                for m in acted]  # fmt: skip
        if info["area"] == 0:
            assert min(gaps, default=0) > -1e-15
        if terminated or truncated:
            _, info = env.reset()


def test_a_used_up_area_is_left_for_a_new_one() -> None:
    env = make_env(overrides=(*TRUTH, "env.regions.area_nm=80"))
    rollout(env, 25, seed=0)
    assert env.navigator.area >= 2
    assert len(env.navigator.regions.marks) < 40


def test_bad_sample_is_blocked_and_skipped() -> None:
    env = make_env(overrides=(*TRUTH, "simulator.rough_fraction=0.3"))
    rollout(env, 60, seed=2)
    radii = [
        mark.radius / NM for mark in env.navigator.regions.marks if mark.reason == "bad sample"
    ]
    assert radii
    assert set(np.round(np.square(np.array(radii) / 25))) <= set(range(1, 11))


def test_hopeless_sample_stops_with_a_reason() -> None:
    env = make_env(overrides=(*TRUTH, "simulator.rough_fraction=1.0"))
    with pytest.raises(InstrumentError, match="no usable image in 10 attempts"):
        env.reset(seed=0)


def test_lost_contact_and_crashes_are_recovered() -> None:
    env = make_env(
        overrides=(*TRUTH, "simulator.contact_loss_rate=0.05", "simulator.crash_rate=0.05")
    )
    events = str(rollout(env, 60, seed=4))
    assert "lost contact" in events
    assert "crash" in events
    assert env.instrument.status().approached


def test_a_tip_that_somebody_withdraws_in_mid_scan_is_left_so() -> None:
    class Hand(SimulatedMicroscope):
        scans = 0

        def scan(self, frame: Frame, fraction: float = 1.0) -> Scan:
            recorded = super().scan(frame, fraction)
            self.scans += 1
            if self.scans == 6:
                self.withdraw()
                up = np.arange(frame.pixels)[:, None] >= 20
                return dataclasses.replace(
                    recorded, z=np.where(up, np.float32(self.z_range[1]), recorded.z)
                )
            return recorded

    config = load_config(None, [*TRUTH, "simulator.rough_fraction=0"])
    microscope = Hand(config.simulator)
    env = make_env(config, instrument=microscope)
    env.reset(seed=0, options={"damage": False})
    env.step(0)
    with pytest.raises(TipWithdrawn, match="not by this program"):
        env.step(0)
    assert not microscope.status().approached


@pytest.mark.parametrize("steps_before", [1, 7])
def test_a_restored_environment_goes_on_bit_for_bit(steps_before: int) -> None:
    env = make_env(overrides=TRUTH)
    rollout(env, steps_before, seed=11)
    state = to_bytes(env.get_state())
    other = make_env(overrides=TRUTH)
    other.set_state(from_bytes(state))
    for _ in range(8):
        mask = env.action_masks()
        assert np.array_equal(mask, other.action_masks())
        action = int(np.flatnonzero(mask)[-1])
        ours, theirs = env.step(action), other.step(action)
        assert ours[0].tobytes() == theirs[0].tobytes()
        assert str(ours[1:]) == str(theirs[1:])


def test_render_draws_scan_and_map() -> None:
    env = gymnasium.make(ID, overrides=TRUTH, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    assert before.dtype == np.uint8
    assert before.ndim == 3
    assert before.std() > 10
    env.step(0)
    assert np.any(env.render() != before)


def test_stepping_before_reset_is_an_error() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        make_env(overrides=TRUTH).step(0)


def test_unknown_render_mode_is_an_error() -> None:
    with pytest.raises(ValueError, match="human"):
        make_env(overrides=TRUTH, render_mode="human")


def test_the_shipped_classifier_sees_good_and_bad() -> None:
    env = gymnasium.make(ID).unwrapped
    agreements = []
    _, info = env.reset(seed=0)
    for _ in range(60):
        agreements.append(info["good"] == env.instrument.truth.good)
        action = env.np_random.choice(np.flatnonzero(info["action_mask"]))
        _, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            _, info = env.reset()
    assert np.mean(agreements) > 0.95


def test_default_settings_are_what_the_file_lists() -> None:
    assert load_config() == Config()


class WaryMotor(SimulatedMicroscope):
    """Moves coarsely only from the surface, as one whose direction has to be verified."""

    def __init__(self, error: type[ContactLost], config: SimulatorConfig) -> None:
        super().__init__(config)
        self.error: type[ContactLost] | None = error

    def move_area(self, direction: Direction) -> None:
        if self.error is not None:
            raise self.error("approach first")
        super().move_area(direction)

    def approach(self) -> None:
        self.error = None
        super().approach()


def test_a_lost_tip_is_found_again_before_the_area_is_changed() -> None:
    microscope = WaryMotor(ContactLost, SimulatorConfig())
    navigator = Navigator(microscope, EnvConfig())
    navigator.change_area()
    assert navigator.area == 1


def test_a_tip_that_somebody_has_withdrawn_stays_so_when_the_area_is_used_up() -> None:
    microscope = WaryMotor(TipWithdrawn, SimulatorConfig())
    navigator = Navigator(microscope, EnvConfig())
    with pytest.raises(TipWithdrawn):
        navigator.change_area()
    assert microscope.error is TipWithdrawn
    assert navigator.area == 0
