from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from agents.double_dqn import DoubleDQN
from agents.gathering import gather
from agents.replay import FlipReplay
from spm_gym.plain_state import StateError, from_bytes, to_bytes
from tests.support.ring_env import RingEnv, ring_config

SPACE = gym.spaces.Box(-1.5, 1.5, (1, 4, 4), np.float32)
ACTIONS = gym.spaces.Discrete(3)


def replay(size: int = 10, flips: bool = False, seed: int = 0) -> FlipReplay:
    rng = np.random.default_rng(seed)
    return FlipReplay(size, SPACE, ACTIONS, "cpu", flips=flips, rng=rng)


def add(
    buffer: FlipReplay,
    image: NDArray[np.float32],
    number: float = 0.0,
    done: bool = False,
    **info: Any,
) -> None:
    """One step whose next image is the negative of its image."""
    info = {"action_mask": np.ones(3, bool)} | info
    reward, action = np.array([number]), np.array([int(number) % 3])
    buffer.add(image[None], -image[None], action, reward, np.array([done]), [info])


def flat(value: float) -> NDArray[np.float32]:
    return np.full((1, 4, 4), value, np.float32)


def test_the_oldest_steps_are_forgotten_first() -> None:
    buffer = replay(size=5)
    for number in range(8):
        add(buffer, flat(number), number)
    batch = buffer.sample(300)
    assert set(batch.rewards[:, 0].tolist()) == {3, 4, 5, 6, 7}
    assert buffer.size() == 5


def test_a_step_whose_action_is_uncertain_teaches_nothing() -> None:
    buffer = replay()
    for number in range(6):
        add(buffer, flat(number), number, uncertain=number % 2 == 1)
    assert set(buffer.sample(200).rewards[:, 0].tolist()) == {0, 2, 4}
    assert buffer.size() == 3


def test_a_step_stays_together() -> None:
    buffer = replay()
    for number in range(7):
        add(buffer, flat(number), number, action_mask=np.arange(3) <= number % 3)
    batch = buffer.sample(100)
    numbers = batch.rewards[:, 0]
    assert (batch.observations == numbers[:, None, None, None]).all()
    assert (batch.next_observations == -numbers[:, None, None, None]).all()
    assert (batch.actions[:, 0] == numbers % 3).all()
    assert (batch.next_masks.sum(dim=1) == numbers % 3 + 1).all()


def test_flips_are_four_equally_often_and_the_same_on_both_images() -> None:
    buffer = replay(flips=True)
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    add(buffer, image)
    batch = buffer.sample(4000)
    observations = batch.observations.numpy()
    np.testing.assert_array_equal(batch.next_observations.numpy(), -observations)
    grid = image[0]
    for flipped in (grid, grid[::-1], grid[:, ::-1], grid[::-1, ::-1]):
        times = int((observations == flipped).all(axis=(1, 2, 3)).sum())
        assert times == pytest.approx(1000, abs=5 * np.sqrt(750))
    np.testing.assert_array_equal(buffer.observations[0], image)


def test_without_flips_images_come_back_as_they_were() -> None:
    buffer = replay(flips=False)
    image = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    add(buffer, image)
    assert (buffer.sample(50).observations.numpy() == image).all()


def test_only_termination_counts_as_done() -> None:
    buffer = replay()
    add(buffer, flat(0), 0)
    add(buffer, flat(1), 1, done=True)
    add(buffer, flat(2), 2, done=True, **{"TimeLimit.truncated": True})
    assert buffer.dones[:3, 0].tolist() == [0, 1, 0]


def test_episode_ends_keep_their_own_image_and_mask() -> None:
    """The vector environment resets at once; what it then shows must not enter the buffer."""
    sent: list[tuple[NDArray[np.float32], NDArray[np.bool_]]] = []

    class Telling(RingEnv):
        def step(self, action: Any) -> Any:
            result = super().step(action)
            sent.append((result[0], result[4]["action_mask"]))
            return result

    model = DoubleDQN(Telling(max_steps=3), ring_config(prefill=200), seed=0).learn(200)
    assert model.replay_buffer.size() == 200
    for row, (image, mask) in enumerate(sent):
        np.testing.assert_array_equal(model.replay_buffer.next_observations[row], image)
        np.testing.assert_array_equal(model.replay_buffer.next_masks[row], mask)
    assert model._episode_num > 50


def test_memory_of_the_papers_experiences() -> None:
    """All of it is no more than a quarter of 15,000 pairs of images in float32."""
    space = gym.spaces.Box(-1.5, 1.5, (1, 64, 64), np.float32)
    buffer = FlipReplay(3750, space, gym.spaces.Discrete(12), rng=np.random.default_rng(0))
    images = buffer.observations.nbytes + buffer.next_observations.nbytes
    pairs = 15_000 * 2 * 64 * 64 * 4
    assert images == pairs / 8
    assert images < buffer.nbytes < 1.01 * images


def test_images_are_rounded_by_far_less_than_their_noise() -> None:
    buffer = replay()
    image = np.random.default_rng(0).uniform(-1.5, 1.5, (1, 4, 4)).astype(np.float32)
    add(buffer, image)
    error = np.abs(buffer.sample(1).observations.numpy() - image)
    assert 0 < error.max() * 100e-12 <= 0.05e-12  # 1 is 100 pm


def test_terminal_steps_come_last() -> None:
    buffer = replay(size=20)
    for number in range(20):
        add(buffer, flat(number), number, done=number % 3 == 0)
    batch = buffer.sample(50)
    terminal = batch.rewards[:, 0] % 3 == 0
    assert not terminal[: batch.ongoing].any()
    assert terminal[batch.ongoing :].all()
    assert terminal.any()


def test_several_environments_wrap_around_together() -> None:
    rng = np.random.default_rng(0)
    buffer = FlipReplay(5, SPACE, ACTIONS, "cpu", 3, flips=False, rng=rng)
    for start in (0, 3, 6):
        numbers = np.arange(start, start + 3, dtype=np.float32)
        images = numbers[:, None, None, None] * np.ones((1, 4, 4), np.float32)
        infos: list[dict[str, Any]] = [{"action_mask": np.ones(3, bool)}] * 3
        buffer.add(images, images, np.zeros(3, int), numbers, np.zeros(3, bool), infos)
    assert sorted(buffer.rewards[:, 0].tolist()) == [4, 5, 6, 7, 8]
    assert (buffer.full, buffer.pos) == (True, 4)


@pytest.mark.parametrize("steps", [4, 13])
def test_a_restored_buffer_goes_on_alike(tmp_path: Path, steps: int) -> None:
    buffer, restored = replay(flips=True), replay(flips=True, seed=99)
    images = np.random.default_rng(1).random((20, 1, 4, 4), np.float32)
    for number in range(steps):
        add(buffer, images[number], number)
    buffer.sample(5)
    save_file(buffer.arrays(), tmp_path / "replay.safetensors")
    restored.set_state(
        from_bytes(to_bytes(buffer.get_state())), load_file(tmp_path / "replay.safetensors")
    )
    for either in (buffer, restored):
        add(either, images[19], 19)
    for ours, theirs in zip(buffer.sample(30), restored.sample(30), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_state_of_another_size_is_refused() -> None:
    other = replay(10)
    with pytest.raises(StateError, match="holds 10 steps, this one 11"):
        replay(11).set_state(other.get_state(), other.arrays())


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("observations", lambda images: images.astype(np.float32), "of float32, not"),
        ("observations", lambda images: images[:, :, :3], "are \\(5, 1, 3, 4\\)"),
        ("next_observations", lambda images: images[:4], "are \\(4, 1, 4, 4\\)"),
        ("next_observations", lambda images: images * np.float16(np.nan), "not all finite"),
        ("rewards", lambda rewards: rewards + np.float32(np.inf), "rewards are not all finite"),
        ("actions", lambda actions: actions + 3, "actions other than 0 to 2"),
        ("actions", lambda actions: actions - 1, "actions other than 0 to 2"),
        ("next_masks", np.zeros_like, "no action is allowed"),
    ],
)
def test_stored_steps_that_make_no_sense_are_refused(
    name: str, damage: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    buffer = replay()
    for number in range(5):
        add(buffer, flat(number), 0)
    arrays = buffer.arrays()
    arrays[name] = damage(arrays[name])
    with pytest.raises(StateError, match=message):
        replay().set_state(buffer.get_state(), arrays)


def test_a_rehearsal_draws_nothing() -> None:
    rehearsed, other = replay(flips=True), replay(flips=True)
    for buffer in (rehearsed, other):
        for number in range(9):
            add(buffer, flat(number), number)
    rehearsed.rehearse(20)
    for ours, theirs in zip(rehearsed.sample(20), other.sample(20), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_empty_buffer_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        replay().sample(1)


def test_going_on_without_any_allowed_action_is_refused() -> None:
    nothing = np.zeros(3, bool)
    add(replay(), flat(0), done=True, action_mask=nothing)
    with pytest.raises(ValueError, match="allows no action"):
        add(replay(), flat(0), done=False, action_mask=nothing)


def test_sampling_never_sees_a_half_written_step() -> None:
    buffer = replay(size=20)
    add(buffer, flat(0), 0)

    def write() -> None:
        for number in range(1, 2049):  # float16 knows all of them
            add(buffer, flat(number), number)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        batch = buffer.sample(16)
        number = batch.rewards[:, 0, None, None, None]
        assert (batch.observations == number).all()
        assert (batch.next_observations == -number).all()
    writer.join()


def test_shifts_move_images_by_no_more_than_asked_and_repeat_the_edge() -> None:
    space = gym.spaces.Box(-1.5, 1.5, (1, 16, 16), np.float32)
    replay = FlipReplay(
        4, space, gym.spaces.Discrete(2), flips=False, shift=3, rng=np.random.default_rng(0)
    )
    image = np.full((1, 1, 16, 16), -1, np.float32)
    image[0, 0, 8, 5] = 1
    replay.add(
        image, image, np.array([0]), np.array([0.0], np.float32), np.array([False]),
        [{"action_mask": np.ones(2, bool)}],
    )  # fmt: skip
    batch = replay.sample(200)
    places = batch.observations[:, 0].reshape(200, -1).argmax(dim=1).numpy()
    rows, cols = np.divmod(places, 16)
    assert set(rows - 8) == set(range(-3, 4))
    assert set(cols - 5) == set(range(-3, 4))
    assert (batch.observations.sum(dim=(1, 2, 3)) == -254).all()
    others = batch.next_observations[:, 0].reshape(200, -1).argmax(dim=1).numpy()
    assert (others != places).mean() > 0.9


def plainly_sampled(
    image: NDArray[np.float32], up_down: int, left_right: int, up: int, left: int, shift: int
) -> NDArray[np.float32]:
    flipped = image[0, :: 1 - 2 * up_down, :: 1 - 2 * left_right]
    padded = np.pad(flipped, shift, mode="edge")
    height, width = flipped.shape
    return padded[shift + up : shift + up + height, shift + left : shift + left + width]


@given(st.integers(1, 5), st.integers(2, 7), st.integers(0, 9), st.integers(0, 1000))
def test_gathering_is_flipping_padding_and_cutting(
    height: int, width: int, shift: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    stored = rng.random((6, 1, height, width)).astype(np.float16)
    rows, flips = rng.integers(6, size=8), rng.integers(2, size=(2, 8))
    offsets = rng.integers(-shift, shift + 1, size=(2, 8))
    out = np.empty((8, 1, height, width), np.float16)
    gather(stored, rows, flips, offsets, out)
    for row, flip, offset, gathered in zip(rows, flips.T, offsets.T, out, strict=True):
        expected = plainly_sampled(stored[row], *flip, *offset, shift)
        np.testing.assert_array_equal(gathered[0], expected)
