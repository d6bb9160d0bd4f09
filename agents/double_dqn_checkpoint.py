"""Checkpoints of a double DQN: everything needed to continue as if it had never stopped.

Of its files ``model`` has networks and optimiser, ``replay`` the replay buffer, and ``state``
counters, environment, random generators, and anything else the run keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from agents import model_state
from agents.checkpoint import (
    MISFITS,
    MODEL,
    REPLAY,
    CheckpointError,
    check,
    read_state,
    write_checkpoint,
)
from agents.double_dqn import DoubleDQN
from agents.vgg import VGG, check_finite_output
from spm_gym.errors import one_line
from spm_gym.plain_state import restored


@dataclass(frozen=True, slots=True)
class _CheckpointState:
    model: dict[str, Any]
    env: list[Any] | None
    monitors: list[list[float]]
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        path: Its directory.
        step: Environment steps done.
        model: The agent, ready for ``learn(remaining, reset_num_timesteps=False)``.
        env_state: As `save_checkpoint` was given it.
        extra: As `save_checkpoint` was given it.
    """

    path: Path
    step: int
    model: DoubleDQN
    env_state: Sequence[Any] | None
    extra: dict[str, Any]


def save_checkpoint(
    directory: Path, model: DoubleDQN, env_state: Sequence[Any] | None, extra: dict[str, Any]
) -> Path:
    """Write a checkpoint, then remove all but the newest two and remains of unfinished ones.

    Call it between two steps: from ``_on_rollout_start`` of a callback, or outside `learn`.
    Gradient steps that are due are done first.

    Args:
        directory: Directory of all checkpoints of the run.
        model: The agent.
        env_state: The state of every environment, as its ``get_state()`` gives it; None if there
            is none. Without it, or where ``mid_episode`` in it is false, as with a real
            microscope, learning goes on with a new episode.
        extra: Anything else that the run needs to continue, as `spm_gym.plain_state` takes it.

    Returns:
        Path of the checkpoint.

    Raises:
        StateError: The state of an environment, or ``extra``, holds more than data.
    """
    # A learning thread that still changed the weights would make file and counters disagree.
    model.finish_learning()
    state = {
        "model": model_state.get_state(model),
        "env": None if env_state is None else list(env_state),
        "monitors": _running_rewards(model.env),
        "extra": extra,
    }

    def write(folder: Path) -> None:
        save_file(model_state.tensors(model), folder / MODEL)
        save_arrays(model.replay_buffer.arrays(), folder / REPLAY)

    return write_checkpoint(directory, "double-dqn", model.num_timesteps, state, write)


def load_checkpoint(
    path: Path, env: GymEnv | None = None, device: torch.device | str = "auto"
) -> Checkpoint:
    """Read a checkpoint; unless learning is parallel, training goes on bit for bit.

    Args:
        path: A directory that `save_checkpoint` wrote.
        env: The environment to go on in: reset, then put into the stored state, if there is one.
        device: A torch device.

    Raises:
        CheckpointError: It is missing, damaged or foreign, its weights are not finite, or it
            belongs to another environment.
    """
    meta = check(path, "double-dqn")
    try:
        kept, state = _read_state(path, meta.step)
        with safe_open(path / REPLAY, framework="np") as replay:
            model = model_state.build(state, load_file(path / MODEL), _Arrays(replay), env, device)
        if env is not None:
            _restore_env(model, kept)
        # Last: building the model has drawn from torch's generators.
        model_state.restore_torch(state)
    except MemoryError:
        raise CheckpointError(f"{path} needs more memory than there is") from None
    except MISFITS as error:
        raise CheckpointError(
            f"{path} does not fit this program or env: {one_line(error)}"
        ) from error
    check_finite_output(
        model.q_net, model.pixels, lambda why: CheckpointError(f"{path} is of no use: {why}")
    )
    return Checkpoint(path, meta.step, model, kept.env, kept.extra)


def read_network(path: Path) -> tuple[VGG, int]:
    """Read the network of a checkpoint, for inspection, and its number of training steps.

    Raises:
        CheckpointError: It is missing, damaged or foreign.
    """
    meta = check(path, "double-dqn", without=frozenset({REPLAY}))
    try:
        _, state = _read_state(path, meta.step)
        network = model_state.network(state, load_file(path / MODEL))
    except MISFITS as error:
        raise CheckpointError(f"{path} does not fit this program: {one_line(error)}") from error
    check_finite_output(
        network, network.pixels, lambda why: CheckpointError(f"{path} is of no use: {why}")
    )
    return network, meta.step


def _read_state(path: Path, step: int) -> tuple[_CheckpointState, model_state.ModelState]:
    kept = restored(_CheckpointState, read_state(path))
    state = model_state.read_state(kept.model)
    if state.steps != step:
        raise ValueError(f"it is of step {state.steps}, not of {step}")
    return kept, state


class _Arrays(Mapping[str, NDArray[Any]]):
    """The arrays of a file, each read when it is asked for: all at once could exceed memory."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getitem__(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = self._file.get_tensor(name)
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.keys())

    def __len__(self) -> int:
        return len(self._file.keys())


def _restore_env(model: DoubleDQN, kept: _CheckpointState) -> None:
    states = kept.env or []
    goes_on = bool(states) and all(each.get("mid_episode", True) for each in states)
    if not goes_on:
        # The library then resets the environment when learning begins.
        model._last_obs = None
    assert model.env is not None
    if len(states) > model.env.num_envs:
        raise ValueError(f"it is of {len(states)} environments")
    if goes_on:
        model.env.reset()  # wrappers refuse to step before a reset
    for index, env_state in enumerate(states):
        model.env.env_method("set_state", env_state, indices=[index])
    if not goes_on:
        return
    # The wrapper sums the rewards of the running episode, which the environment does not know.
    for monitor, rewards in zip(_monitors(model.env), kept.monitors, strict=True):
        monitor.rewards = rewards


def _running_rewards(env: VecEnv | None) -> list[list[float]]:
    return [monitor.rewards for monitor in _monitors(env)]


def _monitors(env: VecEnv | None) -> list[Monitor]:
    if not isinstance(env, DummyVecEnv):
        return []
    found = [unwrap_wrapper(single, Monitor) for single in env.envs]
    return [monitor for monitor in found if isinstance(monitor, Monitor)]
