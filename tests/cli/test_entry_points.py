"""Input from outside is validated before anything is done; what goes out is the caller's.

A dip by mistake ruins a probe: the number of an action is read strictly, and nobody can write into
the masks and images that decisions rest on.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agents.replay import FlipReplay
from spm_gym.action_index import action_index, action_indices
from spm_gym.assembly.environment import make_env, make_vector_env
from spm_gym.assembly.simulator import build_microscope
from spm_gym.config import Config, EnvConfig, load_config
from spm_gym.envs.observation import ProcessedScan
from spm_gym.envs.probe_conditioning import ProbeConditioningEnv
from spm_gym.errors import LimitExceeded
from spm_gym.instrument.guard import Guard
from spm_gym.instrument.nanonis.driver import connect
from spm_gym.types import Dip, Frame, Pulse, Scan
from tests.support.virtual import silent, virtual_nanonis

NM = 1e-9
TRUTH = ("env.ground_truth=true",)
CROWDED = (*TRUTH, "simulator.molecules_per_nm2=0.2", "simulator.min_distance_nm=1.45",
           "simulator.tip_change_rate=0")  # fmt: skip
"""No room for the deep dips."""

HOSTILE: list[Any] = [
    -1, 12, 10**30, -(10**30), True, False, np.True_, 1.7, 1.0, np.float32(1), "3", b"3", None,
    [1], (1,), np.array([1]), np.array(1.0), np.array(True), np.array("1"), np.timedelta64(1, "s"),
    np.int64(-1), np.uint64(2**64 - 1), 1j, object(), int,
]  # fmt: skip
"""Values that are none of twelve actions."""

integers = st.integers(-(2**31), 2**31 - 1)
not_actions = st.one_of(
    st.sampled_from(HOSTILE),
    st.floats(),
    st.booleans(),
    st.text(),
    integers.filter(lambda number: not 0 <= number < 12),
    st.lists(st.integers(0, 11)),
)


@pytest.mark.parametrize("kind", [int, np.int8, np.uint64, np.int64, np.array])
@given(number=st.integers(0, 11))
def test_an_integer_of_any_kind_is_an_action(kind: Callable[[int], Any], number: int) -> None:
    assert action_index(kind(number), 12) == number
    assert type(action_index(kind(number), 12)) is int


@given(action=not_actions)
def test_nothing_else_is_an_action(action: Any) -> None:
    with pytest.raises(ValueError, match="an action is an integer from 0 to 11, not"):
        action_index(action, 12)
    with pytest.raises(ValueError, match="from 0 to 11"):
        action_indices([0, action, 0], 3, 12)


@given(actions=st.lists(st.integers(0, 11), min_size=1))
def test_as_many_integers_as_there_are_environments_are_their_actions(actions: list[int]) -> None:
    for given_as in (actions, tuple(actions), np.array(actions), np.array(actions, np.uint8)):
        assert action_indices(given_as, len(actions), 12) == actions
    with pytest.raises(ValueError, match=f"must be {len(actions) + 1} integers"):
        action_indices(actions, len(actions) + 1, 12)


@cache
def stepped() -> ProbeConditioningEnv:
    env = make_env(overrides=TRUTH)
    env.reset(seed=0)
    env.step(0)
    return env


def everything(env: ProbeConditioningEnv) -> bytes:
    return pickle.dumps(env.get_state())


@given(action=not_actions)
def test_what_is_no_action_changes_nothing(action: Any) -> None:
    env = stepped()
    before = everything(env)
    assert env.processed is not None
    for enter in (
        lambda: env.step(action),
        lambda: env.act(action),
        lambda: env.resume_episode(env.processed, 3, 0 if action is None else action, "yes"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match=r"from 0 to 11|refused must be"):
            enter()
    assert everything(env) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [({"demage": False}, "'damage', 'processed'; unknown: \\['demage'\\]"),
     ({"damage": "no"}, "'no'"), ({"damage": 0}, "True or False, not 0"),
     ({"damage": None}, "not None"), ({"processed": None}, "needed, not None"),
     ({"processed": np.zeros((1, 64, 64))}, "needed, not array"),
     ({"reset_mask": [True]}, "unknown"), (["damage"], "must be a dict"), (True, "must be a dict")],
)  # fmt: skip
def test_options_that_nobody_would_look_at_are_refused(options: Any, message: str) -> None:
    env = stepped()
    before = everything(env)
    with pytest.raises(ValueError, match=message):
        env.reset(seed=3, options=options)
    assert everything(env) == before


def test_a_vector_takes_no_option_that_belongs_to_one_microscope() -> None:
    envs = make_vector_env(2, overrides=TRUTH)
    envs.reset(seed=0)
    clocks = [microscope.status().time for microscope in envs.microscopes]
    state = [rng.bit_generator.state for rng in envs.np_random]
    for options in ({"processed": stepped().processed}, {"damage": "no"}, {"mask": [True]}, [1]):
        with pytest.raises(ValueError, match=r"option"):
            envs.reset(seed=1, options=options)  # type: ignore[arg-type]
    with pytest.raises(gymnasium.error.Error):
        envs.reset(seed=[1, -1])
    assert [microscope.status().time for microscope in envs.microscopes] == clocks
    assert [rng.bit_generator.state for rng in envs.np_random] == state


@pytest.mark.parametrize("wrong", [None, "processed", np.zeros((1, 64, 64), np.float32)])
def test_an_image_from_outside_is_a_look_of_these_settings(wrong: Any) -> None:
    env = make_env(overrides=TRUTH)
    env.reset(seed=0)
    other = make_env(overrides=(*TRUTH, "env.pixels=32"))
    other.reset(seed=0)
    processed = env.processed
    assert processed is not None
    env.act(0)
    for image in (wrong, other.processed, dataclasses.replace(processed, mask=np.ones(11, bool)),
                  dataclasses.replace(processed, mask=np.ones(12))):  # fmt: skip
        with pytest.raises(ValueError, match="processed scan"):
            env.observe(image)
        with pytest.raises(ValueError, match="processed scan"):
            env.resume_episode(image, 0)
        if image is not None:
            with pytest.raises(ValueError, match="processed scan"):
                env.processed = image
    for elapsed in (-1, 1.5, True, "1", None):
        with pytest.raises(ValueError, match="elapsed must be an integer"):
            env.resume_episode(processed, elapsed)  # type: ignore[arg-type]
    env.observe(processed)


def forbidden_dip(env: ProbeConditioningEnv, info: dict[str, Any]) -> int:
    forbidden = np.flatnonzero(~info["action_mask"])
    assert env.config.actions[forbidden[-1]].kind == "dip"
    return int(forbidden[-1])


def test_no_mask_that_is_handed_out_lets_a_forbidden_dip_through() -> None:
    env = make_env(overrides=CROWDED)
    observation, info = env.reset(seed=1)
    dip = forbidden_dip(env, info)
    probe = env.instrument.truth
    env.action_masks()[:] = True
    info["action_mask"][:] = True
    observation[:] = 0
    assert env.processed is not None
    for array in (env.processed.mask, env.processed.observation, env.processed.scan.z):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1
    _, _, _, _, info = env.step(dip)
    assert info["refused"]
    assert env.instrument.truth == probe


def spoil_all(state: Any) -> None:
    """Write into everything that can be written into."""
    if isinstance(state, np.ndarray) and state.flags.writeable:
        state[...] = 0
    elif isinstance(state, dict):
        for value in state.values():
            spoil_all(value)
        state.clear()
    elif isinstance(state, list | tuple):
        for value in state:
            spoil_all(value)
        if isinstance(state, list):
            state.append("invented")


def test_what_a_caller_does_to_its_images_and_masks_changes_no_trajectory() -> None:
    def play(spoil: bool) -> list[Any]:
        env, rng = make_env(overrides=TRUTH), np.random.default_rng(0)
        observation, info = env.reset(seed=2)
        trajectory = []
        for _ in range(8):
            trajectory.append((observation.tobytes(), str(info), env.render()))
            action = rng.choice(np.flatnonzero(env.action_masks()))
            if spoil:
                assert observation.flags.writeable
                observation[:] = 7
                info["action_mask"][:] = ~info["action_mask"]
                env.action_masks()[:] = False
                spoil_all(env.get_state())
            observation, _, terminated, _, info = env.step(action)
            if terminated:
                observation, info = env.reset()
        return trajectory

    assert play(spoil=True) == play(spoil=False)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_last_observations_of_a_vector_are_the_callers_too(mode: str) -> None:
    envs = make_vector_env(2, overrides=(*TRUTH, "env.max_steps=1"), autoreset_mode=mode)
    envs.reset(seed=0)
    observations, _, _, _, infos = envs.step([0, 0])
    handed_out = [observations, infos["action_mask"], envs.action_masks()]
    if mode == "SameStep":
        handed_out += [*infos["final_obs"], infos["final_info"]["action_mask"]]
    for array in handed_out:
        array[:] = 0  # writeable, for torch complains of others
    assert envs.action_masks().any(axis=1).all()


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda processed: pickle.loads(pickle.dumps(processed))],
)
def test_processed_scans_stay_read_only_when_they_are_copied_or_stored(
    duplicate: Callable[[ProcessedScan], ProcessedScan],
) -> None:
    processed = stepped().processed
    assert processed is not None
    twin = duplicate(processed)
    assert np.array_equal(twin.observation, processed.observation)
    assert twin.scan.frame == processed.scan.frame
    for array in (twin.observation, twin.mask, twin.scan.z):
        assert not array.flags.writeable


def test_a_look_keeps_nothing_that_its_maker_can_still_write_into() -> None:
    z, mask = np.zeros((8, 8), np.float32), np.zeros(12, bool)
    read_only_view = mask[:]
    read_only_view.flags.writeable = False
    image = np.zeros((1, 8, 8), np.float32)
    processed = dataclasses.replace(
        stepped().processed,
        scan=Scan(Frame(0, 0, NM, 8), z),
        observation=image,
        mask=read_only_view,
    )  # type: ignore[type-var]
    mask[:], z[:], image[:] = True, 1, 1
    for array in (processed.mask, processed.scan.z, processed.observation):
        assert not array.any()


def test_a_classifier_that_spoils_its_images_spoils_no_observation() -> None:
    def classifier(images: NDArray[np.float32]) -> NDArray[np.float32]:
        images[:] = 9
        return np.full(len(images), 0.05, np.float32)

    env = ProbeConditioningEnv(build_microscope(Config()), classifier, EnvConfig())
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space


@pytest.mark.parametrize("wrong", [3, "dip 5.0 nm", None, Dip(5 * NM)])
def test_only_actions_of_the_settings_are_done_and_only_somewhere(wrong: Any) -> None:
    env = stepped()
    before = everything(env)
    with pytest.raises(ValueError, match="action of the settings"):
        env.navigator.act(wrong, (0.0, 0.0))
    with pytest.raises(LimitExceeded, match="finite"):
        env.navigator.act(env.config.actions[-1], (0.0, float("nan")))
    with pytest.raises(ValueError, match="no disc"):
        env.navigator.mark(float("nan"), 0.0, 1 * NM, "test")
    assert everything(env) == before


nowhere = st.sampled_from([float("nan"), float("inf"), -float("inf"), "1", None, True, [0.0]])


@given(wrong=nowhere, spoilt=st.sampled_from(["x", "y", "size", "angle"]))
def test_a_simulated_microscope_goes_nowhere_that_is_no_place(wrong: Any, spoilt: str) -> None:
    microscope = build_microscope(Config())
    before = pickle.dumps(microscope.get_state())
    frame = dataclasses.replace(Frame(0.0, 0.0, 10 * NM, 16), **{spoilt: wrong})
    refused: list[Callable[[], object]] = [
        lambda: microscope.scan(frame),
        lambda: microscope.settle(frame, 0.25),
        lambda: microscope.begin_scan(frame),
        lambda: microscope.scan(Frame(0.0, 0.0, 10 * NM, 16), wrong),
        lambda: microscope.scan(Frame(0.0, 0.0, 10 * NM, wrong)),
        lambda: microscope.condition(Dip(1 * NM), wrong, 0.0),
        lambda: microscope.condition(Dip(1 * NM), 0.0, wrong),
        lambda: microscope.condition(Dip(wrong), 0.0, 0.0),
        lambda: microscope.condition(wrong, 0.0, 0.0),
        lambda: microscope.move_to(0.0, wrong),
        lambda: microscope.move_area(wrong),
        lambda: microscope.wait(wrong),
    ]
    for ask in refused:
        with pytest.raises((ValueError, LimitExceeded)):
            ask()
    assert pickle.dumps(microscope.get_state()) == before


@pytest.mark.parametrize("action", [-1, 3, 1.7, True])
def test_no_wrong_action_is_learned_from(action: Any) -> None:
    space = gymnasium.spaces.Box(-1.5, 1.5, (1, 4, 4), np.float32)
    buffer = FlipReplay(10, space, gymnasium.spaces.Discrete(3), "cpu",
                        rng=np.random.default_rng(0))  # fmt: skip
    image = np.zeros((1, 1, 4, 4), np.float32)
    infos = [{"action_mask": np.ones(3, bool)}]
    with pytest.raises(ValueError, match="from 0 to 2"):
        buffer.add(image, image, np.array([action]), np.zeros(1), np.zeros(1, bool), infos)
    assert buffer.size() == 0


def test_over_tcp_nothing_is_sent_for_what_is_no_action_or_no_act() -> None:
    acts: list[dict[str, Any]] = []
    with virtual_nanonis("--seed", "11") as ports:
        config = load_config(
            None, [f"real.nanonis.ports={ports}", "real.nanonis.coarse.retract=z+"]
        )
        instrument = connect(config.real, silent())
        env = make_env(config, instrument=Guard(instrument, config.real.limits, acts.append))
        env.reset(seed=11, options={"damage": False})
        sent: list[str] = []
        send, instrument._main.call = (
            instrument._main.call,
            lambda name, **values: (  # type: ignore[method-assign]
                sent.append(name),
                send(name, **values),
            )[1],
        )
        for action in HOSTILE:
            with pytest.raises(ValueError, match="from 0 to 11"):
                env.step(action)
        for there in (env.instrument, instrument):
            for act in (3, None, "dip", Dip):
                with pytest.raises(ValueError, match="a Stall, a Pulse or a Dip"):
                    there.condition(act, 0.0, 0.0)
            with pytest.raises(LimitExceeded):
                there.condition(Pulse(float("nan")), 0.0, 0.0)
            with pytest.raises(ValueError, match="needs one of"):
                there.move_area("x+")
            with pytest.raises(ValueError, match="integer"):
                there.scan(Frame(0, 0, 10 * NM, 64.5))
        assert sent == []
        assert acts == []
        env.step(0)
        assert {"TipShaper.Start", "Bias.Pulse"}.isdisjoint(sent)
        assert "Scan.Action" in sent
        env.close()
