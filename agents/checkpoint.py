"""Checkpoints: everything needed to continue as if the run had never stopped.

A checkpoint is a directory ``step_0001000`` with ``model.zip`` (stable-baselines3: networks,
optimiser, counters), ``replay.npz``, ``state.pkl`` (environment, random generators, whatever else
the run keeps) and ``meta.json`` (format, step, versions, a SHA-256 of each other file). It is
written beside its place, synchronised to the disk and renamed, so it is whole or absent.

Model and state are pickles: load only checkpoints that you trust.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from agents.double_dqn import DoubleDQN
from spm_gym.config.json_file import read_json

FORMAT = "spm-gym checkpoint"
VERSION = 1
KEPT = 2
_PARTIAL = ".partial"
_PACKAGES = ("stable-baselines3", "torch", "numpy", "gymnasium")


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged or of another kind; the message is one line."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What `load_checkpoint` gives.

    Attributes:
        path: Directory it was read from.
        step: Environment steps done.
        model: The agent, ready for ``learn(remaining, reset_num_timesteps=False)``.
        env_state: What `save_checkpoint` was given.
        extra: What `save_checkpoint` was given.
    """

    path: Path
    step: int
    model: DoubleDQN
    env_state: Sequence[Any] | None
    extra: dict[str, Any]


def save_checkpoint(
    directory: Path, model: DoubleDQN, env_state: Sequence[Any] | None, extra: dict[str, Any]
) -> Path:
    """Write a checkpoint, then remove all but the newest two and what kills have left behind.

    Call it where nothing is under way: from ``_on_rollout_start`` of a callback, or outside
    `learn`. Gradient steps that are due are done first.

    Args:
        directory: Where all checkpoints of the run are.
        model: The agent.
        env_state: The state of every environment, as its ``get_state()`` gives it; None if there
            is none. Without it, or where ``mid_episode`` in it is false, as with a real
            microscope, learning goes on with a new episode.
        extra: Anything else that the run needs to continue; picklable.

    Returns:
        Path of the checkpoint.
    """
    path = directory / f"step_{model.num_timesteps:07d}"
    partial = path.with_name(path.name + _PARTIAL)
    _remove(partial)
    partial.mkdir(parents=True)
    model.save(partial / "model.zip")  # first: waits for the learning thread
    np.savez(partial / "replay.npz", **model.replay_buffer.get_state())  # type: ignore[arg-type]
    state = {"env": env_state, "monitors": _running_rewards(model.env), "extra": extra}
    (partial / "state.pkl").write_bytes(pickle.dumps(state | _torch_generators()))
    _write_meta(partial, model.num_timesteps)
    _synchronise(partial)
    if path.exists():
        _remove(path)
    partial.rename(path)
    _fsync(directory)
    _clean(directory)
    return path


def load_checkpoint(
    path: Path, env: GymEnv | None = None, device: torch.device | str = "auto"
) -> Checkpoint:
    """Read a checkpoint; unless learning is parallel, training goes on bit for bit.

    Args:
        path: A directory that `save_checkpoint` wrote. It must be trusted.
        env: The environment to go on in: reset, then put into the stored state, if there is one.
        device: A torch device.

    Raises:
        CheckpointError: It is missing, damaged or foreign, or belongs to another environment.
    """
    meta = _read_meta(path)
    try:
        state = pickle.loads((path / "state.pkl").read_bytes())
        model = DoubleDQN.load(path / "model.zip", env, device, force_reset=False)
        with np.load(path / "replay.npz") as replay:
            model.replay_buffer.set_state(replay)
    except (ValueError, AttributeError, ImportError) as error:
        raise CheckpointError(f"{path} does not fit this program or env: {error}") from error
    if env is not None:
        _restore_env(model, state)
    _restore_torch_generators(state)
    return Checkpoint(path, meta["step"], model, state["env"], state["extra"])


def latest_checkpoint(directory: Path) -> Path | None:
    """The newest complete checkpoint in the directory, None if there is none."""
    found = _checkpoints(directory)
    return found[-1] if found else None


def _checkpoints(directory: Path) -> list[Path]:
    found = [path for path in directory.glob("step_*") if path.name[5:].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def _clean(directory: Path) -> None:
    for path in _checkpoints(directory)[:-KEPT]:
        _remove(path)
    for path in directory.glob(f"step_*{_PARTIAL}"):
        shutil.rmtree(path)


def _remove(path: Path) -> None:
    """Delete a checkpoint so that a kill half-way leaves nothing that looks complete."""
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
    (directory / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def _read_meta(path: Path) -> dict[str, Any]:
    """Check the checkpoint before anything in it is unpickled."""
    try:
        meta = read_json(path / "meta.json")
    except OSError as error:
        raise CheckpointError(f"{path} is no checkpoint: cannot read meta.json: {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: meta.json is not JSON") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this project")
    if meta.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has checkpoint format {meta.get('version')}, this program reads {VERSION}"
        )
    if not isinstance(meta.get("sha256"), dict) or not isinstance(meta.get("step"), int):
        raise CheckpointError(f"{path} is damaged: meta.json lacks sha256 or step")
    for name, digest in meta["sha256"].items():
        try:
            intact = _digest(path / name) == digest
        except OSError as error:
            raise CheckpointError(f"{path} is damaged: cannot read {name}: {error}") from error
        if not intact:
            raise CheckpointError(f"{path} is damaged: {name} is not what was written")
    return meta


def _digest(path: Path) -> str:
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


def _torch_generators() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def _restore_torch_generators(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def _restore_env(model: DoubleDQN, state: dict[str, Any]) -> None:
    states = state["env"] or []
    goes_on = bool(states) and all(kept.get("mid_episode", True) for kept in states)
    if not goes_on:
        model._last_obs = None  # the library then resets the environment when learning begins
    assert model.env is not None
    if goes_on:
        model.env.reset()  # wrappers refuse to step before a reset
    for index, env_state in enumerate(states):
        model.env.env_method("set_state", env_state, indices=[index])
    if not goes_on:
        return
    for monitor, rewards in zip(_monitors(model.env), state["monitors"], strict=True):
        monitor.rewards = rewards


def _running_rewards(env: VecEnv | None) -> list[list[float]]:
    return [monitor.rewards for monitor in _monitors(env)]


def _monitors(env: VecEnv | None) -> list[Monitor]:
    if not isinstance(env, DummyVecEnv):
        return []
    found = [unwrap_wrapper(single, Monitor) for single in env.envs]
    return [monitor for monitor in found if isinstance(monitor, Monitor)]
