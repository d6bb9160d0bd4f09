"""Checkpoints: everything needed to continue as if the run had never stopped.

A checkpoint is a directory ``step_0001000`` of files in the format safetensors: ``model``
(networks, optimiser), ``replay`` and ``state`` (counters, environment, random generators, anything
else the run keeps). ``meta.json`` has format, step, versions and a SHA-256 of each of them. It is
written beside its place, synchronised to the disk and renamed, so it is whole or absent.

All of it is data: a checkpoint from elsewhere may be nonsense, but no code in it is run.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from agents import model_state
from agents.double_dqn import DoubleDQN
from agents.vgg import VGG, check_finite_output
from spm_gym.config.json_file import parse_json
from spm_gym.plain_state import from_bytes, restored, to_bytes

FORMAT = "spm-gym checkpoint"
VERSION = 2
# The one before the newest is there if the newest turns out damaged.
KEPT = 2
MODEL, REPLAY, STATE = "model.safetensors", "replay.safetensors", "state.safetensors"
_META = "meta.json"
_LARGEST_META, _LARGEST_STATE = 100_000, 500_000_000
"""Bytes; a state is some kilobytes, and more the longer a simulated microscope is in use."""

_PARTIAL = ".partial"
_PACKAGES = ("stable-baselines3", "torch", "numpy", "gymnasium", "safetensors")
_MISFITS = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, SafetensorError,
            TypeError, ValueError)  # fmt: skip
"""Errors from damaged or foreign files, and from environments that are given foreign states."""


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged or of another kind; the message is one line."""


@dataclass(frozen=True, slots=True)
class _Meta:
    format: str
    version: int
    step: Annotated[int, Field(ge=0)]
    python: str
    packages: dict[str, str]
    sha256: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]


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
    state = to_bytes(
        {
            "model": model_state.get_state(model),
            "env": None if env_state is None else list(env_state),
            "monitors": _running_rewards(model.env),
            "extra": extra,
        }
    )
    path = directory / f"step_{model.num_timesteps:07d}"
    # Under another name until it is complete: a kill leaves nothing that looks like a checkpoint.
    partial = path.with_name(path.name + _PARTIAL)
    _remove(partial)
    partial.mkdir(parents=True)
    save_file(model_state.tensors(model), partial / MODEL)
    save_arrays(model.replay_buffer.arrays(), partial / REPLAY)
    (partial / STATE).write_bytes(state)
    _write_meta(partial, model.num_timesteps)
    _synchronise(partial)
    if path.exists():
        _remove(path)
    partial.rename(path)
    # The new name is durable only with its directory.
    _fsync(directory)
    _clean(directory)
    return path


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
    meta = _read_meta(path, (MODEL, REPLAY, STATE))
    try:
        kept, state = _read_state(path, meta)
        with safe_open(path / REPLAY, framework="np") as replay:
            model = model_state.build(state, load_file(path / MODEL), _Arrays(replay), env, device)
        if env is not None:
            _restore_env(model, kept)
        # Last: building the model has drawn from torch's generators.
        model_state.restore_torch(state)
    except MemoryError:
        raise CheckpointError(f"{path} needs more memory than there is") from None
    except _MISFITS as error:
        raise CheckpointError(
            f"{path} does not fit this program or env: {_one_line(error)}"
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
    meta = _read_meta(path, (MODEL, STATE))
    try:
        _, state = _read_state(path, meta)
        network = model_state.network(state, load_file(path / MODEL))
    except _MISFITS as error:
        raise CheckpointError(f"{path} does not fit this program: {_one_line(error)}") from error
    check_finite_output(
        network, network.pixels, lambda why: CheckpointError(f"{path} is of no use: {why}")
    )
    return network, meta.step


def latest_checkpoint(directory: Path) -> Path | None:
    """Find the newest complete checkpoint in the directory; None if there is none."""
    found = _checkpoints(directory)
    return found[-1] if found else None


def _checkpoints(directory: Path) -> list[Path]:
    found = [path for path in directory.glob("step_*") if path.name[5:].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def _clean(directory: Path) -> None:
    for path in _checkpoints(directory)[:-KEPT]:
        _remove(path)
    # Remains of kills in the middle of writing or deleting.
    for path in directory.glob(f"step_*{_PARTIAL}"):
        shutil.rmtree(path)


def _remove(path: Path) -> None:
    """Delete a checkpoint; renamed first, so that a kill half-way leaves none that looks whole."""
    if path.exists():
        doomed = path.with_name(path.name.removesuffix(_PARTIAL) + ".old" + _PARTIAL)
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed)


def _write_meta(directory: Path, step: int) -> None:
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "step": step,
        "python": platform.python_version(),
        "packages": {package: metadata.version(package) for package in _PACKAGES},
        "sha256": {file.name: _digest(file) for file in sorted(directory.iterdir())},
    }
    (directory / _META).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def _read_meta(path: Path, required: Collection[str]) -> _Meta:
    """Read ``meta.json`` and check the required files against their checksums."""
    try:
        meta = parse_json(_read(path / _META, _LARGEST_META))
    except OSError as error:
        raise CheckpointError(f"{path} is no checkpoint: cannot read {_META}: {error}") from error
    except (RecursionError, ValueError) as error:
        raise _damaged(path, f"{_META} is not JSON") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this project")
    # Before the fields: those of another version may differ.
    if (version := meta.get("version")) != VERSION:
        raise CheckpointError(
            f"{path} has checkpoint format {version!r}; this program reads {VERSION}"
        )
    try:
        known = restored(_Meta, meta)
    except ValueError as error:
        raise _damaged(path, f"{_META}: {error}") from error
    if known.sha256.keys() != {MODEL, REPLAY, STATE}:
        raise _damaged(path, f"{_META} has no checksum of each of its files")
    for name in required:
        try:
            intact = _digest(path / name) == known.sha256[name]
        except OSError as error:
            raise _damaged(path, f"cannot read {name}: {error}") from error
        if not intact:
            raise _damaged(path, f"{name} is not what was written")
    return known


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged: {why}; remove it to go on from the one before, if there is one"
    )


def _read_state(path: Path, meta: _Meta) -> tuple[_CheckpointState, model_state.ModelState]:
    kept = restored(_CheckpointState, from_bytes(_read(path / STATE, _LARGEST_STATE)))
    state = model_state.read_state(kept.model)
    if state.steps != meta.step:
        raise ValueError(f"it is of step {state.steps}, {_META} says {meta.step}")
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


def _read(path: Path, most: int) -> bytes:
    if not path.is_file():  # a pipe would never end
        raise OSError("it is not there, or no file")
    if path.stat().st_size > most:
        raise OSError(f"it has more than {most} bytes")
    return path.read_bytes()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _digest(path: Path) -> str:
    if not path.is_file():
        raise OSError("it is not there, or no file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _synchronise(directory: Path) -> None:
    for path in (*directory.iterdir(), directory):
        _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
