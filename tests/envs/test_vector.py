from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

import spm_gym  # noqa: F401  (registers the environment)
from spm_gym.assembly.environment import make_env, make_vector_env
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import Config, ConfigError, EnvConfig, load_config
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.envs.vector import ProbeConditioningVectorEnv
from spm_gym.errors import CommandFailed, InstrumentError

ID = "spm_gym/ProbeConditioning-v0"
TRUTH = ("env.ground_truth=true",)
SHORT = (*TRUTH, "env.max_steps=7")
PREVIEWS = "env.preview_lines=16"
MODES = [mode.value for mode in AutoresetMode]


def native(num_envs: int = 3, overrides: tuple[str, ...] = TRUTH, **settings: Any) -> Any:
    return make_vector_env(num_envs, overrides=overrides, **settings)


def looped(num_envs: int = 3, overrides: tuple[str, ...] = TRUTH, mode: str = "NextStep") -> Any:
    return gymnasium.make_vec(
        ID, num_envs, "sync", {"autoreset_mode": AutoresetMode(mode)}, overrides=overrides
    )


def play(envs: Any, seed: int, mode: str = "NextStep") -> Iterator[tuple[Any, ...]]:
    """Collect the results of resets and random allowed actions."""
    rng = np.random.default_rng(seed)
    observations, infos = envs.reset(seed=seed)
    yield observations, infos
    masks = infos["action_mask"].copy()
    while True:
        came = envs.step(np.array([rng.choice(np.flatnonzero(mask)) for mask in masks]))
        yield came
        masks[:] = came[4]["action_mask"]
        ended = came[2] | came[3]
        if mode == "Disabled" and ended.any():
            observations, infos = envs.reset(options={"reset_mask": ended})
            yield observations, infos
            masks[ended] = infos["action_mask"][ended]


def check_same(ours: Any, theirs: Any, where: str = "") -> None:
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            check_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        if ours.dtype == object:
            for one, other in zip(ours.flat, theirs.flat, strict=True):
                check_same(one, other, where)
        else:
            assert np.array_equal(ours, theirs), where
    else:
        assert ours == theirs, where


@pytest.mark.parametrize(
    ("mode", "overrides"), [*((mode, SHORT) for mode in MODES), ("NextStep", (*SHORT, PREVIEWS))]
)
def test_everything_is_what_single_environments_in_a_loop_give(
    mode: str, overrides: tuple[str, ...]
) -> None:
    ours = play(native(3, overrides, autoreset_mode=mode), 5, mode)
    theirs = play(looped(3, overrides, mode), 5, mode)
    ends = 0
    for step, (mine, other) in enumerate(itertools.islice(zip(ours, theirs, strict=True), 50)):
        for part, (one, two) in enumerate(zip(mine, other, strict=True)):
            check_same(one, two, f"step {step}, part {part}")
        ends += int((mine[2] | mine[3]).sum()) if len(mine) == 5 else 0
    assert ends >= 5


@pytest.mark.parametrize("settings", [TRUTH, (*TRUTH, PREVIEWS)])
def test_troubles_at_the_microscopes_are_dealt_with_as_one_by_one(
    settings: tuple[str, ...],
) -> None:
    troubles = (*settings, "simulator.contact_loss_rate=0.1", "simulator.crash_rate=0.05",
                "simulator.rough_fraction=0.1", "env.regions.area_nm=120")  # fmt: skip
    occurred = ""
    for mine, other in itertools.islice(
        zip(play(native(3, troubles), 2), play(looped(3, troubles), 2), strict=True), 25
    ):
        for one, two in zip(mine, other, strict=True):
            check_same(one, two)
        occurred += str(mine[-1]["events"])
    for event in ("lost contact", "crash", "rough sample", "new approach area"):
        assert event in occurred


@pytest.mark.parametrize("overrides", [TRUTH, (), (PREVIEWS,)])
def test_a_batch_of_one_is_the_single_environment(overrides: tuple[str, ...]) -> None:
    one, many = make_env(overrides=overrides), native(1, overrides)
    rng = np.random.default_rng(0)
    observation, info = one.reset(seed=9)
    observations, infos = many.reset(seed=9)
    for _ in range(15):
        assert np.array_equal(observations[0], observation)
        for key, value in info.items():
            if key == "probability":
                assert infos[key][0] == pytest.approx(value, abs=1e-5)
            else:
                assert np.array_equal(infos[key][0], value), key
        action = rng.choice(np.flatnonzero(info["action_mask"]))
        observation, reward, terminated, truncated, info = one.step(action)
        observations, rewards, terminations, truncations, infos = many.step([int(action)])
        assert (rewards[0], terminations[0], truncations[0]) == (reward, terminated, truncated)
        if terminated:
            observation, info = one.reset()
            observations, *_, infos = many.step([0])


def test_the_classifier_classifies_a_batch_as_it_classifies_single_images() -> None:
    for (ours, *_, mine), (theirs, *_, other) in itertools.islice(
        zip(play(native(3, ()), 1), play(looped(3, ()), 1), strict=True), 10
    ):
        assert np.array_equal(ours, theirs)
        # NaN where an image is unknown, in both.
        assert np.allclose(mine["probability"], other["probability"], atol=1e-5, equal_nan=True)


def test_two_instances_give_the_same() -> None:
    first, second = play(native(2), 3), play(native(2), 3)
    for mine, other in itertools.islice(zip(first, second, strict=True), 8):
        for one, two in zip(mine, other, strict=True):
            check_same(one, two)


def test_what_comes_back_is_the_callers_own() -> None:
    envs, others = native(2), native(2)
    observations, infos = envs.reset(seed=0)
    others.reset(seed=0)
    observations[:] = 0
    infos["action_mask"][:] = False
    came, expected = envs.step([0, 0]), others.step([0, 0])
    assert observations.max() == 0
    for one, two in zip(came, expected, strict=True):
        check_same(one, two)


def test_made_by_gymnasium() -> None:
    envs = gymnasium.make_vec(ID, 2, "vector_entry_point", overrides=TRUTH)
    assert isinstance(envs, ProbeConditioningVectorEnv)
    assert envs.spec.id == ID
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert envs.single_observation_space == gymnasium.make(ID).observation_space
    assert envs.action_space == gymnasium.spaces.MultiDiscrete([12, 12])
    observations, infos = envs.reset(seed=0)
    assert observations in envs.observation_space
    again = gymnasium.make_vec(envs.spec)
    assert isinstance(again, ProbeConditioningVectorEnv)
    check_same(again.reset(seed=0)[1], infos)
    same_step = gymnasium.make_vec(ID, overrides=TRUTH, autoreset_mode=AutoresetMode.SAME_STEP)
    assert same_step.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert same_step.num_envs == 1
    for made in (envs, again, same_step):
        made.close()
        assert made.closed


def test_gymnasiums_wrappers_go_on_top() -> None:
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(native(2, SHORT))
    envs.reset(seed=0)
    lengths = []
    for _ in range(12):
        *_, infos = envs.step(envs.action_space.sample() * 0)
        if "episode" in infos:
            lengths += infos["episode"]["l"][infos["_episode"]].tolist()
    assert lengths
    assert max(lengths) <= 7


def test_seeds() -> None:
    envs = native(3)
    counted, listed = envs.reset(seed=4)[0], envs.reset(seed=[4, 5, 6])[0]
    assert np.array_equal(counted, listed)
    assert envs.np_random_seed == (4, 5, 6)
    partly, _ = envs.reset(seed=[6, None, 4])
    assert np.array_equal(partly[[0, 2]], counted[[2, 0]])
    _, infos = envs.reset(seed=[6, None, 4], options={"damage": False})
    assert infos["time"][1] > infos["time"].max(where=[True, False, True], initial=0)
    fresh = native(2)
    first, second = fresh.reset()[0]
    assert not np.array_equal(first, second)
    assert len(set(fresh.np_random_seed)) == 2
    with pytest.raises(ValueError, match="3, not 2"):
        envs.reset(seed=[1, 2])


def test_a_reset_without_damage_leaves_good_probes() -> None:
    options = {"damage": False}
    _, infos = native(3).reset(seed=0, options=options)
    assert infos["good"].all()
    assert options == {"damage": False}


def test_masked_reset_touches_the_others_not() -> None:
    envs = native(3)
    before, _ = envs.reset(seed=0)
    clocks = [microscope.status().time for microscope in envs.microscopes]
    mask = np.array([False, True, False])
    after, infos = envs.reset(seed=[0, 7, 0], options={"reset_mask": mask})
    assert np.array_equal(after[~mask], before[~mask])
    assert not np.array_equal(after[1], before[1])
    assert np.array_equal(infos["_x"], mask)
    assert [m.status().time for m in envs.microscopes][::2] == clocks[::2]


@pytest.mark.parametrize(
    "mask", [np.zeros(3, bool), np.ones(2, bool), np.ones(3), "all"], ids=str
)  # fmt: skip
def test_a_wrong_reset_mask_is_an_error(mask: Any) -> None:
    envs = native(3)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="reset_mask"):
        envs.reset(options={"reset_mask": mask})


def test_episodes_that_ended_must_be_reset_when_nobody_else_does_it() -> None:
    envs = native(2, (*TRUTH, "env.max_steps=1"), autoreset_mode="Disabled")
    with pytest.raises(gymnasium.error.ResetNeeded, match="never reset"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step([0, 0])
    envs.reset(seed=0)
    envs.step([0, 0])
    envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[1\]"):
        envs.step([0, 0])


def test_masks_are_those_of_the_infos() -> None:
    crowded = (*TRUTH, "simulator.molecules_per_nm2=0.2", "simulator.min_distance_nm=1.45")
    envs = native(3, crowded)
    _, infos = envs.reset(seed=1)
    assert np.array_equal(envs.action_masks(), infos["action_mask"])
    forbidden = ~infos["action_mask"]
    assert forbidden[:, -1].all()
    states = [microscope.truth for microscope in envs.microscopes]
    _, rewards, terminated, _, infos = envs.step(np.full(3, 11))
    assert infos["refused"].all()
    assert not terminated.any()
    assert (rewards == -1).all()
    assert [e[0] for e in infos["events"]] == ["refused dip 5.0 nm"] * 3
    assert states == [microscope.truth for microscope in envs.microscopes]


@pytest.mark.parametrize(
    ("actions", "message"),
    [([0, 0], "3 integers"), ([[0, 0, 0]], "3 integers"), (0, "3 integers"),
     ([0.0, 0.0, 0.0], "0 to 11, not 0.0"), ([0, 12, 0], "0 to 11, not 12"),
     ([0, -1, 0], "0 to 11, not -1"), (np.zeros(3, bool), "0 to 11, not .*False"),
     ([0, True, 0], "0 to 11, not True"), (["0", "1", "2"], "0 to 11, not '0'"),
     (np.zeros(3, "m8[s]"), "0 to 11, not .*timedelta64")],
)  # fmt: skip
def test_wrong_actions_are_refused_before_anything_is_done(actions: Any, message: str) -> None:
    envs = native(3)
    envs.reset(seed=0)
    clocks = [microscope.status().time for microscope in envs.microscopes]
    with pytest.raises(ValueError, match=message):
        envs.step(actions)
    assert [microscope.status().time for microscope in envs.microscopes] == clocks


@pytest.mark.parametrize("num_envs", [0, -1])
def test_no_environment_at_all_is_an_error(num_envs: int) -> None:
    with pytest.raises(ValueError, match="num_envs must be at least 1"):
        native(num_envs)


def test_wrong_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match="human"):
        native(1, render_mode="human")
    with pytest.raises(ValueError, match="sometimes"):
        native(1, autoreset_mode="sometimes")
    with pytest.raises(ConfigError, match="overrides"):
        make_vector_env(1, Config(), overrides=TRUTH)


def bad_probe(images: np.ndarray) -> np.ndarray:
    return np.full(len(images), 0.05, np.float32)


def spoil(envs: ProbeConditioningVectorEnv, which: int, verb: str, error: Exception) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    setattr(envs.microscopes[which], verb, fail)


@pytest.mark.parametrize("mode", MODES)
def test_an_error_in_one_environment_leaves_the_others_whole(mode: str) -> None:
    settings = load_config(None, SHORT)
    envs, alone = (
        ProbeConditioningVectorEnv(
            [build_microscope(settings) for _ in range(count)], [bad_probe] * count,
            settings.env, autoreset_mode=mode,
        )
        for count in (3, 2)
    )  # fmt: skip
    envs.reset(seed=[1, 2, 3])
    alone.reset(seed=[1, 3])
    spoil(envs, 1, "condition", CommandFailed("stuck"))
    with pytest.raises(CommandFailed, match="stuck") as raised:
        envs.step([1, 1, 1])
    assert "environment 1" in raised.value.__notes__[0]
    alone.step([1, 1])
    del envs.microscopes[1].__dict__["condition"]
    for _ in range(3):
        ours, theirs = envs.step([1, 1, 1]), alone.step([1, 1])
        check_same(ours[0][[0, 2]], theirs[0])
        check_same(ours[4]["time"][[0, 2]], theirs[4]["time"])
        check_same(ours[1], np.full(3, -1.0))


def test_a_reset_that_failed_is_tried_again_at_the_next_step() -> None:
    settings = load_config(None, ["env.max_steps=1"])
    envs = ProbeConditioningVectorEnv(
        [build_microscope(settings) for _ in range(2)], [bad_probe] * 2, settings.env
    )
    envs.reset(seed=0, options={"damage": False})
    envs.step([0, 0])
    envs.microscopes[0].restart = lambda seed: spoil(envs, 0, "scan", InstrumentError("blind"))
    with pytest.raises(InstrumentError, match="blind"):
        envs.reset(seed=[0, None])
    del envs.microscopes[0].scan, envs.microscopes[0].restart
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step([0, 0])
    envs.reset(seed=0, options={"damage": False})
    _, rewards, *_ = envs.step([0, 0])
    assert (rewards == -1).all()


def test_an_error_does_not_keep_the_others_from_beginning_again() -> None:
    settings = load_config(None, ["env.max_steps=2"])
    envs = ProbeConditioningVectorEnv(
        [build_microscope(settings) for _ in range(2)], [bad_probe] * 2, settings.env,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )  # fmt: skip
    envs.reset(seed=0)
    envs.step([0, 0])
    spoil(envs, 0, "condition", CommandFailed("stuck"))
    with pytest.raises(CommandFailed):
        envs.step([1, 1])
    del envs.microscopes[0].__dict__["condition"]
    _, _, _, truncated, _ = envs.step([1, 1])
    assert truncated.tolist() == [True, False]


def test_every_microscope_has_its_own_classifier() -> None:
    def verdict(probability: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda images: np.full(len(images), probability, np.float32)

    config = EnvConfig(damage=False)
    envs = ProbeConditioningVectorEnv(
        [build_microscope(Config()) for _ in range(2)], [verdict(0.25), verdict(0.5)], config
    )
    _, infos = envs.reset(seed=0)
    assert infos["probability"].tolist() == [0.25, 0.5]
    with pytest.raises(ValueError, match="one classifier each"):
        ProbeConditioningVectorEnv(envs.microscopes, [bad_probe])


def test_draws_one_picture_for_each() -> None:
    envs = native(2, render_mode="rgb_array")
    envs.reset(seed=0)
    drawn = envs.render()
    assert isinstance(drawn, tuple)
    single = make_env(overrides=TRUTH, render_mode="rgb_array")
    single.reset(seed=1)
    assert np.array_equal(drawn[1], single.render())
    assert native(1).render() is None


def test_is_what_gymnasium_calls_a_vector_environment() -> None:
    envs: VectorEnv[Any, Any, Any] = native(2)
    assert envs.num_envs == 2
    assert envs.unwrapped is envs
    assert str(envs) == "ProbeConditioningVectorEnv(num_envs=2)"
    assert isinstance(make_env(overrides=TRUTH), ProbeConditioningEnv)
