"""Files of weights of others: they hold data and nothing else, or are refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from safetensors import safe_open

from spm_gym.assembly.shipped_weights import shipped_classifier
from spm_gym.cli import main
from tests.support.foreign import NO_SAFETENSORS, SMOKE, WRONG_TENSORS, refused

pytestmark = pytest.mark.usefixtures("fresh_folder")

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
        about_file = json.loads(file.metadata()["about"])
    weights = safetensors.torch.load_file(source)
    path = Path("a.safetensors")
    text = json.dumps(about(about_file))
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
