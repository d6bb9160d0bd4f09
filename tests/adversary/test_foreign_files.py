"""Files of others: no command runs what is in them, and each says in one line what is wrong.

Every file here has a right checksum unless the checksum is what is wrong: whoever forges a file can
forge that, too.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import safe_open

from agents.checkpoint import MODEL, REPLAY, STATE, latest_checkpoint
from spm_gym.assembly.build import shipped_classifier
from spm_gym.cli import evaluate, main, train
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of train.py, and beside it its weights."""
    run = tmp_path_factory.mktemp("trained") / "run"
    weights = str(run.parent / "a.safetensors")
    options = ["--steps", "60", "--run-dir", str(run), "--output", weights]
    assert train.main(["--config", SMOKE, *options]) == 0
    return run


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of spm-gym run."""
    run = tmp_path_factory.mktemp("operated") / "run"
    settings = ["operation.condition_after=2", "operation.learn=false", "agent.buffer_steps=100"]
    options = ["--scans", "12", "--run-dir", str(run), "--set", *settings]
    assert main(["run", *options, "simulator.tip_change_rate=0.5"]) == 0
    return run


@pytest.fixture(autouse=True)
def in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], status: int, *words: str) -> None:
    """The command has ended with one line that names these, and nothing foreign was run."""
    said = capsys.readouterr().err.replace("\r", "\n").splitlines()
    (error,) = (line for line in said if line and not line.startswith(PROGRESS))
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


@pytest.mark.parametrize("command", COMMANDS)
def test_checkpoints_of_older_development_versions_are_not_opened(
    trained: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of(trained)
    for name in ("model.zip", "state.pkl", "replay.npz"):
        (checkpoint / name).write_bytes(PICKLE)
    seal(checkpoint, version=1)
    refused(capsys, COMMANDS[command](checkpoint), "of an older development version")


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


def changed(state: Any, path: str, value: Any) -> Any:
    """The state with another value at a path of names and numbers."""
    name, _, rest = path.partition(".")
    key: Any = int(name) if isinstance(state, list) else name
    if not rest and value is KeyError:
        del state[key]
    else:
        state[key] = changed(state[key], rest, value) if rest else value
    return state


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
    checkpoint = checkpoint_of(trained)
    state = changed(read_state(checkpoint), place, value)
    (checkpoint / STATE).write_bytes(to_bytes(state))
    seal(checkpoint)
    refused(capsys, COMMANDS[command](checkpoint), "step_")


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
    checkpoint = checkpoint_of(trained)
    state = changed(read_state(checkpoint), place, value)
    (checkpoint / STATE).write_bytes(to_bytes(state))
    seal(checkpoint)
    refused(capsys, COMMANDS[command](checkpoint), "step_")


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
    ("env.0.last_act", 5),
    *((f"env.0.instrument.{place}".rstrip("."), value) for place, value in OF_A_MICROSCOPE),
]


@pytest.mark.parametrize(("place", "value"), OF_THE_ENVIRONMENT)
def test_wrong_values_of_an_environment_are_refused(
    trained: Path, place: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoint_of(trained)
    state = changed(read_state(checkpoint), place, value)
    (checkpoint / STATE).write_bytes(to_bytes(state))
    seal(checkpoint)
    refused(capsys, COMMANDS[RESUME](checkpoint), "step_")


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


# Files of weights

OF_WEIGHTS: dict[str, Callable[[Path], int]] = {
    "show": lambda path: main(["show", str(path), "-o", "picture.png"]),
    "run --agent": lambda path: main(
        ["run", "--config", SMOKE, "--agent", str(path), "--scans", "1", "--run-dir", "new"]
    ),
}


@pytest.mark.parametrize("command", OF_WEIGHTS)
@pytest.mark.parametrize("kind", NO_SAFETENSORS)
def test_other_kinds_of_files_are_no_weights(
    command: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("a.safetensors")
    path.write_bytes(NO_SAFETENSORS[kind])
    refused(capsys, OF_WEIGHTS[command](path), "a.safetensors")
    assert not Path("new").exists()


def rewritten(source: Path, about: Callable[[dict[str, Any]], Any], tensors: Any = None) -> Path:
    """A file of weights that says other things of itself, or holds others."""
    with safe_open(source, framework="pt") as file:
        told = json.loads(file.metadata()["about"])
    weights = safetensors.torch.load_file(source)
    path = Path("a.safetensors")
    text = json.dumps(about(told))
    safetensors.torch.save_file(tensors(weights) if tensors else weights, path, {"about": text})
    return path


WRONG_ABOUT: list[dict[str, Any]] = [
    {"format": 1},
    {"format": "\x1b[2J\nother"},
    {"network": 1},
    {"network": {"channels": [10**15]}},
    {"network": {"convolutions": 10**12}},
    {"network": {"chanels": [1]}},
    {"actions": 12},
    {"actions": [1, 2]},
    {"actions": ["a"] * 5},
    {"pixels": "many"},
    {"pixels": 10**30},
    {"pixels": -4},
    {"steps": "many"},
    {"steps": None},
]


@pytest.mark.parametrize("command", OF_WEIGHTS)
@pytest.mark.parametrize("changes", WRONG_ABOUT, ids=str)
def test_weights_that_say_odd_things_are_refused(
    trained: Path, command: str, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = rewritten(trained.parent / "a.safetensors", lambda about: about | changes)
    refused(capsys, OF_WEIGHTS[command](path), "a.safetensors")


def test_names_from_a_file_do_not_steer_the_terminal(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["\x1b[2J"] * 12
    path = rewritten(trained.parent / "a.safetensors", lambda about: about | {"actions": names})
    refused(capsys, OF_WEIGHTS["run --agent"](path), "has actions")


@pytest.mark.parametrize("command", OF_WEIGHTS)
@pytest.mark.parametrize("wrong", ["none", "of another type", "of another shape", "not a number"])
def test_wrong_tensors_are_no_weights(
    trained: Path, command: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rewritten(
        trained.parent / "a.safetensors", lambda about: about, WRONG_TENSORS[wrong]
    )  # fmt: skip
    refused(capsys, OF_WEIGHTS[command](path), "a.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "other"},
        {"network": {"channels": [10**15]}},
        {"network": {"convolutions": 10**12}},
        {"pixels": 10**30},
        {"summary": {"validation": {"auc": "high"}}},
        {"summary": {"validation": 3}},
        {"summary": {"history": [{"loss": "low"}]}},
        {"summary": {"training_images": "many"}},
    ],
    ids=str,
)
def test_classifiers_that_say_odd_things_are_refused(
    changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = rewritten(shipped_classifier(), lambda about: about | changes)
    refused(capsys, OF_WEIGHTS["show"](path), "a.safetensors")


def test_a_classifier_without_a_summary_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    path = rewritten(shipped_classifier(), lambda about: about | {"summary": "none"})
    refused(capsys, OF_WEIGHTS["show"](path), "summary")


# Journals


def with_journal(run: Path, statement: str, *values: Any) -> None:
    """A copy of a run with something else in its journal."""
    shutil.copytree(run, "run")
    with sqlite3.connect("run/journal.sqlite") as db:
        db.execute(statement, values)
    db.close()


def resume() -> int:
    return main(["run", "--resume", "--run-dir", "run", "--scans", "14"])


def test_without_harm_a_run_goes_on(operated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(operated, "run")
    assert resume() == 0, capsys.readouterr().err


@pytest.mark.parametrize("kind", NO_SAFETENSORS)
def test_a_journal_with_something_else_for_a_microscope(
    operated: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_journal(operated, "UPDATE state SET instrument = ?", NO_SAFETENSORS[kind])
    refused(capsys, resume(), "journal.sqlite", "older development version")


@pytest.mark.parametrize(("place", "value"), OF_A_MICROSCOPE)
def test_a_journal_with_wrong_values_of_a_microscope(
    operated: Path, place: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(operated / "journal.sqlite") as db:
        kept = from_bytes(db.execute("SELECT instrument FROM state").fetchone()[0])
    db.close()
    kept = changed(kept, place, value) if place else value
    with_journal(operated, "UPDATE state SET instrument = ?", to_bytes(kept))
    refused(capsys, resume(), "cannot go on from run")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE state SET instrument = 'text'",
        "UPDATE state SET instrument = NULL",
        "UPDATE state SET runner = x'80'",
        "UPDATE state SET runner = 'x'",
        "UPDATE state SET runner = '[]'",
        "UPDATE state SET runner = '{}'",
        "UPDATE state SET runner = json_set(runner, '$.state', 'explode')",
        "UPDATE state SET runner = json_set(runner, '$.clock.elapsed', 'long')",
        "UPDATE state SET runner = json_set(runner, '$.foreign', 1)",
        "UPDATE state SET runner = json_set(runner, '$.place.frame', json('[1, 2]'))",
        "UPDATE state SET runner = json_set(runner, '$.imaging.labels', json('{}'))",
        "UPDATE state SET runner = json_set(runner, '$.imaging.labels.good', json('[]'))",
        "UPDATE state SET runner = json_set(runner, '$.kept.rng', json('{}'))",
        "UPDATE state SET runner = json_set(runner, '$.kept.policy', json('{}'))",
        "UPDATE state SET runner = json_set(runner, '$.kept.policy', 3)",
        "UPDATE marks SET x = 'abc'",
        "UPDATE marks SET radius = 9e999",
    ],
)
def test_a_journal_with_wrong_values_of_a_run(
    operated: Path, statement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_journal(operated, statement)
    refused(capsys, resume(), "run")


@pytest.mark.parametrize("name", ["../outside.gsf", "{}/outside.gsf", "scans/../../outside.gsf"])
def test_a_journal_names_only_its_own_scans(
    operated: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = name.format(tmp_path)
    shutil.copyfile(operated / "scans" / "000001.gsf", tmp_path / "outside.gsf")
    with_journal(operated, "UPDATE scans SET file = ? WHERE id = 1", name)
    refused(capsys, main(["show", "run", "--scan", "1"]), "names", "as the file of a scan")


def test_a_run_whose_checkpoint_is_another_kind_of_run(
    trained: Path, operated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(operated, "run")
    shutil.rmtree("run/checkpoints")
    shutil.copytree(trained / "checkpoints", "run/checkpoints")
    refused(capsys, resume(), "no checkpoint of a run of spm-gym run")
