"""Directories of checkpoints: written whole or not at all, checked when they are read.

A checkpoint is a directory ``step_0001000`` of files in the format safetensors. ``meta.json`` has
format, kind, step, versions and a SHA-256 of each of them. It is written beside its place,
synchronised to the disk and renamed, so it is whole or absent.

All of it is data: a checkpoint from elsewhere may be nonsense, but no code in it is run.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from safetensors import SafetensorError

from spm_gym.config.json_file import parse_json
from spm_gym.plain_state import from_bytes, restored, to_bytes

Kind = Literal["double-dqn", "belief", "classifier"]
"""Kinds of agents, as ``agent.kind`` of the settings names them, and a network of a classifier."""

FORMAT = "spm-gym checkpoint"
VERSION = 3
# The one before the newest is there if the newest turns out damaged.
KEPT = 2
MODEL, REPLAY, STATE = "model.safetensors", "replay.safetensors", "state.safetensors"
_FILES: dict[Kind, frozenset[str]] = {
    "double-dqn": frozenset({MODEL, REPLAY, STATE}),
    "belief": frozenset({MODEL, STATE}),
    "classifier": frozenset({MODEL, STATE}),
}
_META = "meta.json"
_LARGEST_META, _LARGEST_STATE = 100_000, 500_000_000
"""Bytes; a state is some kilobytes, and more the longer a simulated microscope is in use."""

_PARTIAL = ".partial"
_PACKAGES = ("stable-baselines3", "torch", "numpy", "gymnasium", "safetensors")
MISFITS = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, SafetensorError,
           TypeError, ValueError)  # fmt: skip
"""Errors from damaged or foreign files, and from environments that are given foreign states."""


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged or of another kind; the message is one line."""


@dataclass(frozen=True, slots=True)
class Meta:
    """Content of ``meta.json``."""

    format: str
    version: int
    kind: Kind
    step: Annotated[int, Field(ge=0)]
    python: str
    packages: dict[str, str]
    sha256: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]


def write_checkpoint(
    directory: Path, kind: Kind, step: int, state: Any, write: Callable[[Path], None]
) -> Path:
    """Write a checkpoint, then remove all but the newest two and remains of unfinished ones.

    Args:
        directory: Directory of all checkpoints of the run.
        kind: Of the agent, or a classifier's network.
        step: Environment steps done, or epochs.
        state: Everything that is not in the other files, as `spm_gym.plain_state` takes it.
        write: Writes the other files of this kind into the directory that it is given.

    Returns:
        Path of the checkpoint.

    Raises:
        StateError: The state holds more than data.
    """
    content = to_bytes(state)
    path = directory / f"step_{step:07d}"
    # Under another name until it is complete: a kill leaves nothing that looks like a checkpoint.
    partial = path.with_name(path.name + _PARTIAL)
    remove_whole(partial)
    partial.mkdir(parents=True)
    write(partial)
    (partial / STATE).write_bytes(content)
    _write_meta(partial, kind, step)
    _synchronise(partial)
    if path.exists():
        remove_whole(path)
    partial.rename(path)
    # The new name is durable only with its directory.
    _fsync(directory)
    _clean(directory)
    return path


def read_state(path: Path) -> Any:
    """Read the state of a checkpoint that was checked before.

    Raises:
        OSError: It cannot be read.
        StateError: It is something else.
    """
    return from_bytes(_read(path / STATE, _LARGEST_STATE))


def kind_of(path: Path) -> Kind:
    """Find out of which kind a checkpoint is.

    Raises:
        CheckpointError: It is missing, damaged or foreign.
    """
    return _read_meta(path).kind


def check(path: Path, kind: Kind, without: frozenset[str] = frozenset()) -> Meta:
    """Read ``meta.json``, and check the files against their checksums.

    Args:
        path: Of the checkpoint.
        kind: That it is to be of.
        without: Files that are not needed.

    Raises:
        CheckpointError: It is missing, damaged, foreign, or of another kind.
    """
    known = _read_meta(path)
    if known.kind != kind:
        raise CheckpointError(f"{path} is a checkpoint of a {known.kind}, not of a {kind}")
    for name in sorted(_FILES[kind] - without):
        try:
            intact = _digest(path / name) == known.sha256[name]
        except OSError as error:
            raise _damaged(path, f"cannot read {name}: {error}") from error
        if not intact:
            raise _damaged(path, f"{name} is not what was written")
    return known


def latest_checkpoint(directory: Path) -> Path | None:
    """Find the newest complete checkpoint in the directory; None if there is none."""
    found = _checkpoints(directory)
    return found[-1] if found else None


def remove_whole(path: Path) -> None:
    """Delete a folder; renamed first, so that a kill half-way leaves none that looks whole."""
    doomed = path.with_name(path.name.removesuffix(_PARTIAL) + ".old" + _PARTIAL)
    shutil.rmtree(doomed, ignore_errors=True)
    if path.exists():
        path.rename(doomed)
        shutil.rmtree(doomed)


def _checkpoints(directory: Path) -> list[Path]:
    found = [path for path in directory.glob("step_*") if path.name[5:].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def _clean(directory: Path) -> None:
    for path in _checkpoints(directory)[:-KEPT]:
        remove_whole(path)
    # Remains of kills in the middle of writing or deleting.
    for path in directory.glob(f"step_*{_PARTIAL}"):
        shutil.rmtree(path)


def _write_meta(directory: Path, kind: Kind, step: int) -> None:
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "step": step,
        "python": platform.python_version(),
        "packages": {package: metadata.version(package) for package in _PACKAGES},
        "sha256": {file.name: _digest(file) for file in sorted(directory.iterdir())},
    }
    (directory / _META).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def _read_meta(path: Path) -> Meta:
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
        known = restored(Meta, meta)
    except ValueError as error:
        raise _damaged(path, f"{_META}: {error}") from error
    if known.sha256.keys() != _FILES[known.kind]:
        raise _damaged(path, f"{_META} has no checksum of each of its files")
    return known


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged: {why}; remove it to go on from the one before, if there is one"
    )


def _read(path: Path, most: int) -> bytes:
    if not path.is_file():  # a pipe would never end
        raise OSError("it is not there, or no file")
    if path.stat().st_size > most:
        raise OSError(f"it has more than {most} bytes")
    return path.read_bytes()


def _digest(path: Path) -> str:
    if not path.is_file():
        raise OSError("it is not there, or no file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _synchronise(directory: Path) -> None:
    for path in (*directory.iterdir(), directory):
        _fsync(path)


def _fsync(path: Path) -> None:
    if sys.platform == "win32":
        return  # it opens no folders, and writes out only what is open for writing
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
