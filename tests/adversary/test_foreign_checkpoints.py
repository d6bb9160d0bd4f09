"""Checkpoints of others: no command runs what is in them, and each error names what is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from agents.checkpoint import MODEL, REPLAY, STATE
from spm_gym.cli import evaluate, main, train
from tests.support.foreign import (
    NO_SAFETENSORS,
    OF_A_MICROSCOPE,
    WRONG_TENSORS,
    checkpoint_of,
    forge,
    refused,
    seal,
)

pytestmark = pytest.mark.usefixtures("fresh_folder")

SHOW, EVALUATE, RUN, RESUME = "show", "evaluate.py", "run --agent", "train.py --resume"
COMMANDS: dict[str, Callable[[Path], int]] = {
    SHOW: lambda checkpoint: main(["show", str(checkpoint), "-o", "picture.png"]),
    EVALUATE: lambda checkpoint: evaluate.main(
        ["--checkpoint", str(checkpoint), "--policies", "agent", "--episodes", "1"]
    ),
    "evaluate.py --run": lambda checkpoint: evaluate.main(
        ["--run", str(checkpoint.parent.parent), "--policies", "agent", "--episodes", "1"]
    ),
    RUN: lambda checkpoint: main(
        ["run", "--agent", str(checkpoint), "--scans", "1", "--run-dir", "new"]
    ),
    RESUME: lambda checkpoint: train.main(["--resume", "--run-dir", str(checkpoint.parent.parent)]),
}
ACTING = [command for command in COMMANDS if command != SHOW]
LOADING = (SHOW, EVALUATE, RESUME)
"""One for each way in which a checkpoint is read: its network, without and with environment."""


@pytest.mark.parametrize("command", COMMANDS)
def test_without_harm_every_command_works(
    trained: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise the tests below would show nothing."""
    assert COMMANDS[command](checkpoint_of(trained)) == 0, capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", NO_SAFETENSORS)
@pytest.mark.parametrize("name", [MODEL, STATE])
def test_other_kinds_of_files_are_refused(
    trained: Path, command: str, kind: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of(trained)
    (checkpoint / name).write_bytes(NO_SAFETENSORS[kind])
    seal(checkpoint)
    refused(capsys, COMMANDS[command](checkpoint), "run/checkpoints/step_")


@pytest.mark.parametrize("command", ACTING)
@pytest.mark.parametrize("kind", NO_SAFETENSORS)
def test_other_kinds_of_replay_buffers_are_refused(
    trained: Path, command: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of(trained)
    (checkpoint / REPLAY).write_bytes(NO_SAFETENSORS[kind])
    seal(checkpoint)
    refused(capsys, COMMANDS[command](checkpoint), "run/checkpoints/step_")


FORGED_SUMS: dict[str, Callable[[dict[str, str]], Any]] = {
    "none": lambda sums: {},
    "null": lambda sums: None,
    "a list": lambda sums: list(sums),
    "one missing": lambda sums: {name: sums[name] for name in (MODEL, REPLAY)},
    "one more": lambda sums: sums | {"state.pkl": "0" * 64},
    "elsewhere": lambda sums: {f"../step_0000000/{name}": sums[name] for name in sums},
    "absolute": lambda sums: {f"/dev/{name}": sums[name] for name in sums},
    "empty": lambda sums: dict.fromkeys(sums, ""),
    "short": lambda sums: {name: sums[name][:63] for name in sums},
    "with a line end": lambda sums: {name: sums[name] + "\n" for name in sums},
    "no text": lambda sums: dict.fromkeys(sums, True),
    "of others": lambda sums: dict.fromkeys(sums, "0" * 64),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("forged", FORGED_SUMS)
def test_checksums_that_check_nothing_are_refused(
    trained: Path, command: str, forged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of(trained)
    sums = json.loads((checkpoint / "meta.json").read_text())["sha256"]
    seal(checkpoint, sha256=FORGED_SUMS[forged](sums))
    refused(capsys, COMMANDS[command](checkpoint), "damaged")


METAS = {
    "no JSON": "{",
    "a number": "1e999",
    "nested": "[" * 50_000,
    "large": " " * 200_000,
    "foreign": '{"format": "other"}',
    "later": '{"format": "spm-gym checkpoint", "version": 99}',
    "odd": '{"format": "spm-gym checkpoint", "version": [1]}',
    "bare": '{"format": "spm-gym checkpoint", "version": 2}',
}


@pytest.mark.parametrize("command", LOADING)
@pytest.mark.parametrize("kind", METAS)
def test_other_descriptions_are_refused(
    trained: Path, command: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of(trained)
    (checkpoint / "meta.json").write_text(METAS[kind])
    refused(capsys, COMMANDS[command](checkpoint))


def test_a_pipe_is_not_waited_for(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = checkpoint_of(trained)
    (checkpoint / MODEL).unlink()
    os.mkfifo(checkpoint / MODEL)
    refused(capsys, COMMANDS[SHOW](checkpoint), MODEL)


OF_THE_MODEL: list[tuple[str, Any]] = [
    ("model", None),
    ("model.steps", -1),
    ("model.steps", "many"),
    ("model.steps", 10**30),
    ("model.updates", KeyError),
    ("model.actions", 0),
    ("model.actions", 10**12),
    ("model.actions", 11),
    ("model.seed", -3),
    ("model.low", np.zeros((1, 8, 8), np.float32)),
    ("model.low", np.zeros((1, 10**6, 0), np.float32)),
    ("model.low", "x"),
    ("model.config", {"stepz": 1}),
    ("model.config.network.channels", []),
    ("model.config.network.channels", [10**15]),
    ("model.config.network.convolutions", 10**12),
    ("model.config.network.pooled_sets", 0),
    ("model.config.device", 3),
    ("model.learning_rate", float("nan")),
    ("model.epsilon", 3.0),
    ("model.recent", [{"r": "\x1b[2J"}]),
    ("model.foreign\x1b[2J\nname", 1),
    ("extra", []),
    ("monitors", [["x"]]),
    ("env", {}),
]


@pytest.mark.parametrize("command", LOADING)
@pytest.mark.parametrize(("place", "value"), OF_THE_MODEL)
def test_wrong_values_of_a_model_are_refused(
    trained: Path, command: str, place: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, COMMANDS[command](forge(trained, place, value)), "step_")


OF_LEARNING: list[tuple[str, Any]] = [
    ("model.seed", 2**70),
    ("model.exploring", {}),
    ("model.exploring.state.state", -1),
    ("model.replay.pos", 10**9),
    ("model.replay.full", 7),
    ("model.replay.buffer_size", 3),
    ("model.replay.rng", {"bit_generator": "MT19937"}),
    ("model.config.buffer_steps", 10**15),
    ("model.config.batch_size", -1),
    ("model.torch", np.zeros(3, np.uint8)),
    ("model.torch", np.zeros(5056, np.float32)),
]


@pytest.mark.parametrize("command", LOADING[1:])
@pytest.mark.parametrize(("place", "value"), OF_LEARNING)
def test_wrong_values_to_learn_on_from_are_refused(
    trained: Path, command: str, place: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, COMMANDS[command](forge(trained, place, value)), "step_")


OF_THE_ENVIRONMENT: list[tuple[str, Any]] = [
    ("env.0", {}),
    ("env.0", {"rng": 1, "mid_episode": True}),
    ("env.0.rng.state.inc", "x"),
    ("env.0.marks", [{"x": "a", "y": 0.0, "radius": 0.0, "reason": ""}]),
    ("env.0.area", -1),
    ("env.0.processed", None),
    ("env.0.processed.observation", np.zeros((1, 8, 8), np.float32)),
    ("env.0.processed.observation", np.full((1, 64, 64), np.nan, np.float32)),
    ("env.0.processed.mask", np.ones(11, np.bool_)),
    ("env.0.processed.mask", np.ones(12)),
    ("env.0.processed.square", (1,)),
    ("env.0.processed.scan.frame.pixels", 10**9),
    ("env.0.chosen", 12),
    ("env.0.instrument_time.reset_actions", -1),
    ("env.0.instrument_time", None),
    ("env.0.last_act", 5),
    *((f"env.0.instrument.{place}".rstrip("."), value) for place, value in OF_A_MICROSCOPE),
]


@pytest.mark.parametrize(("place", "value"), OF_THE_ENVIRONMENT)
def test_wrong_values_of_an_environment_are_refused(
    trained: Path, place: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, COMMANDS[RESUME](forge(trained, place, value)), "step_")


@pytest.mark.parametrize("command", LOADING)
@pytest.mark.parametrize("wrong", WRONG_TENSORS)
def test_wrong_weights_are_refused(
    trained: Path, command: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of(trained)
    tensors = WRONG_TENSORS[wrong](safetensors.torch.load_file(checkpoint / MODEL))
    safetensors.torch.save_file(tensors, checkpoint / MODEL)
    seal(checkpoint)
    refused(capsys, COMMANDS[command](checkpoint), "step_")


WRONG_MOMENTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "not a number": lambda value: value * torch.nan,
    "negative": lambda value: -value - 1,
    "of another shape": lambda value: value[None],
    "of another type": lambda value: value.double(),
}


@pytest.mark.parametrize("wrong", WRONG_MOMENTS)
def test_wrong_moments_of_the_optimiser_are_refused(
    trained: Path, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of(trained)
    tensors = safetensors.torch.load_file(checkpoint / MODEL)
    tensors = {
        name: WRONG_MOMENTS[wrong](value) if name.endswith("exp_avg_sq") else value
        for name, value in tensors.items()
    }
    safetensors.torch.save_file(tensors, checkpoint / MODEL)
    seal(checkpoint)
    refused(capsys, COMMANDS[RESUME](checkpoint), "moment")


@pytest.mark.parametrize("name", ["observations", "rewards", "actions", "next_masks"])
@pytest.mark.parametrize("wrong", ["missing", "empty", "of another type"])
def test_wrong_replay_buffers_are_refused(
    trained: Path, name: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of(trained)
    arrays = safetensors.numpy.load_file(checkpoint / REPLAY)
    if wrong == "missing":
        del arrays[name]
    else:
        arrays[name] = arrays[name][:0] if wrong == "empty" else arrays[name].astype(np.float64)
    safetensors.numpy.save_file(arrays, checkpoint / REPLAY)
    seal(checkpoint)
    refused(capsys, COMMANDS[RESUME](checkpoint), name)
