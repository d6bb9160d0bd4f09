"""Files of others that harm who opens them carelessly, and what refusing one looks like.

Every file has a right checksum unless the checksum is what is wrong: somebody who forges a file can
forge that, too.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.checkpoint import MODEL, REPLAY, STATE, latest_checkpoint
from spm_gym.plain_state import from_bytes, to_bytes

ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "configs" / "smoke.yaml")
PROGRESS = ("operation: ", "episodes: ")
MARKER = Path("the_foreign_file_has_run_code")

Tensors = dict[str, torch.Tensor]


class Bomb:
    """Makes the marker when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, (str(MARKER),)


PICKLE = pickle.dumps(Bomb())


def object_array() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, observations=np.array([Bomb()]))
    return buffer.getvalue()


def torch_file() -> bytes:
    buffer = io.BytesIO()
    torch.save({"q_net": Bomb()}, buffer)
    return buffer.getvalue()


def zip_of_zeros() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("data", bytes(50_000_000))
    return buffer.getvalue()


NO_SAFETENSORS = {
    "a pickle": PICKLE,
    "a file of torch": torch_file(),
    "arrays of objects": object_array(),
    "a zip of zeros": zip_of_zeros(),
    "a header of a petabyte": (2**50).to_bytes(8, "little") + b"{}",
    "nothing": b"",
}


def refused(capsys: pytest.CaptureFixture[str], status: int, *words: str) -> None:
    """The command has ended with one line that names these, and nothing foreign was run."""
    errors = capsys.readouterr().err.replace("\r", "\n").splitlines()
    (error,) = (line for line in errors if line and not line.startswith(PROGRESS))
    assert status == 2
    assert error.startswith("error: ")
    assert error.isprintable(), error
    assert len(error) < 1500
    for word in words:
        assert word in error
    assert not MARKER.exists()


def read_state(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = from_bytes((checkpoint / STATE).read_bytes())
    return state


def seal(checkpoint: Path, **changes: Any) -> None:
    """Write the checksums of what lies there now."""
    meta = json.loads((checkpoint / "meta.json").read_text())
    files = (MODEL, REPLAY, STATE)
    sums = {name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in files}
    (checkpoint / "meta.json").write_text(json.dumps(meta | {"sha256": sums} | changes))


def checkpoint_of(run: Path) -> Path:
    """The newest checkpoint of a copy of a run."""
    shutil.copytree(run, "run")
    newest = latest_checkpoint(Path("run", "checkpoints"))
    assert newest is not None
    return newest


def changed(state: Any, path: str, value: Any) -> Any:
    """The state with another value at a path of names and numbers."""
    name, _, rest = path.partition(".")
    key: Any = int(name) if isinstance(state, list) else name
    if not rest and value is KeyError:
        del state[key]
    else:
        state[key] = changed(state[key], rest, value) if rest else value
    return state


def forge(run: Path, place: str, value: Any) -> Path:
    """The newest checkpoint of a copy of a run, with another value in its state, sealed."""
    checkpoint = checkpoint_of(run)
    state = changed(read_state(checkpoint), place, value)
    (checkpoint / STATE).write_bytes(to_bytes(state))
    seal(checkpoint)
    return checkpoint


OF_A_MICROSCOPE: list[tuple[str, Any]] = [
    ("", None),
    ("seed", -1),
    ("seed", KeyError),
    ("bias", "1 V"),
    ("setpoint", float("inf")),
    ("unknown", 1),
    ("fate", {"bit_generator": "PCG64"}),
    ("noise", None),
    ("situation.time", float("nan")),
    ("situation.time", -1.0),
    ("situation.x", 1e300),
    ("situation.moved", (0.0, 0.0, float("nan"))),
    ("situation.moved", (0.0,)),
    ("situation.fault", "explosion"),
    ("situation.state.shape", 4),
    ("situation.probe", ()),
    ("situation.probe", (np.zeros((1, 3)), np.zeros((0, 4)), 0.0, 0.0, 1.0, 0.0, 1.0)),
    ("situation.probe", (np.ones((1, 4)), np.zeros((0, 4)), 0.0, 0.0, 1.0, 0.0, 1.0)),
    ("situation.area", ("a", "b")),
    ("surfaces", {}),
    ("surfaces.0.marks", np.zeros((1, 3))),
    ("surfaces.0.marks", np.full((1, 4), np.nan)),
    ("surfaces.0.taken", np.zeros(1)),
]


def first(tensors: Tensors, part: str) -> str:
    return next(name for name in tensors if part in name)


WRONG_TENSORS: dict[str, Callable[[Tensors], Tensors]] = {
    "none": lambda tensors: {},
    "one missing": lambda tensors: {
        name: value for name, value in tensors.items() if name != first(tensors, "q_net.q_net.")
    },
    "one more": lambda tensors: tensors | {"policy.q_net.q_net.more\x1b[2J": torch.zeros(1)},
    "of another type": lambda tensors: {name: value.double() for name, value in tensors.items()},
    "of another shape": lambda tensors: {name: value[None] for name, value in tensors.items()},
    "not a number": lambda tensors: {name: value * torch.nan for name, value in tensors.items()},
}
